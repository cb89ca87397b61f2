// The real coordination sessions.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "service/seams.h"

namespace datom::coordination {
class MemoryTree;
}

namespace datom::service {

// `servers` as CoordinationUrl::target has it. Starts connecting; throws Error{invalid_argument}.
std::shared_ptr<Session> open_zookeeper_session(const std::string& servers,
                                                std::chrono::milliseconds timeout);

// `tree` must outlive it.
std::shared_ptr<Session> open_memory_session(coordination::MemoryTree& tree);

}  // namespace datom::service

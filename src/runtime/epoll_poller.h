// Waiting by epoll, where the kernel refuses io_uring: a system call for each read and write.
#pragma once

#include <memory>

#include "runtime/poller.h"

namespace datom::runtime {

std::unique_ptr<Poller> make_epoll_poller();

}  // namespace datom::runtime

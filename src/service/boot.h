// Steps that the services have in common.
#pragma once

#include <atomic>
#include <exception>
#include <memory>
#include <string>

#include "runtime/task.h"
#include "service/seams.h"
#include "service/settings.h"

namespace datom::service {

// Runs one step of the boot; an error says which one it was: "boot step WHAT: WHY".
runtime::Task<void> step(std::string what, runtime::Task<void> task);

// Reads and checks ROOT/node.json, and what the flags make of it.
runtime::Task<ServiceSettings> read_settings(runtime::Filesystem& files, ServiceOptions options,
                                             protocol::ServiceType type);

// The locks that keep a second service of this name off the root, and off the data.
std::vector<Lock> lock_root(const Seams& seams, const ServiceSettings& settings);

// ROOT/run/SERVICE.pid, while the service holds its locks.
runtime::Task<void> write_pid(runtime::Filesystem& files, ServiceSettings settings,
                              std::int64_t pid);
runtime::Task<void> remove_pid(runtime::Filesystem& files, ServiceSettings settings);

// A session that is connected, with the timeout that the domain's properties say. Throws
// Error{timeout} naming the servers after half a minute, Error{closed} once `interrupted`.
runtime::Task<std::shared_ptr<Session>> connect_session(Seams seams, ServiceSettings settings,
                                                        const std::atomic<bool>& interrupted);

// What operators want to know of a session.
void log_session(const telemetry::Log& log, coordination::SessionState state);

// The end of a background task that should not have failed.
void log_task_error(const telemetry::Log& log, std::exception_ptr error);

// A new uuid, as text.
std::string new_epoch(runtime::Random& random);

}  // namespace datom::service

#include "service/boot.h"

#include <algorithm>

#include "common/error.h"
#include "common/uuid.h"

namespace datom::service {

using runtime::Task;

Task<void> step(std::string what, Task<void> task) {
  try {
    co_await std::move(task);
  } catch (const Error& error) {
    throw Error(error.code(), "boot step '{}': {}", what, error.what());
  }
}

Task<ServiceSettings> read_settings(runtime::Filesystem& files, ServiceOptions options,
                                    protocol::ServiceType type) {
  const NodeFile node = co_await read_node_file(files, options.root);
  co_return settle(node, options, type);
}

std::vector<Lock> lock_root(const Seams& seams, const ServiceSettings& settings) {
  const std::string& name = settings.service.name;
  std::vector<Lock> locks;
  locks.push_back(seams.lock(lock_path(settings.root, name),
                             fmt::format("service '{}' of root {}", name, settings.root)));
  if (settings.service.type == protocol::ServiceType::volume_server) {
    const std::string data = data_path(settings.root, name);
    locks.push_back(seams.lock(data + "/lock", fmt::format("the volume data in {}", data)));
  }
  return locks;
}

Task<void> write_pid(runtime::Filesystem& files, ServiceSettings settings, std::int64_t pid) {
  co_await files.make_directories(settings.root + "/run");
  co_await runtime::write_file(files, pid_path(settings.root, settings.service.name),
                               fmt::format("{}\n", pid));
}

Task<void> remove_pid(runtime::Filesystem& files, ServiceSettings settings) {
  const std::string path = pid_path(settings.root, settings.service.name);
  const bool there = co_await files.exists(path);
  if (there) co_await files.remove(path);
}

Task<void> wait_connected(Session& session, runtime::Loop& loop, runtime::Duration patience,
                          const std::atomic<bool>& interrupted) {
  constexpr runtime::Duration kSlice = std::chrono::milliseconds(500);
  const runtime::Time deadline = loop.now() + patience;
  while (true) {
    std::optional<Error> failure;
    try {
      const runtime::Duration left = deadline - loop.now();
      co_await session.wait_connected(loop, std::clamp(left, runtime::Duration(1), kSlice));
      co_return;
    } catch (const Error& error) {
      failure = error;
    }
    if (interrupted) throw Error(Code::closed, "stopped while it waited for coordination");
    if (failure->code() != Code::timeout || loop.now() >= deadline) throw Error(*failure);
  }
}

std::string new_epoch(runtime::Random& random) {
  const std::uint64_t high = random.next();
  return Uuid::from_random(high, random.next()).to_string();
}

}  // namespace datom::service

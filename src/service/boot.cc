#include "service/boot.h"

#include <exception>
#include <optional>

#include "common/error.h"
#include "common/uuid.h"
#include "properties/known.h"

namespace datom::service {

using runtime::Task;

namespace {

constexpr runtime::Duration kPatience = std::chrono::seconds(30);
constexpr const properties::DurationProperty& kSessionTimeout =
    properties::kCoordinationSessionTimeout;

Task<void> wait_connected(Session& session, runtime::Loop& loop,
                          const std::atomic<bool>& interrupted) {
  constexpr runtime::Duration kSlice = std::chrono::milliseconds(500);
  const runtime::Time deadline = loop.now() + kPatience;
  while (true) {
    std::optional<Error> failure;
    try {
      co_await session.wait_connected(loop, kSlice);
      co_return;
    } catch (const Error& error) {
      failure = error;
    }
    if (interrupted) throw Error(Code::closed, "stopped while it waited for coordination");
    if (failure->code() != Code::timeout || loop.now() >= deadline) throw Error(*failure);
  }
}

// The default where the property is not set, or malformed.
Task<std::chrono::milliseconds> session_timeout(Session& session, runtime::Loop& loop,
                                                std::string domain) {
  std::chrono::milliseconds timeout(kSessionTimeout.default_value);
  const std::unique_ptr<coordination::Client> client = session.make_client(loop);
  const std::optional<coordination::Node> node =
      co_await client->get(protocol::paths::property(domain, kSessionTimeout.name));
  try {
    if (node) {
      const std::string value = protocol::PropertyRecord::from_json(node->data).value;
      timeout = std::chrono::milliseconds(properties::validate(kSessionTimeout.name, value));
    }
  } catch (const Error&) {  // whoever caches properties warns of it
  }
  co_return timeout;
}

}  // namespace

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

Task<std::shared_ptr<Session>> connect_session(Seams seams, ServiceSettings settings,
                                               const std::atomic<bool>& interrupted) {
  const auto usual = std::chrono::milliseconds(kSessionTimeout.default_value);
  std::shared_ptr<Session> session = seams.open_session(settings.coordination, usual);
  std::exception_ptr failure;
  std::chrono::milliseconds wanted = usual;
  try {
    co_await wait_connected(*session, *seams.loops[0].loop, interrupted);
    wanted = co_await session_timeout(*session, *seams.loops[0].loop, settings.node.domain);
    if (wanted != usual) {
      co_await session->close(*seams.loops[0].loop);
      session = seams.open_session(settings.coordination, wanted);
      co_await wait_connected(*session, *seams.loops[0].loop, interrupted);
    }
  } catch (...) {
    failure = std::current_exception();
  }
  if (!failure) co_return session;
  co_await session->close(*seams.loops[0].loop);
  std::rethrow_exception(failure);
}

void log_session(const telemetry::Log& log, coordination::SessionState state) {
  switch (state) {
    case coordination::SessionState::connecting:
      log.warn("coordination.disconnected", {}, "the service goes on, and tries to connect");
      break;
    case coordination::SessionState::connected:
      log.info("coordination.connected", {});
      break;
    case coordination::SessionState::expired:
      log.warn("coordination.expired", {}, "opening another session");
      break;
  }
}

void log_task_error(const telemetry::Log& log, std::exception_ptr error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& why) {
    log.error("service.task", {{"error", why.what()}});
  }
}

std::string new_epoch(runtime::Random& random) {
  const std::uint64_t high = random.next();
  return Uuid::from_random(high, random.next()).to_string();
}

}  // namespace datom::service

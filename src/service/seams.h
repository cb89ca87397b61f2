// What a service of this process stands on. `programs` fills it with real loops, sockets, files and
// ZooKeeper; simulations with theirs: both boot the same services.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "coordination/client.h"
#include "runtime/file.h"
#include "runtime/loop.h"
#include "runtime/network.h"
#include "runtime/task.h"
#include "service/coordination_url.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace datom::service {

// One loop and what belongs to it.
struct LoopSeams {
  runtime::Loop* loop = nullptr;
  runtime::Network* network = nullptr;
  runtime::Filesystem* files = nullptr;
  runtime::Random* random = nullptr;
};

// One coordination session, shared by the loops of a service. Thread-safe.
class Session {
 public:
  virtual ~Session() = default;
  // Error{timeout} naming what it connects to. On `loop`.
  virtual runtime::Task<void> wait_connected(runtime::Loop& loop, runtime::Duration timeout) = 0;
  // A client on `loop`. Clients go before the session ends.
  virtual std::unique_ptr<coordination::Client> make_client(runtime::Loop& loop) = 0;
  // The orderly end: ephemeral nodes vanish at once. Idempotent. On `loop`, which goes on
  // meanwhile.
  virtual runtime::Task<void> close(runtime::Loop& loop) = 0;
};

// Held while something is in use; see FileLock.
using Lock = std::shared_ptr<void>;

struct Seams {
  std::vector<LoopSeams> loops;  // at least one; loops[0] does what is not per volume
  // Starts connecting; ephemeral nodes vanish when nothing was heard of the session for `timeout`.
  std::function<std::shared_ptr<Session>(const CoordinationUrl& url,
                                         std::chrono::milliseconds timeout)>
      open_session;
  // Takes the lock file at a path; `what` is what it guards. Throws Error{already_exists}.
  std::function<Lock(const std::string& path, const std::string& what)> lock;
  std::int64_t pid = 0;            // published
  std::uint64_t memory_bytes = 0;  // of the machine, as far as this service may use it; 0: unknown
  telemetry::Metrics* metrics = nullptr;
  telemetry::Log log = telemetry::Log::silent();
};

// A service from its first step to its last. Belongs to loops[0]; everything it is given outlives
// it.
class Service {
 public:
  virtual ~Service() = default;

  // Boots, in the order of the design; up when it returns. Throws Error whose message says which
  // step failed and why; stop() then undoes the steps that were done.
  virtual runtime::Task<void> start() = 0;
  // Makes a start() under way end soon.
  virtual void interrupt() = 0;
  // The steps backwards. Once; before destruction.
  virtual runtime::Task<void> stop() = 0;
};

}  // namespace datom::service

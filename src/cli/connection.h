// How a command reaches the domain: through coordination, or straight to a config service.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "cli/context.h"
#include "coordination/client.h"
#include "runtime/event_loop.h"
#include "service/coordination_url.h"

namespace datom::cli {

// Where the domain is, as options and ROOT/node.json say.
struct Target {
  service::CoordinationUrl coordination;
  std::string domain;
};

// Options win over ROOT/node.json. Throws Error{invalid_argument} where neither says anything,
// Error{corrupt} for a broken node.json.
Target find_target(const GlobalOptions& options);

// The address of `host_and_port`, host names resolved. Throws Error{unavailable}.
std::string resolve(const std::string& host_and_port);

// Calls block the calling thread; they run on a loop of the connection's own.
class Connection {
 public:
  explicit Connection(Target target);
  ~Connection();

  // What the config service answers to an encoded request (protocol/config.proto). Throws as
  // rpc::Caller::call; where none can be reached, the message says what to do.
  std::string ask(std::uint16_t method, std::string request, runtime::Duration timeout);

  // Whether a config service is registered as active now.
  bool config_service_is_up();
  // For what is done before a config service runs. Throws Error{unavailable} where the target is a
  // config service. Tasks on it are run with run().
  coordination::Client& coordination();
  void run(runtime::Task<void> task);
  runtime::EventLoop& loop();

  const Target& target() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace datom::cli

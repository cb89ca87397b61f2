// `datom dev`: a whole domain in one process, on the loopback interface, with coordination in
// memory. What it keeps survives a restart.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "service/seams.h"
#include "telemetry/log.h"

namespace datom::service {

inline constexpr std::uint32_t kMaxDevNodes = 16;

struct DevOptions {
  std::string root;  // absolute
  std::string domain = "default";
  std::uint32_t nodes = 3;         // volume servers vs1, vs2, ... on ports port + 1, ...
  std::uint16_t port = 7400;       // of the config service
  std::uint16_t nbd_port = 10809;  // of vs1; vs2 has the next one, ...
};

// The domain as a service on `loops[0]`, where its config service runs; each volume server has a
// thread of its own. Stamps ROOT/node.json so that commands with this root find it. Throws
// Error{invalid_argument} for impossible options.
std::unique_ptr<Service> make_dev_domain(LoopSeams loop, DevOptions options, telemetry::Log log);

// Runs it until SIGTERM or SIGINT; `up` is called when every service is up.
void run_dev_process(DevOptions options, const std::function<void()>& up);

}  // namespace datom::service

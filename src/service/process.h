// A process that runs services until it is told to stop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "protocol/records.h"
#include "service/readiness.h"
#include "service/seams.h"
#include "service/settings.h"
#include "service/signals.h"
#include "telemetry/log.h"

namespace datom::service {

// Boots the service, calls `up`, and runs it until SIGTERM or SIGINT; then stops it in order. A
// second signal ends the process at once. Throws what start() or stop() threw. `loop` is the
// service's.
void run_until_stopped(Service& service, runtime::Loop& loop, Signals& signals,
                       const telemetry::Log& log, const std::function<void()>& up);

// `datom configservice` and `datom volumeserver`: one service with real loops, files, sockets and
// ZooKeeper, logging to standard error; `ready_fd` as of ReadinessReport. Returns when it was
// stopped. Throws Error saying which step of the boot failed and why.
void run_service_process(protocol::ServiceType type, ServiceOptions options, int ready_fd);

// Seams of this process on `loops`, with coordination as the URL says.
Seams real_seams(std::vector<LoopSeams> loops, telemetry::Metrics& metrics, telemetry::Log log);

}  // namespace datom::service

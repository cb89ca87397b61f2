// The simulated machine with the config service: production code on a session of its own.
#pragma once

#include <memory>
#include <string>

#include "config_service/config_service.h"
#include "runtime/virtual_loop.h"
#include "sim/ensemble.h"
#include "sim/network.h"
#include "telemetry/log.h"

namespace datom::sim {

class ConfigServer {
 public:
  // Each way to coordination takes up to `slowest_coordination`.
  ConfigServer(runtime::VirtualLoop& world, Ensemble& ensemble, Network& network,
               std::string domain, std::uint64_t seed, runtime::Duration slowest_coordination,
               telemetry::Log log);
  // stop() must have returned.
  ~ConfigServer();

  // Takes the role, and makes the tree a datom instance if it is none.
  runtime::Task<void> start();
  runtime::Task<void> stop();
  // As when its session expires: what it was about is gone on with by the next process.
  runtime::Task<void> restart();

  config_service::ConfigService& service() { return *process_->service; }

 private:
  struct Process {
    std::unique_ptr<coordination::Client> client;
    rpc::Router router;
    std::unique_ptr<Network::Endpoint> endpoint;
    std::unique_ptr<config_service::ConfigService> service;
  };

  runtime::VirtualLoop& world_;
  Ensemble& ensemble_;
  Network& network_;
  const std::string domain_;
  const runtime::Duration slowest_coordination_;
  telemetry::Log log_;
  runtime::SeededRandom random_;
  std::unique_ptr<Process> process_;
};

}  // namespace datom::sim

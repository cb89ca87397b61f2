#include "sim/config_server.h"

#include "common/check.h"
#include "config_service/init.h"
#include "protocol/config.pb.h"
#include "sim/coordination.h"

namespace datom::sim {

using runtime::Task;

namespace {
const std::string kName = "cs1";
}  // namespace

ConfigServer::ConfigServer(runtime::VirtualLoop& world, Ensemble& ensemble, Network& network,
                           std::string domain, std::uint64_t seed,
                           runtime::Duration slowest_coordination, telemetry::Log log)
    : world_(world),
      ensemble_(ensemble),
      network_(network),
      domain_(std::move(domain)),
      slowest_coordination_(slowest_coordination),
      log_(log.with({"service", kName})),
      random_(seed) {}

ConfigServer::~ConfigServer() {
  DATOM_CHECK(process_ == nullptr);
}

Task<void> ConfigServer::start() {
  process_ = std::make_unique<Process>();
  Process& process = *process_;
  process.client = make_slow_client(ensemble_.open_session(world_), world_, random_.next(),
                                    slowest_coordination_);
  process.endpoint = network_.join(kName, process.router, world_);
  config_service::ConfigServiceOptions options;
  options.domain = domain_;
  options.service = kName;
  options.address = "192.0.2.1:7400";
  options.epoch = Uuid::from_random(random_.next(), random_.next());
  options.pid = 1;
  process.service = std::make_unique<config_service::ConfigService>(
      world_, random_, *process.client, *process.endpoint, log_, options);
  process.service->register_handlers(process.router);
  process.service->start();
  co_return;
}

Task<void> ConfigServer::stop() {
  process_->endpoint->take_down();
  co_await process_->service->stop();
  co_await process_->endpoint->stop();
  ensemble_.end(process_->client->session_id());
  process_.reset();
}

Task<void> ConfigServer::restart() {
  co_await stop();
  co_await start();
}

}  // namespace datom::sim

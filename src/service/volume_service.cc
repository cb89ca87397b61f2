#include "service/volume_service.h"

#include <atomic>
#include <exception>
#include <utility>

#include "admin/pages.h"
#include "common/error.h"
#include "nbd/server.h"
#include "properties/properties.h"
#include "rpc/connection_cache.h"
#include "rpc/server.h"
#include "runtime/task_group.h"
#include "runtime/wait.h"
#include "service/boot.h"
#include "service/http_pages.h"
#include "service/on_loop.h"
#include "service/registration.h"
#include "service/steady_client.h"
#include "service/volume_exports.h"
#include "volume/volume_server.h"

namespace datom::service {
namespace {

using coordination::SessionState;
using protocol::ServiceType;
using runtime::Task;

constexpr runtime::Duration kRetryPause = std::chrono::seconds(1);

// What one loop runs.
struct Shard {
  LoopSeams seams;
  std::unique_ptr<coordination::Client> client;  // of the current session
  std::unique_ptr<SteadyClient> steady;
  std::unique_ptr<properties::Properties> properties;
  std::unique_ptr<rpc::ConnectionCache> cache;
  rpc::Router router;
  std::unique_ptr<volume::VolumeServer> server;
};

class VolumeService final : public Service {
 public:
  VolumeService(Seams seams, ServiceOptions options);

  Task<void> start() override;
  void interrupt() override { stopping_ = true; }
  Task<void> stop() override;

 private:
  // The steps of the boot.
  Task<void> read_node();
  Task<void> connect();
  Task<void> start_properties();
  Task<void> start_caches();
  Task<void> listen();
  Task<void> load();
  Task<void> announce_self();

  // On the shard's loop.
  Task<void> make_clients(std::size_t shard);
  Task<void> start_shard_properties(std::size_t shard);
  Task<void> start_shard_cache(std::size_t shard);
  Task<void> make_server(std::size_t shard);
  Task<void> start_server(std::size_t shard);
  Task<void> stop_server(std::size_t shard);
  Task<void> stop_shard(std::size_t shard);
  Task<void> lose_session(std::size_t shard);
  Task<void> resume_session(std::size_t shard);

  admin::Health health() const;

  Task<void> keep_session();
  Task<void> renew_session();
  void watch_session();
  using ShardStep = Task<void> (VolumeService::*)(std::size_t);
  Task<void> on_shards(ShardStep what);
  runtime::Loop& loop() { return *seams_.loops[0].loop; }

  Seams seams_;
  const ServiceOptions options_;
  ServiceSettings settings_;
  std::string epoch_;
  std::vector<Lock> locks_;
  std::shared_ptr<Session> session_;
  std::vector<Shard> shards_;
  std::unique_ptr<runtime::Listener> listener_;
  std::vector<std::unique_ptr<runtime::Listener>> nbd_listeners_;
  std::unique_ptr<rpc::Server> server_;
  std::unique_ptr<nbd::Exports> exports_;
  std::unique_ptr<nbd::Server> nbd_;
  bool announced_ = false;

  std::atomic<bool> stopping_ = false;
  coordination::WatchHandle session_watch_;
  bool expired_ = false;
  runtime::Event session_changed_;
  runtime::Timer retry_;
  runtime::TaskGroup tasks_;
};

VolumeService::VolumeService(Seams seams, ServiceOptions options)
    : seams_(std::move(seams)),
      options_(std::move(options)),
      shards_(seams_.loops.size()),
      session_changed_(loop()),
      retry_(loop()),
      tasks_(loop(), [log = seams_.log](std::exception_ptr error) { log_task_error(log, error); }) {
  for (std::size_t i = 0; i < shards_.size(); ++i) shards_[i].seams = seams_.loops[i];
}

Task<void> VolumeService::on_shards(ShardStep what) {
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    co_await on_loop(loop(), *shards_[i].seams.loop, (this->*what)(i));
  }
}

// ---- boot

Task<void> VolumeService::start() {
  co_await step("node.json", read_node());
  co_await step("coordination", connect());
  co_await step("properties", start_properties());
  co_await step("connections", start_caches());
  co_await step("listeners", listen());
  co_await step("replicas", load());
  co_await step("announcement", announce_self());
  tasks_.spawn(keep_session());
}

Task<void> VolumeService::read_node() {
  settings_ = co_await read_settings(*seams_.loops[0].files, options_, ServiceType::volume_server);
  locks_ = lock_root(seams_, settings_);
  co_await write_pid(*seams_.loops[0].files, settings_, seams_.pid);
  epoch_ = new_epoch(*seams_.loops[0].random);
}

Task<void> VolumeService::connect() {
  session_ = co_await connect_session(seams_, settings_, stopping_);
  co_await on_shards(&VolumeService::make_clients);
  co_await check_registered(*shards_[0].client, settings_);
}

Task<void> VolumeService::make_clients(std::size_t shard) {
  Shard& here = shards_[shard];
  here.client = session_->make_client(*here.seams.loop);
  if (!here.steady) here.steady = std::make_unique<SteadyClient>(*here.seams.loop);
  here.steady->session_begins(*here.client);
  co_return;
}

Task<void> VolumeService::start_properties() {
  co_await on_shards(&VolumeService::start_shard_properties);
}

Task<void> VolumeService::start_shard_properties(std::size_t shard) {
  Shard& here = shards_[shard];
  here.properties = std::make_unique<properties::Properties>(
      *here.seams.loop, settings_.node.domain, [log = seams_.log](const std::string& message) {
        log.warn("property.malformed", {}, message);
      });
  co_await here.properties->start(*here.steady);
}

Task<void> VolumeService::start_caches() {
  co_await on_shards(&VolumeService::start_shard_cache);
}

Task<void> VolumeService::start_shard_cache(std::size_t shard) {
  Shard& here = shards_[shard];
  rpc::ConnectionCacheOptions options;
  options.domain = settings_.node.domain;
  options.self = settings_.service.name;
  options.log = seams_.log;
  options.shard = static_cast<std::uint32_t>(shard);
  here.cache = std::make_unique<rpc::ConnectionCache>(*here.seams.loop, *here.seams.network,
                                                      *here.steady, options);
  co_return;
}

Task<void> VolumeService::listen() {
  runtime::Network& network = *seams_.loops[0].network;
  const auto at = [this](std::uint16_t port) {
    return runtime::Address::parse(settings_.address(port));
  };
  listener_ = network.listen(at(settings_.service.port));
  nbd_listeners_.push_back(network.listen(at(settings_.service.nbd_port)));
  if (!settings_.nbd_socket.empty()) {
    nbd_listeners_.push_back(
        network.listen(runtime::Address::parse("unix:" + settings_.nbd_socket)));
  }
  co_return;
}

Task<void> VolumeService::load() {
  co_await on_shards(&VolumeService::make_server);
  std::vector<volume::VolumeServer*> servers;
  for (const Shard& shard : shards_) servers.push_back(shard.server.get());
  for (volume::VolumeServer* server : servers) server->set_shards(servers);
  co_await on_shards(&VolumeService::start_server);

  std::vector<rpc::ServingLoop> serving;
  for (Shard& shard : shards_) {
    serving.push_back({shard.seams.loop, shard.seams.network, &shard.router});
  }
  rpc::ServerOptions server_options;
  server_options.domain = settings_.node.domain;
  server_options.self = settings_.service.name;
  server_options.log = seams_.log;
  http::Handler pages = admin::service_pages(*seams_.metrics, [this] { return health(); });
  server_ = std::make_unique<rpc::Server>(serving, std::move(listener_), server_options,
                                          serve_http(loop(), std::move(pages)));
  server_->start();
  exports_ = make_volume_exports(servers, seams_.loops);
  nbd_ = std::make_unique<nbd::Server>(loop(), *seams_.loops[0].network, *exports_,
                                       nbd::ServerOptions(), seams_.log);
  for (auto& listener : nbd_listeners_) nbd_->serve(std::move(listener));
  nbd_listeners_.clear();
}

Task<void> VolumeService::make_server(std::size_t shard) {
  Shard& here = shards_[shard];
  volume::Seams seams;
  seams.loop = here.seams.loop;
  seams.random = here.seams.random;
  seams.files = here.seams.files;
  seams.coordination = here.client.get();
  seams.caller = here.cache.get();
  seams.properties = here.properties.get();
  seams.metrics = seams_.metrics;
  seams.log = seams_.log;
  volume::VolumeServerOptions options;
  options.domain = settings_.node.domain;
  options.service = settings_.service.name;
  options.root = settings_.root;
  options.shard = static_cast<std::uint32_t>(shard);
  options.shards = static_cast<std::uint32_t>(shards_.size());
  options.memory_bytes = seams_.memory_bytes;
  here.server = std::make_unique<volume::VolumeServer>(seams, options);
  here.server->register_handlers(here.router);
  co_return;
}

Task<void> VolumeService::start_server(std::size_t shard) {
  co_await shards_[shard].server->start();
}

Task<void> VolumeService::announce_self() {
  watch_session();
  Presence presence;
  presence.address = settings_.address(settings_.service.port);
  presence.nbd_address = settings_.address(settings_.service.nbd_port);
  presence.epoch = epoch_;
  presence.pid = seams_.pid;
  co_await announce(*shards_[0].client, settings_, presence);
  announced_ = true;
}

admin::Health VolumeService::health() const {
  if (announced_) return {true, ""};
  return {false, stopping_ ? "it is stopping" : "it is not announced in coordination"};
}

// ---- sessions

void VolumeService::watch_session() {
  expired_ = shards_[0].client->state() == SessionState::expired;
  session_watch_ = shards_[0].client->watch_session([this](SessionState state) {
    log_session(seams_.log, state);
    if (state != SessionState::expired) return;
    expired_ = true;
    session_changed_.wake_all();
  });
}

Task<void> VolumeService::keep_session() {
  while (!stopping_) {
    if (!expired_) {
      co_await session_changed_.wait();
      continue;
    }
    session_watch_.reset();
    announced_ = false;
    co_await on_shards(&VolumeService::lose_session);
    co_await renew_session();
  }
}

// Until it is there, or the service stops.
Task<void> VolumeService::renew_session() {
  while (!stopping_) {
    std::optional<Error> failure;
    try {
      if (session_) co_await session_->close(loop());
      session_.reset();
      session_ = co_await connect_session(seams_, settings_, stopping_);
      co_await on_shards(&VolumeService::resume_session);
      co_await announce_self();
      seams_.log.info("coordination.renewed", {}, "announced in another session");
      co_return;
    } catch (const Error& error) {
      failure = error;
    }
    if (stopping_) co_return;
    seams_.log.warn("coordination.unavailable", {{"error", failure->what()}});
    session_watch_.reset();
    co_await on_shards(&VolumeService::lose_session);
    co_await retry_.sleep_for(kRetryPause);
  }
}

Task<void> VolumeService::lose_session(std::size_t shard) {
  Shard& here = shards_[shard];
  if (!here.client) co_return;
  co_await here.server->coordination_lost();
  co_await here.steady->session_lost();
  here.client.reset();
}

Task<void> VolumeService::resume_session(std::size_t shard) {
  co_await make_clients(shard);
  co_await shards_[shard].server->coordination_back(*shards_[shard].client);
}

// ---- stop: the boot backwards, but clients and leaders first

Task<void> VolumeService::stop() {
  stopping_ = true;
  retry_.cancel();
  session_changed_.wake_all();
  co_await tasks_.close();
  if (nbd_) co_await nbd_->stop();
  co_await on_shards(&VolumeService::stop_server);
  if (announced_) co_await withdraw(*shards_[0].client, settings_, epoch_, seams_.log);
  if (server_) co_await server_->stop();
  session_watch_.reset();
  nbd_.reset();
  exports_.reset();
  server_.reset();
  nbd_listeners_.clear();
  listener_.reset();
  co_await on_shards(&VolumeService::stop_shard);
  if (session_) co_await session_->close(loop());
  session_.reset();
  if (!locks_.empty()) co_await remove_pid(*seams_.loops[0].files, settings_);
  locks_.clear();
}

Task<void> VolumeService::stop_server(std::size_t shard) {
  if (shards_[shard].server) co_await shards_[shard].server->stop();
}

Task<void> VolumeService::stop_shard(std::size_t shard) {
  Shard& here = shards_[shard];
  here.server.reset();
  if (here.cache) co_await here.cache->stop();
  here.cache.reset();
  if (here.properties) co_await here.properties->stop();
  here.properties.reset();
  if (here.client) co_await here.steady->session_lost();
  here.client.reset();
  here.steady.reset();
}

}  // namespace

std::unique_ptr<Service> make_volume_service(Seams seams, ServiceOptions options) {
  return std::make_unique<VolumeService>(std::move(seams), std::move(options));
}

}  // namespace datom::service

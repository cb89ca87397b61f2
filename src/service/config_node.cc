#include "service/config_node.h"

#include <atomic>
#include <exception>
#include <utility>

#include "admin/api.h"
#include "admin/pages.h"
#include "common/error.h"
#include "config_service/config_service.h"
#include "rpc/connection_cache.h"
#include "rpc/server.h"
#include "runtime/task_group.h"
#include "runtime/wait.h"
#include "service/boot.h"
#include "service/http_pages.h"
#include "service/registration.h"

namespace datom::service {
namespace {

using coordination::SessionState;
using protocol::ServiceType;
using runtime::Task;

constexpr runtime::Duration kRetryPause = std::chrono::seconds(1);

class ConfigNode final : public Service {
 public:
  ConfigNode(Seams seams, ServiceOptions options, MoreHandlers more_handlers);

  Task<void> start() override;
  void interrupt() override;
  Task<void> stop() override;

 private:
  // The steps of the boot.
  Task<void> read_node();
  Task<void> boot();
  Task<void> connect();
  Task<void> start_cache();
  Task<void> listen();
  Task<void> take_role();
  Task<void> announce_self();
  // The boot's steps backwards, those that were done.
  Task<void> unboot();

  admin::Health health() const;

  Task<void> keep_session();
  Task<void> boot_again();
  runtime::Loop& loop() { return *seams_.loops[0].loop; }

  Seams seams_;
  const ServiceOptions options_;
  const MoreHandlers more_handlers_;
  ServiceSettings settings_;
  std::string epoch_;
  std::vector<Lock> locks_;

  // Of one session.
  std::shared_ptr<Session> session_;
  std::unique_ptr<coordination::Client> client_;
  std::unique_ptr<rpc::ConnectionCache> cache_;
  std::unique_ptr<runtime::Listener> listener_;
  rpc::Router router_;
  std::unique_ptr<config_service::ConfigService> service_;
  std::unique_ptr<rpc::Server> server_;
  coordination::WatchHandle session_watch_;
  bool announced_ = false;
  bool expired_ = false;

  std::atomic<bool> stopping_ = false;
  bool role_given_up_ = false;
  runtime::Event session_changed_;
  runtime::Timer retry_;
  runtime::TaskGroup tasks_;
};

ConfigNode::ConfigNode(Seams seams, ServiceOptions options, MoreHandlers more_handlers)
    : seams_(std::move(seams)),
      options_(std::move(options)),
      more_handlers_(std::move(more_handlers)),
      session_changed_(loop()),
      retry_(loop()),
      tasks_(loop(), [log = seams_.log](std::exception_ptr error) { log_task_error(log, error); }) {
}

Task<void> ConfigNode::start() {
  co_await step("node.json", read_node());
  co_await boot();
  tasks_.spawn(keep_session());
}

// Also while the service waits for its role, on a tree that nobody has made an instance of yet.
void ConfigNode::interrupt() {
  stopping_ = true;
  if (service_ && !std::exchange(role_given_up_, true)) tasks_.spawn(service_->stop());
}

Task<void> ConfigNode::read_node() {
  settings_ = co_await read_settings(*seams_.loops[0].files, options_, ServiceType::config_service);
  locks_ = lock_root(seams_, settings_);
  co_await write_pid(*seams_.loops[0].files, settings_, seams_.pid);
  epoch_ = new_epoch(*seams_.loops[0].random);
}

Task<void> ConfigNode::boot() {
  co_await step("coordination", connect());
  co_await step("connections", start_cache());
  co_await step("listener", listen());
  co_await step("role", take_role());
  co_await step("announcement", announce_self());
}

Task<void> ConfigNode::connect() {
  session_ = co_await connect_session(seams_, settings_, stopping_);
  client_ = session_->make_client(loop());
  expired_ = false;
  session_watch_ = client_->watch_session([this](SessionState state) {
    log_session(seams_.log, state);
    if (state != SessionState::expired) return;
    expired_ = true;
    session_changed_.wake_all();
  });
}

Task<void> ConfigNode::start_cache() {
  rpc::ConnectionCacheOptions options;
  options.domain = settings_.node.domain;
  options.self = settings_.service.name;
  options.log = seams_.log;
  cache_ =
      std::make_unique<rpc::ConnectionCache>(loop(), *seams_.loops[0].network, *client_, options);
  co_return;
}

Task<void> ConfigNode::listen() {
  const std::string at = settings_.address(settings_.service.port);
  listener_ = seams_.loops[0].network->listen(runtime::Address::parse(at));
  co_return;
}

Task<void> ConfigNode::take_role() {
  config_service::ConfigServiceOptions options;
  options.domain = settings_.node.domain;
  options.service = settings_.service.name;
  options.address = settings_.address(settings_.service.port);
  options.epoch = *Uuid::parse(epoch_);
  options.pid = seams_.pid;
  service_ = std::make_unique<config_service::ConfigService>(
      loop(), *seams_.loops[0].random, *client_, *cache_, seams_.log, options);
  role_given_up_ = false;
  router_ = rpc::Router();
  service_->register_handlers(router_);
  if (more_handlers_) more_handlers_(router_);

  rpc::ServerOptions server_options;
  server_options.domain = settings_.node.domain;
  server_options.self = settings_.service.name;
  server_options.log = seams_.log;
  const LoopSeams& here = seams_.loops[0];
  http::Handler pages =
      admin::with_api(admin::service_pages(*seams_.metrics, [this] { return health(); }),
                      admin::config_api(*service_));
  server_ = std::make_unique<rpc::Server>(
      std::vector<rpc::ServingLoop>{{here.loop, here.network, &router_}}, std::move(listener_),
      server_options, serve_http(loop(), std::move(pages)));
  server_->start();
  if (stopping_) throw Error(Code::closed, "stopped while it booted");
  service_->start();
  co_await service_->wait_ready();
}

admin::Health ConfigNode::health() const {
  if (announced_) return {true, ""};
  return {false, stopping_ ? "it is stopping" : "it waits for its role, or for coordination"};
}

Task<void> ConfigNode::announce_self() {
  co_await check_registered(*client_, settings_);
  Presence presence;
  presence.address = settings_.address(settings_.service.port);
  presence.epoch = epoch_;
  presence.pid = seams_.pid;
  co_await announce(*client_, settings_, presence);
  announced_ = true;
}

Task<void> ConfigNode::unboot() {
  if (std::exchange(announced_, false)) co_await withdraw(*client_, settings_, epoch_, seams_.log);
  if (service_ && !std::exchange(role_given_up_, true)) co_await service_->stop();
  if (server_) co_await server_->stop();
  server_.reset();
  service_.reset();
  listener_.reset();
  if (cache_) co_await cache_->stop();
  cache_.reset();
  session_watch_.reset();
  client_.reset();
  if (session_) co_await session_->close(loop());
  session_.reset();
}

Task<void> ConfigNode::keep_session() {
  while (!stopping_) {
    if (!expired_) {
      co_await session_changed_.wait();
      continue;
    }
    announced_ = false;
    co_await unboot();
    co_await boot_again();
  }
}

// Until it is up, or stops.
Task<void> ConfigNode::boot_again() {
  while (!stopping_) {
    std::optional<Error> failure;
    try {
      co_await boot();
      seams_.log.info("service.up", {}, "again");
      co_return;
    } catch (const Error& error) {
      failure = error;
    }
    if (stopping_) co_return;
    seams_.log.warn("service.boot", {{"error", failure->what()}}, "will try again");
    co_await unboot();
    co_await retry_.sleep_for(kRetryPause);
  }
}

Task<void> ConfigNode::stop() {
  interrupt();
  retry_.cancel();
  session_changed_.wake_all();
  co_await tasks_.close();
  co_await unboot();
  if (!locks_.empty()) co_await remove_pid(*seams_.loops[0].files, settings_);
  locks_.clear();
}

}  // namespace

std::unique_ptr<Service> make_config_node(Seams seams, ServiceOptions options,
                                          MoreHandlers more_handlers) {
  return std::make_unique<ConfigNode>(std::move(seams), std::move(options),
                                      std::move(more_handlers));
}

}  // namespace datom::service

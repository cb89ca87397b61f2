#include "sim/server.h"

#include "common/check.h"
#include "common/error.h"
#include "protocol/methods.h"
#include "protocol/records.h"
#include "rpc/connection_cache.h"
#include "sim/coordination.h"

namespace datom::sim {

using runtime::Task;

namespace {

// Segments that end often, and cost little to make, read and throw away.
constexpr journal::JournalOptions kSmallJournal{.segment_bytes = 256 << 10,
                                                .max_batch_bytes = 96 << 10};

}  // namespace

Server::Server(runtime::VirtualLoop& world, Ensemble& ensemble, Network& network,
               std::string domain, std::string name, Traits traits, telemetry::Log log)
    : world_(world),
      ensemble_(ensemble),
      network_(network),
      domain_(std::move(domain)),
      name_(std::move(name)),
      log_(log.with({"service", name_})),
      random_(traits.seed),
      slowest_coordination_(traits.slowest_coordination),
      loop_(world, traits.drift),
      disk_(world, loop_, traits.seed ^ 0x9393, traits.slowest_disk, traits.stall_one_in) {}

Server::~Server() {
  DATOM_CHECK(process_ == nullptr);
}

Task<void> Server::start() {
  co_await ensemble_.reachable();
  const Ensemble::Beginning begins(ensemble_);
  DATOM_CHECK(process_ == nullptr);
  process_ = std::make_unique<Process>();
  ++incarnation_;
  Process& process = *process_;
  co_await runtime::switch_to(loop_);
  process.files = disk_.mount();
  open_session();
  process.properties =
      std::make_unique<properties::Properties>(loop_, domain_, [](const std::string&) {});
  co_await process.properties->start(*process.sessions.back());
  process.caller = network_.join(name_, process.router, loop_);
  volume::Seams seams;
  seams.loop = &loop_;
  seams.random = &random_;
  seams.files = process.files.get();
  seams.coordination = process.sessions.back().get();
  seams.caller = process.caller.get();
  seams.properties = process.properties.get();
  seams.metrics = &process.metrics;
  seams.log = log_;
  process.server = std::make_unique<volume::VolumeServer>(
      seams, volume::VolumeServerOptions{domain_, name_, "/" + name_, 0, 1, kSmallJournal});
  process.server->register_handlers(process.router);
  co_await process.server->start();
  co_await announce();
  up_ = true;
  co_await runtime::switch_to(world_);
}

std::string Server::replica_directory() const {
  return "/" + name_ + "/" + name_ + "/replicas/" + kVolumeId.to_string();
}

void Server::kill(runtime::Duration linger) {
  up_ = false;
  process_->caller->take_down();
  disk_.crash();
  ensemble_.bereave(session(), linger);
  thaw();  // what is left of it unwinds
}

Task<void> Server::bury() {
  co_await runtime::switch_to(loop_);
  co_await process_->server->coordination_lost();
  co_await unwind();
  co_await runtime::switch_to(world_);
}

Task<void> Server::stop() {
  up_ = false;
  co_await runtime::switch_to(loop_);
  co_await process_->server->stop();
  process_->caller->take_down();
  ensemble_.end(session());
  co_await unwind();
  co_await runtime::switch_to(world_);
}

Task<void> Server::unwind() {
  co_await process_->server->stop();
  co_await process_->properties->stop();
  co_await process_->caller->stop();
  process_.reset();
}

void Server::open_session() {
  process_->sessions.push_back(make_slow_client(ensemble_.open_session(loop_), loop_,
                                                random_.next(), slowest_coordination_));
}

void Server::expire_session_unseen() {
  ensemble_.expire_unseen(session());
}

void Server::expire_session() {
  ensemble_.expire(session());
}

void Server::give_up_session(runtime::Duration kept) {
  ensemble_.bereave(session(), kept);
}

Task<void> Server::renew_session() {
  co_await ensemble_.reachable();
  const Ensemble::Beginning begins(ensemble_);
  co_await runtime::switch_to(loop_);
  Process& process = *process_;
  co_await process.server->coordination_lost();
  co_await process.properties->stop();
  open_session();
  co_await process.properties->start(*process.sessions.back());
  co_await process.server->coordination_back(*process.sessions.back());
  co_await announce();
  co_await runtime::switch_to(world_);
}

void Server::cut_coordination(bool cut) {
  cut ? ensemble_.cut(session()) : ensemble_.mend(session());
}

Task<protocol::ReplicaStatusReply> Server::status() {
  protocol::ReplicaStatusReply reply;
  if (!up_) co_return reply;
  const rpc::Message answer = co_await ask(protocol::method::kReplicaStatus,
                                           protocol::ReplicaStatusRequest().SerializeAsString());
  DATOM_CHECK(reply.ParseFromString(answer.header));
  co_return reply;
}

// Says in coordination that it is up, as the service does.
Task<void> Server::announce() {
  coordination::Client& client = *process_->sessions.back();
  const std::string path = protocol::paths::service_instance(domain_, name_);
  rpc::Instance instance;
  instance.address = "192.0.2.1:7400";
  instance.epoch = Uuid::from_random(incarnation_, process_->sessions.size()).to_string();
  instance.pid = static_cast<std::int64_t>(incarnation_);
  coordination::CreateOptions options;
  options.ephemeral = true;
  // The node of an earlier process may go meanwhile.
  for (int tries = 0; tries < 10; ++tries) {
    try {
      const auto before = co_await client.get(path);
      if (before) co_await client.remove(path);
      co_await client.create(path, instance.to_json(), options);
      co_return;
    } catch (const Error& error) {
      log_.info("sim.not_announced", {}, error.what());
    }
  }
}

Task<rpc::Message> Server::ask(rpc::Method method, std::string request) {
  co_await runtime::switch_to(loop_);
  const rpc::Router::Handler* handler = process_->router.find_call(method);
  rpc::Message question;
  question.header = std::move(request);
  rpc::Message answer = co_await (*handler)(rpc::Peer{}, std::move(question));
  co_await runtime::switch_to(world_);
  co_return answer;
}

}  // namespace datom::sim

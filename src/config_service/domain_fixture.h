// A domain in memory: config services and volume servers on one loop in virtual time. Included by
// tests only, of this room and of those above.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "common/error.h"
#include "config_service/config_service.h"
#include "coordination/memory/memory.h"
#include "protocol/config.pb.h"
#include "protocol/methods.h"
#include "protocol/records.h"
#include "protocol/volume.pb.h"
#include "rpc/connection_cache.h"
#include "rpc/memory_network.h"
#include "runtime/virtual_loop.h"

namespace datom::config_service {

// Runs `task` and gives its result.
template <typename T>
T result_of(runtime::VirtualLoop& loop, runtime::Task<T> task) {
  std::optional<T> result;
  struct Store {
    static runtime::Task<void> run(runtime::Task<T> from, std::optional<T>& to) {
      T value = co_await std::move(from);
      to.emplace(std::move(value));
    }
  };
  loop.run(Store::run(std::move(task), result));
  return std::move(*result);
}

// Runs `task`, which must fail, and gives its error.
template <typename T>
Error error_of(runtime::VirtualLoop& loop, runtime::Task<T> task) {
  struct Run {
    static runtime::Task<void> run(runtime::Task<T> from) { co_await std::move(from); }
  };
  try {
    loop.run(Run::run(std::move(task)));
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "expected an error";
  return Error(Code::internal, "none");
}

// Tells of a replica of every volume that is placed on it, in the state that it is told to be in.
// While it is told to be a leader it replaces replicas when asked.
class FakeVolumeServer {
 public:
  FakeVolumeServer(runtime::VirtualLoop& loop, coordination::MemoryTree& tree,
                   rpc::MemoryNetwork& network, const std::string& name)
      : loop_(loop), tree_(tree), network_(network), name_(name), client_(tree.open_session(loop)) {
    router_.on_call(
        protocol::method::kReplicaStatus,
        [this](const rpc::Peer&, rpc::Message request) { return tell(std::move(request)); });
    router_.on_call(
        protocol::method::kReplaceReplica,
        [this](const rpc::Peer&, rpc::Message request) { return replace(std::move(request)); });
    router_.on_call(
        protocol::method::kCancelReplace,
        [this](const rpc::Peer&, rpc::Message request) { return cancel(std::move(request)); });
    endpoint_ = network.join(name, router_);
    rpc::Instance instance;
    instance.address = "192.0.2.1:7400";
    instance.nbd_address = name + ".test:10809";
    instance.epoch = Uuid::from_random(1, 1).to_string();
    instance.pid = 4711;
    coordination::CreateOptions options;
    options.ephemeral = true;
    result_of(loop, client_->create(protocol::paths::service_instance("d", name),
                                    instance.to_json(), options));
  }
  ~FakeVolumeServer() {
    loop_.run(endpoint_->stop());
    die();
  }

  std::string state = "FOLLOWER_FUNCTIONAL";
  std::uint64_t term = 1;
  std::uint64_t bytes_used = 0;
  std::optional<std::uint64_t> free_bytes;
  bool drops_removed = true;   // its replicas of volumes that are being removed
  bool other_replica = false;  // names another replica than the one that was placed
  bool makes_replicas = true;
  std::set<Uuid> wiped;  // replicas that it says it cannot use
  std::string trouble;   // that its replicas, which take part, tell of
  std::string leader;    // of the groups, as it knows while it is none
  // As a leader: whether learners get in step, and joint voters become the only ones. Each time it
  // is asked how it is, it goes on by one of these.
  bool learners_get_in_step = true;
  bool joint_ends = true;
  int asked_to_replace = 0;

  // As kill -9 once the session has expired, too.
  void die() {
    network_.take_down(name_);
    tree_.expire(client_->session_id());
    loop_.run_ready();
  }

 private:
  runtime::Task<rpc::Message> tell(rpc::Message request) {
    protocol::ReplicaStatusRequest question;
    EXPECT_TRUE(question.ParseFromString(request.header));
    protocol::ReplicaStatusReply reply;
    if (free_bytes) reply.set_free_bytes(*free_bytes);
    if (state == "LEADER_FUNCTIONAL") co_await go_on();
    const auto names = co_await client_->children(protocol::paths::volumes("d"));
    for (const std::string& name : *names) {
      const auto node = co_await client_->get(protocol::paths::volume("d", name));
      if (node) tell_of(protocol::VolumeRecord::from_json(node->data), question.volume(), reply);
    }
    rpc::Message answer;
    answer.header = reply.SerializeAsString();
    co_return answer;
  }

  void tell_of(const protocol::VolumeRecord& volume, const std::string& asked,
               protocol::ReplicaStatusReply& reply) const {
    if (volume.removing && drops_removed) return;
    if (!makes_replicas) return;
    const std::string id(volume.id.bytes.begin(), volume.id.bytes.end());
    if (!asked.empty() && asked != id) return;
    for (const protocol::ReplicaRecord& replica : volume.replicas) {
      if (replica.service != name_) continue;
      protocol::ReplicaStatus& status = *reply.add_replicas();
      status.set_volume(id);
      if (wiped.contains(replica.replica)) {
        status.set_trouble("the disk was wiped");
        continue;
      }
      status.set_replica(
          other_replica ? id
                        : std::string(replica.replica.bytes.begin(), replica.replica.bytes.end()));
      status.set_state(state);
      status.set_role(state.starts_with("LEADER") ? "leader" : "follower");
      status.set_term(term);
      status.set_commit_op(40);
      status.set_applied_op(39);
      status.set_last_op(41);
      status.set_bytes_used(bytes_used);
      status.set_trouble(trouble);
    }
  }

  static Uuid uuid_of(const std::string& bytes) {
    Uuid uuid;
    EXPECT_EQ(bytes.size(), uuid.bytes.size());
    std::copy(bytes.begin(), bytes.end(), uuid.bytes.begin());
    return uuid;
  }
  void must_lead() const {
    if (state != "LEADER_FUNCTIONAL") throw Error(Code::not_leader, "{}", leader);
  }
  runtime::Task<void> write_group(Uuid volume, protocol::GroupRecord group,
                                  coordination::Version version) {
    ++group.config_epoch;
    co_await client_->set(protocol::paths::group("d", volume), group.to_json(), version);
  }

  runtime::Task<rpc::Message> replace(rpc::Message message) {
    protocol::ReplaceReplicaRequest request;
    EXPECT_TRUE(request.ParseFromString(message.header));
    must_lead();
    ++asked_to_replace;
    const Uuid volume = uuid_of(request.volume());
    const Uuid to = uuid_of(request.to());
    const auto node = co_await client_->get(protocol::paths::group("d", volume));
    auto group = protocol::GroupRecord::from_json(node->data);
    for (const auto& learner : group.learners) {
      if (learner.member.replica != to) throw Error(Code::conflict, "another one is replaced");
    }
    if (group.learners.empty() && group.next_voters.empty()) {
      group.learners = {{{request.service(), to}, uuid_of(request.from())}};
      co_await write_group(volume, group, node->stat.version);
    }
    co_return rpc::Message();
  }
  runtime::Task<rpc::Message> cancel(rpc::Message message) {
    protocol::CancelReplaceRequest request;
    EXPECT_TRUE(request.ParseFromString(message.header));
    must_lead();
    const Uuid volume = uuid_of(request.volume());
    const auto node = co_await client_->get(protocol::paths::group("d", volume));
    auto group = protocol::GroupRecord::from_json(node->data);
    if (!group.next_voters.empty()) throw Error(Code::conflict, "it votes already");
    group.learners.clear();
    co_await write_group(volume, group, node->stat.version);
    co_return rpc::Message();
  }

  runtime::Task<void> go_on() {
    const auto groups = co_await client_->children(protocol::paths::groups("d"));
    for (const std::string& id : *groups) co_await go_on_with(*Uuid::parse(id));
  }
  runtime::Task<void> go_on_with(Uuid volume) {
    const auto node = co_await client_->get(protocol::paths::group("d", volume));
    if (!node) co_return;
    auto group = protocol::GroupRecord::from_json(node->data);
    if (group.leader != name_) co_return;
    if (!group.next_voters.empty()) {
      if (!joint_ends) co_return;
      group.voters = std::move(group.next_voters);
      group.next_voters.clear();
    } else if (!group.learners.empty()) {
      const protocol::LearnerRecord learner = group.learners[0];
      const auto there =
          co_await client_->get(protocol::paths::service_instance("d", learner.member.service));
      if (!there || !learners_get_in_step) co_return;
      group.next_voters = group.voters;
      for (protocol::ReplicaRecord& each : group.next_voters) {
        if (each.replica == learner.replaces) each = learner.member;
      }
      group.learners.clear();
    } else {
      co_return;
    }
    co_await write_group(volume, group, node->stat.version);
  }

  runtime::VirtualLoop& loop_;
  coordination::MemoryTree& tree_;
  rpc::MemoryNetwork& network_;
  std::string name_;
  std::unique_ptr<coordination::Client> client_;
  rpc::Router router_;
  std::unique_ptr<rpc::MemoryEndpoint> endpoint_;
};

struct ConfigProcess {
  std::unique_ptr<coordination::Client> client;
  rpc::Router router;
  std::unique_ptr<rpc::MemoryEndpoint> endpoint;
  std::unique_ptr<ConfigService> service;
};

class DomainTest : public ::testing::Test {
 protected:
  DomainTest() : eye_(tree_.open_session(loop_)), cli_(network_.join("cli", no_methods_)) {}
  ~DomainTest() override {
    while (!configs_.empty()) stop_config_service(configs_.begin()->first);
    servers_.clear();
    loop_.run(cli_->stop());
  }

  // Started, and given the time to find its role.
  ConfigService& start_config_service(const std::string& name) {
    auto process = std::make_unique<ConfigProcess>();
    process->client = tree_.open_session(loop_);
    process->endpoint = network_.join(name, process->router);
    ConfigServiceOptions options;
    options.domain = "d";
    options.service = name;
    options.address = name + ".test:7400";
    options.epoch = Uuid::from_random(random_.next(), 1);
    options.pid = 77;
    process->service = std::make_unique<ConfigService>(
        loop_, random_, *process->client, *process->endpoint, telemetry::Log::silent(), options);
    process->service->register_handlers(process->router);
    process->service->start();
    loop_.run_ready();
    return *(configs_[name] = std::move(process))->service;
  }
  void stop_config_service(const std::string& name) {
    const auto process = std::move(configs_.extract(name).mapped());
    loop_.run(process->service->stop());
    loop_.run(process->endpoint->stop());
    tree_.end(process->client->session_id());
    loop_.run_ready();
  }

  // `datom init` of the domain "d".
  void init(const std::string& via = "cs1") {
    protocol::InitRequest request;
    request.set_domain("d");
    ask<protocol::InitReply>(protocol::method::kInit, request, via);
  }

  // The first config service, active in a new domain.
  void begin() {
    start_config_service("cs1");
    init();
  }

  // Node nK with the volume server vsK.
  static protocol::AddNodeRequest node_request(int number) {
    protocol::AddNodeRequest request;
    request.set_name("n" + std::to_string(number));
    request.set_uuid(Uuid::from_random(99, static_cast<std::uint64_t>(number)).to_string());
    request.set_host("host" + std::to_string(number));
    request.mutable_hardware()->set_cores(8);
    auto& service = *request.add_services();
    service.set_name("vs" + std::to_string(number));
    service.set_type("volumeserver");
    service.set_port(7400);
    service.set_nbd_port(10809);
    return request;
  }
  // Nodes 1 to `count`, their volume servers up, vs1 ready to lead.
  void add_nodes(int count) {
    for (int number = 1; number <= count; ++number) {
      ask<protocol::AddNodeReply>(protocol::method::kAddNode, node_request(number));
      start_server(number);
    }
    servers_.at("vs1")->state = "LEADER_FUNCTIONAL";
  }
  void start_server(int number) {
    const std::string name = "vs" + std::to_string(number);
    servers_[name] = std::make_unique<FakeVolumeServer>(loop_, tree_, network_, name);
  }

  static protocol::CreateVolumeRequest volume_request(const std::string& name,
                                                      std::uint32_t replicas = 3) {
    protocol::CreateVolumeRequest request;
    request.set_name(name);
    request.set_size(1 << 30);
    request.set_replicas(replicas);
    return request;
  }
  protocol::Volume create_volume(const std::string& name, std::uint32_t replicas = 3) {
    return ask<protocol::CreateVolumeReply>(protocol::method::kCreateVolume,
                                            volume_request(name, replicas))
        .volume();
  }
  protocol::Volume info(const std::string& name, const std::string& via = "cs1") {
    protocol::VolumeInfoRequest request;
    request.set_name(name);
    return ask<protocol::VolumeInfoReply>(protocol::method::kVolumeInfo, request, via).volume();
  }
  protocol::StatusReply status(const std::string& via = "cs1") {
    return ask<protocol::StatusReply>(protocol::method::kStatus, protocol::StatusRequest(), via);
  }

  template <typename Reply, typename Request>
  runtime::Task<Reply> call(std::string via, rpc::Method method, Request request) {
    rpc::Message message;
    message.header = request.SerializeAsString();
    const rpc::Message answer =
        co_await cli_->call(std::move(via), method, std::move(message), std::chrono::minutes(2));
    Reply reply;
    EXPECT_TRUE(reply.ParseFromString(answer.header));
    co_return reply;
  }
  template <typename Reply, typename Request>
  Reply ask(rpc::Method method, const Request& request, const std::string& via = "cs1") {
    return result_of(loop_, call<Reply>(via, method, request));
  }
  template <typename Reply, typename Request>
  Error refusal(rpc::Method method, const Request& request, const std::string& via = "cs1") {
    return error_of(loop_, call<Reply>(via, method, request));
  }

  // The value in the tree; nullopt where there is no such node.
  std::optional<std::string> value(const std::string& path) {
    const auto node = result_of(loop_, eye_->get(path));
    return node ? std::optional(node->data) : std::nullopt;
  }
  protocol::VolumeRecord volume_record(const std::string& name) {
    return protocol::VolumeRecord::from_json(
        value(protocol::paths::volume("d", name)).value_or("no such volume"));
  }

  protocol::GroupRecord group_record(const std::string& name) {
    return protocol::GroupRecord::from_json(
        value(protocol::paths::group("d", volume_record(name).id)).value_or("no such group"));
  }
  // The group of the volume has that leader.
  void elect(const std::string& name, const std::string& leader) {
    protocol::GroupRecord group = group_record(name);
    group.term = Term(group.term.value() + 1);
    group.phase = protocol::Phase::leader;
    group.leader = leader;
    result_of(loop_,
              eye_->set(protocol::paths::group("d", volume_record(name).id), group.to_json()));
    for (auto& [service, server] : servers_) {
      if (server->state == "LEADER_FUNCTIONAL") server->state = "FOLLOWER_FUNCTIONAL";
      if (service == leader) server->state = "LEADER_FUNCTIONAL";
      server->leader = leader;
    }
  }

  runtime::VirtualLoop loop_;
  runtime::SeededRandom random_{7};
  coordination::MemoryTree tree_;
  rpc::MemoryNetwork network_{loop_};
  rpc::Router no_methods_;
  std::unique_ptr<coordination::Client> eye_;  // a session of the test's own
  std::unique_ptr<rpc::MemoryEndpoint> cli_;
  std::map<std::string, std::unique_ptr<ConfigProcess>> configs_;
  std::map<std::string, std::unique_ptr<FakeVolumeServer>> servers_;
};

}  // namespace datom::config_service

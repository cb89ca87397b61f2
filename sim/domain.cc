#include "sim/domain.h"

#include <fmt/core.h>

#include "common/bytes.h"
#include "config_service/init.h"
#include "coordination/client.h"
#include "protocol/config.pb.h"
#include "protocol/records.h"
#include "runtime/wait.h"

namespace datom::sim {

using runtime::Task;
using namespace std::chrono_literals;

namespace {
const std::string kDomain = "sim";
}  // namespace

Domain::Domain(std::uint64_t seed, const Faults& faults, const telemetry::Log& log)
    : ensemble(loop, stream(seed, FaultClass::stale_read, 2).next()),
      network(loop, stream(seed, "network").next()),
      random_(stream(seed, "domain")),
      record_changed_(loop),
      tasks_(loop, [](std::exception_ptr error) { std::rethrow_exception(error); }) {
  admin_ = ensemble.open_observer(loop);
  // What befalls a disk must befall the volume that is watched.
  const bool sound = faults.failed_syncs == 0 && faults.full_disks == 0;
  if (sound && !faults.membership()) neighbours_ = stream(seed, "neighbours").below(3);
  if (faults.membership()) {
    config = std::make_unique<ConfigServer>(loop, ensemble, network, kDomain,
                                            stream(seed, "config service").next(),
                                            faults.coordination_delay, log);
  }
  runtime::SeededRandom drifts = stream(seed, FaultClass::drift, 1);
  const std::size_t many = faults.membership() ? kReplicas + 2 : kReplicas;
  for (std::size_t i = 0; i < many; ++i) {
    const std::string name = fmt::format("vs{}", i + 1);
    const auto widest = static_cast<std::uint64_t>(faults.drift);
    Server::Traits traits;
    traits.seed = stream(seed, name).next();
    traits.slowest_disk = faults.slowest_disk;
    traits.stall_one_in = faults.stall_one_in;
    traits.slowest_coordination = faults.coordination_delay;
    traits.drift = static_cast<std::int64_t>(drifts.below(2 * widest + 1)) - faults.drift;
    servers.push_back(
        std::make_unique<Server>(loop, ensemble, network, kDomain, name, traits, log));
  }
}

Task<void> Domain::start(const Faults& faults, OnRecord on_record) {
  co_await create_tree(faults);
  co_await create_volume(faults);
  if (config) co_await config->start();
  tasks_.spawn(follow_record(std::move(on_record)));
  for (auto& server : servers) co_await server->start();
  network.faults = faults.network;
  ensemble.lag(faults.coordination_lag);
}

Task<void> Domain::stop() {
  stopping_ = true;
  record_changed_.set();
  co_await tasks_.close();
  if (config) co_await config->stop();
}

Task<void> Domain::follow_record(OnRecord on_record) {
  coordination::WatchHandle watch;
  while (!stopping_) {
    record_changed_.clear();
    const auto node = co_await admin_->get(record_path_, [this] { record_changed_.set(); }, watch);
    if (node) {
      record = protocol::GroupRecord::from_json(node->data);
      on_record(record);
    }
    co_await record_changed_.wait();
  }
}

Task<bool> Domain::moving() {
  const auto node = co_await admin_->get(protocol::paths::volume(kDomain, kVolume));
  co_return !protocol::VolumeRecord::from_json(node->data).move_to.is_nil();
}

Task<bool> Domain::is_member(Server& server) {
  if (!server.up()) co_return false;
  const std::string parent = protocol::paths::group_members(kDomain, kVolumeId);
  const auto names = co_await admin_->children(parent);
  if (!names) co_return false;
  for (const std::string& name : *names) {
    const auto node = co_await admin_->get(parent + "/" + name);
    const bool own = node && node->stat.ephemeral_owner == server.session();
    if (own && node->data == server.name()) co_return true;
  }
  co_return false;
}

Task<void> Domain::until(runtime::Time time) {
  runtime::Timer timer(loop);
  co_await timer.sleep_until(time);
}

Task<void> Domain::create_tree(const Faults& faults) {
  protocol::InitRequest request;
  request.set_domain(kDomain);
  co_await config_service::make_tree(*admin_, random_, std::move(request));
  for (const auto& server : servers) co_await register_server(server->name());
  if (faults.tiny_journal) {
    co_await set_property("journal.retention_bytes", "1048576");
    co_await set_property("checkpoint.interval_ms", "200");
  }
  if (faults.long_lease) {
    if (!faults.no_lease) co_await set_property("group.lease_ms", "1000");
    co_await set_property("group.election_timeout_ms", "200");
    co_await set_property("group.heartbeat_ms", "50");
  }
  if (faults.no_lease) co_await set_property("group.lease_ms", "0");
  if (faults.client_timeout > 0ms) {
    co_await set_property("client.timeout_ms", fmt::format("{}", faults.client_timeout / 1ms));
  }
  if (faults.wipe) co_await set_property("replace.after_ms", "2000");
  co_await set_property("cache.bytes", std::to_string(faults.cache_blocks * kBlockSize));
}

// On a node of its own.
Task<void> Domain::register_server(std::string service) {
  protocol::NodeRecord node;
  node.uuid = Uuid::from_random(random_.next(), random_.next());
  node.host = "host-" + service;
  const std::string name = "node-" + service;
  co_await admin_->create(protocol::paths::node(kDomain, name), node.to_json());
  protocol::ServiceRecord of_service;
  of_service.node = name;
  of_service.port = 7400;
  co_await admin_->create(protocol::paths::service(kDomain, service), of_service.to_json());
}

Task<void> Domain::create_volume(const Faults& faults) {
  protocol::VolumeRecord volume;
  volume.id = kVolumeId;
  volume.name = kVolume;
  volume.size = kVolumeSize;
  volume.access = faults.shared ? protocol::Access::shared : protocol::Access::exclusive;
  for (std::uint64_t i = 0; i < kReplicas; ++i) {
    volume.replicas.push_back({servers[i]->name(), Uuid::from_random(i + 1, 9)});
  }
  record_path_ = co_await create(volume);
  for (std::uint64_t i = 1; i <= neighbours_; ++i) co_await create_neighbour(i);
}

Task<void> Domain::create_neighbour(std::uint64_t number) {
  protocol::VolumeRecord volume;
  volume.id = Uuid::from_random(7, 7 + number);
  volume.name = fmt::format("neighbour{}", number);
  volume.size = kVolumeSize;
  for (std::uint64_t i = 0; i < kReplicas; ++i) {
    volume.replicas.push_back({servers[i]->name(), Uuid::from_random(i + 1, 9 + number)});
  }
  co_await create(std::move(volume));
}

// Gives the path of its group's record.
Task<std::string> Domain::create(protocol::VolumeRecord volume) {
  namespace paths = protocol::paths;
  protocol::GroupRecord group;
  group.voters = volume.replicas;
  const std::string path = paths::group(kDomain, volume.id);
  co_await admin_->create(path, group.to_json());
  co_await admin_->create(paths::group_members(kDomain, volume.id), "");
  co_await admin_->create(paths::group_locks(kDomain, volume.id), "");
  co_await admin_->create(paths::volume(kDomain, volume.name), volume.to_json());
  co_return path;
}

Task<void> Domain::set_property(std::string name, std::string value) {
  protocol::PropertyRecord property;
  property.value = std::move(value);
  co_await admin_->create(protocol::paths::property(kDomain, name), property.to_json());
}

}  // namespace datom::sim

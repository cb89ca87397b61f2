#include "sim/domain.h"

#include <fmt/core.h>

#include "coordination/client.h"
#include "protocol/records.h"
#include "runtime/wait.h"

namespace datom::sim {

using runtime::Task;

namespace {
const std::string kDomain = "sim";
}  // namespace

Domain::Domain(std::uint64_t seed, const Faults& faults, const telemetry::Log& log)
    : network(loop, stream(seed, "network").next()),
      record_changed_(loop),
      tasks_(loop, [](std::exception_ptr error) { std::rethrow_exception(error); }) {
  admin_ = tree.open_session(loop);
  runtime::SeededRandom drifts = stream(seed, FaultClass::drift, 1);
  for (std::size_t i = 0; i < kServers; ++i) {
    const std::string name = fmt::format("vs{}", i + 1);
    const auto widest = static_cast<std::uint64_t>(faults.drift);
    Server::Traits traits;
    traits.seed = stream(seed, name).next();
    traits.slowest_disk = faults.slowest_disk;
    traits.drift = static_cast<std::int64_t>(drifts.below(2 * widest + 1)) - faults.drift;
    servers.push_back(std::make_unique<Server>(loop, tree, network, kDomain, name, traits, log));
  }
}

Task<void> Domain::start(const Faults& faults, OnRecord on_record) {
  co_await create_volume(faults);
  tasks_.spawn(follow_record(std::move(on_record)));
  for (auto& server : servers) co_await server->start();
  network.faults = faults.network;
}

Task<void> Domain::stop() {
  stopping_ = true;
  record_changed_.set();
  co_await tasks_.close();
}

Task<void> Domain::follow_record(OnRecord on_record) {
  coordination::WatchHandle watch;
  while (!stopping_) {
    record_changed_.clear();
    const auto node = co_await admin_->get(record_path_, [this] { record_changed_.set(); }, watch);
    if (node) on_record(protocol::GroupRecord::from_json(node->data));
    co_await record_changed_.wait();
  }
}

Task<void> Domain::until(runtime::Time time) {
  runtime::Timer timer(loop);
  co_await timer.sleep_until(time);
}

Task<void> Domain::create_volume(const Faults& faults) {
  namespace paths = protocol::paths;
  protocol::VolumeRecord record;
  record.id = Uuid::from_random(7, 7);
  record.name = kVolume;
  record.size = kVolumeSize;
  record.access = faults.shared ? protocol::Access::shared : protocol::Access::exclusive;
  for (std::uint64_t i = 0; i < kServers; ++i) {
    record.replicas.push_back({servers[i]->name(), Uuid::from_random(i + 1, 9)});
  }
  protocol::GroupRecord group;
  group.voters = record.replicas;
  for (const std::string& path :
       {paths::volumes(kDomain), paths::groups(kDomain), paths::properties(kDomain)}) {
    co_await coordination::ensure_path(*admin_, path);
  }
  record_path_ = paths::group(kDomain, record.id);
  co_await admin_->create(record_path_, group.to_json());
  co_await admin_->create(paths::group_members(kDomain, record.id), "");
  co_await admin_->create(paths::group_locks(kDomain, record.id), "");
  co_await admin_->create(paths::volume(kDomain, kVolume), record.to_json());
  if (faults.tiny_journal) {
    co_await set_property("journal.retention_bytes", "1048576");
    co_await set_property("checkpoint.interval_ms", "200");
  }
}

Task<void> Domain::set_property(std::string name, std::string value) {
  protocol::PropertyRecord property;
  property.value = std::move(value);
  co_await admin_->create(protocol::paths::property(kDomain, name), property.to_json());
}

}  // namespace datom::sim

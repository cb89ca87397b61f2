// The domain that a seed runs: volume servers (the production code) over simulated disks, network
// and coordination, in virtual time, and one volume.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "protocol/records.h"
#include "runtime/task_group.h"
#include "runtime/virtual_loop.h"
#include "runtime/wait.h"
#include "sim/config_server.h"
#include "sim/ensemble.h"
#include "sim/faults.h"
#include "sim/network.h"
#include "sim/server.h"
#include "telemetry/log.h"

namespace datom::sim {

inline constexpr std::size_t kReplicas = 3;
inline constexpr std::uint64_t kBlocks = 12;  // that clients use: few, so that operations meet
inline constexpr std::uint64_t kVolumeSize = 16 << 20;

class Domain {
 public:
  Domain(std::uint64_t seed, const Faults& faults, const telemetry::Log& log);

  // Makes the volume, starts the servers. `on_record` hears what the group's record is, then and
  // whenever it changes, until stop().
  using OnRecord = std::function<void(const protocol::GroupRecord&)>;
  runtime::Task<void> start(const Faults& faults, OnRecord on_record);
  runtime::Task<void> stop();

  // A replica is on its way to another server.
  runtime::Task<bool> moving();
  // The server's part in the volume's group is known to coordination, by its present session.
  runtime::Task<bool> is_member(Server& server);

  runtime::Task<void> until(runtime::Time time);
  runtime::Task<void> pause(runtime::Duration duration) { return until(loop.now() + duration); }

  runtime::VirtualLoop loop;
  Ensemble ensemble;
  Network network;
  std::vector<std::unique_ptr<Server>> servers;
  std::unique_ptr<ConfigServer> config;  // where replicas may move
  // The group's record as it was a moment ago.
  protocol::GroupRecord record;

 private:
  runtime::Task<void> create_tree(const Faults& faults);
  runtime::Task<void> register_server(std::string service);
  runtime::Task<void> create_volume(const Faults& faults);
  runtime::Task<void> create_neighbour(std::uint64_t number);
  runtime::Task<std::string> create(protocol::VolumeRecord volume);
  runtime::Task<void> set_property(std::string name, std::string value);

  runtime::Task<void> follow_record(OnRecord on_record);

  runtime::SeededRandom random_;
  // Volumes that nobody uses, on the same servers: what their groups say travels together with what
  // is said of the volume.
  std::uint64_t neighbours_ = 0;
  std::unique_ptr<coordination::Client> admin_;
  std::string record_path_;
  bool stopping_ = false;
  runtime::Event record_changed_;
  runtime::TaskGroup tasks_;
};

}  // namespace datom::sim

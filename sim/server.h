// One simulated machine with a volume server: its clock, its disk, and one process after another.
#pragma once

#include <memory>
#include <set>
#include <string>

#include "common/uuid.h"
#include "properties/properties.h"
#include "protocol/volume.pb.h"
#include "runtime/task_group.h"
#include "runtime/virtual_loop.h"
#include "sim/disk.h"
#include "sim/ensemble.h"
#include "sim/network.h"
#include "sim/node_loop.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"
#include "volume/volume_server.h"

namespace datom::sim {

inline const std::string kVolume = "v";
inline const Uuid kVolumeId = Uuid::from_random(7, 7);

class Server {
 public:
  struct Traits {
    std::uint64_t seed = 0;
    runtime::Duration slowest_disk{};          // an operation takes up to so long
    std::uint64_t stall_one_in = 0;            // of them stalls for up to three seconds; 0: none
    std::int64_t drift = 0;                    // of the clock, in millionths
    runtime::Duration slowest_coordination{};  // each way
  };
  Server(runtime::VirtualLoop& world, Ensemble& ensemble, Network& network, std::string domain,
         std::string name, Traits traits, telemetry::Log log);
  // Down.
  ~Server();

  // Waits while coordination is out, as boot does.
  runtime::Task<void> start();
  // As kill -9 with a power cut: nothing more leaves it, the disk loses what was not synced. Its
  // ephemeral nodes vanish after `linger`. Its clients then close, and bury() unwinds the process's
  // objects, cut off from everything as they are.
  void kill(runtime::Duration linger);
  runtime::Task<void> bury();
  // In order, as on SIGTERM.
  runtime::Task<void> stop();
  // As SIGSTOP and SIGCONT, or a suspend: the process does nothing, the world goes on.
  void freeze() { loop_.stop(); }
  void thaw() { loop_.resume(); }
  // Its coordination session ends while it lives. Then it opens another, as the service does.
  void expire_session();
  // It gives its session up, and coordination keeps that one for so long yet.
  void give_up_session(runtime::Duration kept);
  // REQUIRES: it is cut off; it hears of it when it is no more.
  void expire_session_unseen();
  runtime::Task<void> renew_session();
  void cut_coordination(bool cut);

  bool up() const { return up_; }
  // Nothing of a process is left.
  bool buried() const { return process_ == nullptr; }
  // Which of its processes runs, or ran last: counted from 1.
  std::uint64_t incarnation() const { return incarnation_; }
  // The present one with coordination. While up.
  std::int64_t session() const { return process_->sessions.back()->session_id(); }
  const std::string& name() const { return name_; }
  // On loop() only, while up.
  volume::VolumeServer& volumes() { return *process_->server; }
  runtime::Loop& loop() { return loop_; }
  Disk& disk() { return disk_; }
  // Of the only volume.
  std::string replica_directory() const;
  // What the volume's replicas here say of themselves.
  runtime::Task<protocol::ReplicaStatusReply> status();
  // As a peer that is in the same process.
  runtime::Task<rpc::Message> ask(rpc::Method method, std::string request);

 private:
  // Everything that dies with the process, in the order in which it was made.
  struct Process {
    std::unique_ptr<runtime::Filesystem> files;
    std::vector<std::unique_ptr<coordination::Client>> sessions;  // the last one is the present one
    std::unique_ptr<properties::Properties> properties;
    telemetry::Metrics metrics;
    rpc::Router router;
    std::unique_ptr<Network::Endpoint> caller;
    std::unique_ptr<volume::VolumeServer> server;
  };

  runtime::Task<void> announce();
  runtime::Task<void> unwind();
  void open_session();

  runtime::VirtualLoop& world_;
  Ensemble& ensemble_;
  Network& network_;
  const std::string domain_;
  const std::string name_;
  telemetry::Log log_;
  runtime::SeededRandom random_;
  const runtime::Duration slowest_coordination_;
  NodeLoop loop_;
  Disk disk_;
  bool up_ = false;
  std::uint64_t incarnation_ = 0;
  std::unique_ptr<Process> process_;
};

}  // namespace datom::sim

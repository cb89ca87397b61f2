#include "sim/convergence.h"

#include <fmt/core.h>

#include <algorithm>

#include "protocol/methods.h"
#include "protocol/volume.pb.h"

namespace datom::sim {

using runtime::Task;
using namespace std::chrono_literals;

namespace {
constexpr runtime::Duration kLimit = 120s;
}  // namespace

Task<void> Convergence::demand() {
  domain_.network.faults = {};
  domain_.network.heal();
  domain_.ensemble.calm();
  for (auto& server : domain_.servers) server->disk().calm();
  co_await restart_stopped();
  co_await domain_.pause(1s);  // clients go on without faults
  clients_.finish();
  const runtime::Time limit = domain_.loop.now() + kLimit;
  while (clients_.running() > 0 && domain_.loop.now() < limit) {
    co_await domain_.pause(20ms);
    co_await restart_stopped();  // an operation that had stalled may have been refused only now
  }
  // A change that nobody waits for any more may yet take effect; not behind the last reads.
  co_await domain_.until(domain_.network.late_until());
  const bool answered = clients_.running() == 0;
  std::string last;
  bool converged = false;
  while (!converged && domain_.loop.now() < limit) {
    co_await domain_.pause(50ms);
    co_await restart_stopped();
    converged = co_await reached(last);
  }
  if (!converged && invariants_.beyond_repair()) {
    verdict_.count("excused: too few whole replicas left");
  } else {
    if (!answered) verdict_.fail("clients wait for ever although everything is healed: " + last);
    if (!converged) verdict_.fail("no convergence: " + last);
  }
  if (answered && converged) {
    co_await clients_.read_everything(0);
    co_await repair();
  }
  co_await bounds_.close();
  if (!answered) co_await kill_everything();
  for (auto& server : domain_.servers) {
    if (server->up()) co_await server->stop();
  }
  if (answered && converged) co_await compare_files();
  co_await clients_.close();
}

// Clients wait for what does not come: their connections break.
Task<void> Convergence::kill_everything() {
  for (std::size_t at = 0; at < domain_.servers.size(); ++at) {
    domain_.servers[at]->kill(0s);
    while (clients_.attached(at) > 0) co_await domain_.pause(1ms);
    co_await domain_.servers[at]->bury();
  }
  while (clients_.running() > 0) co_await domain_.pause(1ms);
}

// Whoever runs the domain restarts what its disk has stopped.
Task<void> Convergence::restart_stopped() {
  for (std::size_t at = 0; at < domain_.servers.size(); ++at) {
    Server& server = *domain_.servers[at];
    const protocol::ReplicaStatusReply reply = co_await server.status();
    std::string trouble;
    for (const auto& replica : reply.replicas()) trouble += replica.trouble();
    if (trouble.find("differ") != std::string::npos) {
      verdict_.fail(server.name() + ": " + trouble);
    }
    if (trouble.empty()) continue;
    verdict_.count("replica stopped by its disk");
    server.kill(0s);
    while (clients_.attached(at) > 0) co_await domain_.pause(1ms);
    co_await server.bury();
    co_await server.start();
  }
}

// Every member reads every block; what does not match comes back from another one.
Task<void> Convergence::repair() {
  for (const protocol::ReplicaRecord& voter : domain_.record.voters) {
    Server& server = server_of(voter);
    protocol::CheckBlocksRequest request;
    request.set_volume(kVolumeId.bytes.data(), kVolumeId.bytes.size());
    request.set_end_block(kBlocks);
    const rpc::Message answer =
        co_await server.ask(protocol::method::kCheckBlocks, request.SerializeAsString());
    protocol::CheckBlocksReply reply;
    if (!reply.ParseFromString(answer.header)) verdict_.fail("a check of blocks does not parse");
    for (const auto& damage : reply.damaged()) {
      verdict_.count("block repaired at the end");
      if (damage.repaired()) continue;
      verdict_.fail(fmt::format("block {} of {} is damaged and was not repaired", damage.block(),
                                server.name()));
    }
  }
}

// What lies on the disks, read beside all code that wrote it, is what clients read last. Blocks
// that were never written may hold anything.
Task<void> Convergence::compare_files() {
  for (const protocol::ReplicaRecord& voter : domain_.record.voters) {
    Server& server = server_of(voter);
    const std::string path = server.replica_directory() + "/layers/0/data";
    const auto files = server.disk().look();
    const auto file = co_await files->open(path, {});
    Buffer content = Buffer::zeroed(kBlocks * kBlockSize);
    co_await file->read(0, content.mutable_view());
    for (const auto& [block, value] : clients_.last_values()) {
      if (value == 0 || value_of(content.data() + block * kBlockSize) == value) continue;
      verdict_.fail(fmt::format("block {} is not on the disk of {} as clients read it", block,
                                server.name()));
    }
  }
}

Server& Convergence::server_of(const protocol::ReplicaRecord& voter) {
  const auto found = std::find_if(domain_.servers.begin(), domain_.servers.end(),
                                  [&](const auto& one) { return one->name() == voter.service; });
  return **found;
}

Task<protocol::ReplicaStatus> Convergence::status_of(protocol::ReplicaRecord voter) {
  const std::string uuid(voter.replica.bytes.begin(), voter.replica.bytes.end());
  const protocol::ReplicaStatusReply reply = co_await server_of(voter).status();
  for (const protocol::ReplicaStatus& one : reply.replicas()) {
    if (one.replica() == uuid) co_return one;
  }
  protocol::ReplicaStatus none;
  none.set_trouble(
      fmt::format("{} does not tell of it; it says: {}", voter.service, reply.ShortDebugString()));
  co_return none;
}

Task<bool> Convergence::reached(std::string& what) {
  const protocol::GroupRecord record = domain_.record;
  what = fmt::format("voters {} next {} learners {} ", record.voters.size(),
                     record.next_voters.size(), record.learners.size());
  std::vector<protocol::ReplicaStatus> all;
  for (const protocol::ReplicaRecord& voter : record.voters) {
    protocol::ReplicaStatus one = co_await status_of(voter);
    const bool member = co_await domain_.is_member(server_of(voter));
    if (!member) one.set_trouble(one.trouble() + "not a member in coordination");
    all.push_back(std::move(one));
  }
  const bool moving = co_await domain_.moving();
  bool good = !moving && record.next_voters.empty() && record.learners.empty();
  bool led = false;
  for (const protocol::ReplicaStatus& one : all) {
    what += fmt::format("[{} term {} commit {} applied {} last {} fingerprint {:x} {}] ",
                        one.state(), one.term(), one.commit_op(), one.applied_op(), one.last_op(),
                        one.fingerprint(), one.trouble());
    highest_term_ = std::max(highest_term_, one.term());
    led = led || one.state() == "LEADER_FUNCTIONAL";
    good = good && one.trouble().empty() && one.role() != "elector" &&
           one.applied_op() == all[0].applied_op() && one.last_op() == one.applied_op() &&
           (one.role() == "leader" || one.state() == "FOLLOWER_FUNCTIONAL");
  }
  // A count may be wrong for a while: they find out, or say that they differ.
  for (const protocol::ReplicaStatus& one : all) {
    good = good && one.fingerprint() == all[0].fingerprint();
  }
  co_return good&& led;
}

}  // namespace datom::sim

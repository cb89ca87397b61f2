#include "config_service/views.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "config_service/move_step.h"

namespace datom::config_service {
namespace {

using protocol::VolumeMember;

constexpr std::string_view kServes = "LEADER_FUNCTIONAL";
constexpr std::string_view kFollows = "FOLLOWER_FUNCTIONAL";

protocol::Hardware hardware_view(const protocol::HardwareRecord& record) {
  protocol::Hardware view;
  view.set_processor(record.processor);
  view.set_cores(record.cores);
  view.set_threads(record.threads);
  view.set_memory_bytes(record.memory_bytes);
  for (const protocol::DiskRecord& disk : record.disks) {
    protocol::Disk& item = *view.add_disks();
    item.set_name(disk.name);
    item.set_model(disk.model);
    item.set_bytes(disk.bytes);
    item.set_rotational(disk.rotational);
  }
  for (const protocol::LinkRecord& link : record.links) {
    protocol::Link& item = *view.add_links();
    item.set_name(link.name);
    for (const std::string& address : link.addresses) item.add_addresses(address);
    item.set_megabits_per_second(link.megabits_per_second);
  }
  return view;
}

// What the service says of its replica.
void fill_report(const protocol::ReplicaStatus& status, VolumeMember& member) {
  if (status.replica().empty()) {
    member.set_trouble(status.trouble());
    return;
  }
  member.set_state(status.state());
  member.set_role(status.role());
  member.set_term(status.term());
  member.set_applied_op(status.applied_op());
  member.set_commit_op(status.commit_op());
  member.set_last_op(status.last_op());
  member.set_bytes_used(status.bytes_used());
  member.set_sync_bytes(status.sync_bytes());
  member.set_scrub_position(status.scrub_position());
  if (status.scrubbed_at() > 0) member.set_scrubbed_at(status.scrubbed_at());
  member.set_repaired_blocks(status.repaired_blocks());
  if (status.sync_copying()) member.set_sync_blocks_done(status.sync_blocks_done());
  if (status.sync_blocks_total() > 0) member.set_sync_blocks_total(status.sync_blocks_total());
  member.set_trouble(status.trouble());
}

VolumeMember member_view(const Domain& domain, const protocol::VolumeRecord& volume,
                         const protocol::ReplicaRecord& replica, const Answers& answers) {
  VolumeMember member;
  member.set_service(replica.service);
  member.set_node(domain.node_of(replica.service));
  member.set_replica(replica.replica.to_string());
  const auto answer = answers.find(replica.service);
  if (answer == answers.end()) {
    member.set_trouble(fmt::format("{} was not asked", replica.service));
    return member;
  }
  if (!answer->second.trouble.empty()) {
    member.set_trouble(fmt::format("{} {}", replica.service, answer->second.trouble));
    return member;
  }
  const protocol::ReplicaStatus* status = find_replica(answer->second, volume.id, replica.replica);
  if (status == nullptr) {
    const bool comes = replica.replica == volume.move_to;
    const bool another = has_replica(answer->second, volume.id);
    member.set_trouble(replica.service + (comes     ? " has not made this replica yet"
                                          : another ? " has another replica of this volume"
                                                    : " does not have this replica"));
    return member;
  }
  fill_report(*status, member);
  return member;
}

bool is_among(const std::vector<protocol::ReplicaRecord>& replicas,
              const protocol::ReplicaRecord& replica) {
  return std::find(replicas.begin(), replicas.end(), replica) != replicas.end();
}

std::string_view membership(const protocol::VolumeRecord& volume,
                            const protocol::GroupRecord& group,
                            const protocol::ReplicaRecord& replica) {
  const bool joint = !group.next_voters.empty();
  const bool votes = is_among(group.voters, replica);
  const bool will_vote = joint ? is_among(group.next_voters, replica) : votes;
  if (votes) return will_vote ? "voter" : "leaving";
  if (will_vote) return "joining";
  for (const protocol::LearnerRecord& learner : group.learners) {
    if (learner.member == replica) return "learner";
  }
  return replica.replica == volume.move_to ? "placed" : "leaving";
}

protocol::VolumeMove move_view(const protocol::VolumeRecord& volume,
                               const protocol::GroupRecord& group, const Move& move) {
  protocol::VolumeMove view;
  view.set_from(move.from.service);
  view.set_from_replica(move.from.replica.to_string());
  view.set_to(move.to.service);
  view.set_to_replica(move.to.replica.to_string());
  view.set_phase(std::string(name(phase_of(volume, group))));
  return view;
}

// How the new replica is, and how far its copying has come.
void fill_progress(protocol::VolumeMove& move, const protocol::Volume& volume) {
  for (const VolumeMember& member : volume.members()) {
    if (member.replica() != move.to_replica()) continue;
    move.set_trouble(member.trouble());
    if (move.phase() != name(MovePhase::syncing) || member.sync_blocks_total() == 0) continue;
    const std::uint64_t done = std::min(member.sync_blocks_done(), member.sync_blocks_total());
    move.set_percent(static_cast<std::uint32_t>(done * 100 / member.sync_blocks_total()));
  }
}

void fill_membership(const protocol::VolumeRecord& volume, const protocol::GroupRecord& group,
                     const protocol::ReplicaRecord& replica, VolumeMember& member) {
  member.set_membership(std::string(membership(volume, group, replica)));
  member.set_voter(is_among(group.voters, replica) || is_among(group.next_voters, replica));
}

// The member that serves; of several that say so, the one of the highest term.
const VolumeMember* find_leader(const protocol::Volume& view) {
  const VolumeMember* leader = nullptr;
  for (const VolumeMember& member : view.members()) {
    if (member.state() != kServes) continue;
    if (leader == nullptr || member.term() > leader->term()) leader = &member;
  }
  return leader;
}

bool all_voters_functional(const protocol::Volume& view, const VolumeMember& leader) {
  return std::all_of(view.members().begin(), view.members().end(), [&](const VolumeMember& member) {
    return !member.voter() || &member == &leader || member.state() == kFollows;
  });
}

// The leader's first, so that a client that takes the first one goes no detour.
void fill_nbd(const Domain& domain, protocol::Volume& view) {
  std::vector<std::string> services;
  if (view.has_leader()) services.push_back(view.leader());
  for (const VolumeMember& member : view.members()) {
    const bool listed =
        std::find(services.begin(), services.end(), member.service()) != services.end();
    if (!listed) services.push_back(member.service());
  }
  for (const std::string& service : services) {
    const auto instance = domain.instances.find(service);
    if (instance == domain.instances.end()) continue;
    const std::string& address = instance->second.record.nbd_address;
    if (!address.empty()) view.add_nbd(fmt::format("nbd://{}/{}", address, view.name()));
  }
}

void fill_health(protocol::Volume& view) {
  std::uint64_t commit_op = 0;
  for (const VolumeMember& member : view.members()) {
    commit_op = std::max(commit_op, member.commit_op());
  }
  view.set_commit_op(commit_op);
  const VolumeMember* leader = find_leader(view);
  if (leader == nullptr) {
    view.set_state("unavailable");
    return;
  }
  view.set_leader(leader->service());
  view.set_state(all_voters_functional(view, *leader) ? "healthy" : "degraded");
}

std::vector<protocol::HeldReplica> held(const Domain& domain, const std::string& node) {
  std::vector<protocol::HeldReplica> result;
  for (const auto& [name, volume] : domain.volumes) {
    const auto group = domain.groups.find(volume.record.id.to_string());
    const std::optional<Move> move = move_of(volume.record);
    for (const protocol::ReplicaRecord& replica : domain.replicas_of(volume.record)) {
      if (domain.node_of(replica.service) != node) continue;
      protocol::HeldReplica& item = result.emplace_back();
      item.set_volume(name);
      item.set_service(replica.service);
      item.set_replica(replica.replica.to_string());
      if (!move || group == domain.groups.end()) continue;
      *item.mutable_move() = move_view(volume.record, group->second.record, *move);
    }
  }
  return result;
}

}  // namespace

protocol::Node node_view(const Domain& domain, const std::string& name) {
  const protocol::NodeRecord& record = domain.nodes.at(name).record;
  protocol::Node view;
  view.set_name(name);
  view.set_uuid(record.uuid.to_string());
  view.set_host(record.host);
  view.set_state(std::string(protocol::name(record.state)));
  *view.mutable_hardware() = hardware_view(record.hardware);
  for (const auto& [service, entry] : domain.services) {
    if (entry.record.node == name) view.add_services(service);
  }
  view.set_replicas(static_cast<std::uint32_t>(held(domain, name).size()));
  return view;
}

protocol::Node node_info_view(const Domain& domain, const std::string& name) {
  protocol::Node view = node_view(domain, name);
  for (protocol::HeldReplica& replica : held(domain, name)) {
    *view.add_held() = std::move(replica);
  }
  return view;
}

protocol::Service service_view(const Domain& domain, const std::string& name) {
  const protocol::ServiceRecord& record = domain.services.at(name).record;
  protocol::Service view;
  view.set_name(name);
  view.set_type(std::string(protocol::name(record.type)));
  view.set_node(record.node);
  view.set_port(record.port);
  view.set_nbd_port(record.nbd_port);
  const auto found = domain.instances.find(name);
  view.set_up(found != domain.instances.end());
  if (!view.up()) return view;
  const rpc::Instance& instance = found->second.record;
  view.set_address(instance.address);
  if (!instance.nbd_address.empty()) view.set_nbd_address(instance.nbd_address);
  view.set_pid(instance.pid);
  return view;
}

protocol::Volume volume_view(const Domain& domain, const std::string& name,
                             const Answers& answers) {
  const protocol::VolumeRecord& record = domain.volumes.at(name).record;
  protocol::Volume view;
  view.set_name(record.name);
  view.set_id(record.id.to_string());
  view.set_size(record.size);
  view.set_block_size(record.block_size);
  view.set_replicas(static_cast<std::uint32_t>(record.replicas.size()));
  view.set_access(std::string(protocol::name(record.access)));
  view.set_removing(record.removing);
  view.set_iops_limit(record.limits.iops);
  view.set_mib_limit(record.limits.mib);
  view.set_burst(record.limits.burst);
  const std::optional<Move> move = move_of(record);
  if (move) view.set_replicas(view.replicas() - 1);
  const auto found = domain.groups.find(record.id.to_string());
  protocol::GroupRecord group;  // without one, those who are listed are to vote
  group.voters = record.replicas;
  if (found != domain.groups.end()) group = found->second.record;
  view.set_term(group.term.value());
  if (move) *view.mutable_move() = move_view(record, group, *move);
  for (const protocol::ReplicaRecord& replica : domain.replicas_of(record)) {
    VolumeMember& member = *view.add_members();
    member = member_view(domain, record, replica, answers);
    fill_membership(record, group, replica, member);
  }
  if (move) fill_progress(*view.mutable_move(), view);
  fill_health(view);
  fill_nbd(domain, view);
  return view;
}

}  // namespace datom::config_service

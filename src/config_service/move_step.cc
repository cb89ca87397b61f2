#include "config_service/move_step.h"

#include <algorithm>
#include <array>
#include <vector>

namespace datom::config_service {
namespace {

using protocol::GroupRecord;
using protocol::ReplicaRecord;
using protocol::VolumeRecord;
using Replicas = std::vector<ReplicaRecord>;

const ReplicaRecord* find(const Replicas& replicas, const Uuid& replica) {
  const auto found = std::find_if(replicas.begin(), replicas.end(),
                                  [&](const auto& each) { return each.replica == replica; });
  return found == replicas.end() ? nullptr : &*found;
}

// Those of `all` that are not among `others`.
Replicas missing_in(const Replicas& others, const Replicas& all) {
  Replicas missing;
  for (const ReplicaRecord& each : all) {
    if (find(others, each.replica) == nullptr) missing.push_back(each);
  }
  return missing;
}

VolumeRecord at_rest(VolumeRecord volume) {
  volume.move_from = Uuid();
  volume.move_to = Uuid();
  volume.undo_move = false;
  return volume;
}

VolumeRecord without(VolumeRecord volume, const Uuid& replica) {
  std::erase_if(volume.replicas, [&](const auto& each) { return each.replica == replica; });
  return at_rest(std::move(volume));
}

// The record that says what the group is doing: `goes` is replaced by `comes`. A new replica that
// was placed for another move never got there.
NextStep follow(const VolumeRecord& volume, const ReplicaRecord& goes, const ReplicaRecord& comes) {
  VolumeRecord wanted = volume;
  if (volume.move_to != comes.replica) wanted = without(wanted, volume.move_to);
  for (const ReplicaRecord& each : {goes, comes}) {
    if (find(wanted.replicas, each.replica) == nullptr) wanted.replicas.push_back(each);
  }
  wanted.move_from = goes.replica;
  wanted.move_to = comes.replica;
  wanted.undo_move = false;
  const bool said = wanted.replicas == volume.replicas && wanted.move_from == volume.move_from &&
                    wanted.move_to == volume.move_to && !volume.undo_move;
  if (said) return Rest();
  return WriteVolume{std::move(wanted)};
}

NextStep while_joint(const VolumeRecord& volume, const GroupRecord& group) {
  const Replicas goes = missing_in(group.next_voters, group.voters);
  const Replicas comes = missing_in(group.voters, group.next_voters);
  if (goes.size() != 1 || comes.size() != 1) return Rest();
  return follow(volume, goes[0], comes[0]);
}

NextStep without_move(const VolumeRecord& volume, const GroupRecord& group) {
  const Replicas unlisted = missing_in(volume.replicas, group.voters);
  const Replicas voteless = missing_in(group.voters, volume.replicas);
  if (unlisted.size() != 1 || voteless.size() != 1) return Rest();
  return follow(volume, voteless[0], unlisted[0]);
}

NextStep with_move(const VolumeRecord& volume, const GroupRecord& group, const Move& move) {
  const bool from_votes = find(group.voters, move.from.replica) != nullptr;
  const bool to_votes = find(group.voters, move.to.replica) != nullptr;
  if (to_votes && !from_votes) return WriteVolume{without(volume, move.from.replica)};
  if (to_votes) return Rest();
  const bool learns = !group.learners.empty();
  if (volume.undo_move || !from_votes) {
    if (learns) return AskCancel{move.to.replica};
    return WriteVolume{without(volume, move.to.replica)};
  }
  if (learns) return Rest();
  return AskReplace();
}

}  // namespace

std::optional<Move> move_of(const VolumeRecord& volume) {
  const ReplicaRecord* from = find(volume.replicas, volume.move_from);
  const ReplicaRecord* to = find(volume.replicas, volume.move_to);
  if (from == nullptr || to == nullptr) return std::nullopt;
  return Move{*from, *to};
}

std::string_view name(MovePhase phase) {
  constexpr std::array<std::string_view, 5> kNames = {"placing", "syncing", "joint", "done",
                                                      "undoing"};
  return kNames[static_cast<std::size_t>(phase)];
}

MovePhase phase_of(const VolumeRecord& volume, const GroupRecord& group) {
  if (find(group.voters, volume.move_to) != nullptr) return MovePhase::done;
  if (find(group.next_voters, volume.move_to) != nullptr) return MovePhase::joint;
  if (volume.undo_move) return MovePhase::undoing;
  return group.learners.empty() ? MovePhase::placing : MovePhase::syncing;
}

bool votes(const GroupRecord& group, const Uuid& replica) {
  return find(group.voters, replica) != nullptr || find(group.next_voters, replica) != nullptr;
}

NextStep next_step(const VolumeRecord& volume, const GroupRecord& group) {
  if (volume.removing) return Rest();
  if (!group.next_voters.empty()) return while_joint(volume, group);
  const std::optional<Move> move = move_of(volume);
  for (const protocol::LearnerRecord& learner : group.learners) {
    const bool wanted = move && learner.member.replica == move->to.replica &&
                        learner.replaces == move->from.replica;
    if (!wanted) return AskCancel{learner.member.replica};
  }
  if (move) return with_move(volume, group, *move);
  if (!volume.move_to.is_nil()) return WriteVolume{at_rest(volume)};
  return without_move(volume, group);
}

}  // namespace datom::config_service

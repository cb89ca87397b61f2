// Moving a replica of a volume to another server: what comes next, from what the coordination tree
// says alone, so that whichever config service is active goes on with it. Pure.
//
// A move is three things in turn: the volume's record lists the new replica besides the old one;
// the group's leader makes it a learner, then a voter in the old one's place (records.h,
// GroupRecord); the record lists the old one no more. The group's record is the authority on who
// votes; the volume's record follows it.
#pragma once

#include <optional>
#include <string_view>
#include <variant>

#include "common/uuid.h"
#include "protocol/records.h"

namespace datom::config_service {

struct Move {
  protocol::ReplicaRecord from;
  protocol::ReplicaRecord to;
};
// nullopt: none is under way.
std::optional<Move> move_of(const protocol::VolumeRecord& volume);

enum class MovePhase { placing, syncing, joint, done, undoing };
std::string_view name(MovePhase phase);
// REQUIRES: a move is under way.
MovePhase phase_of(const protocol::VolumeRecord& volume, const protocol::GroupRecord& group);

// Whether the replica votes, or is about to.
bool votes(const protocol::GroupRecord& group, const Uuid& replica);

struct Rest {};        // nothing to do, or the leader is at it
struct AskReplace {};  // of the leader: the volume's move
struct AskCancel {     // of the leader
  Uuid learner;
};
struct WriteVolume {  // while both records are as they were read
  protocol::VolumeRecord record;
};
using NextStep = std::variant<Rest, AskReplace, AskCancel, WriteVolume>;

// Also puts right what a request that was long on its way, of a config service that is active no
// more, has begun: such a learner is cancelled; where it votes already, the volume's record says
// so.
NextStep next_step(const protocol::VolumeRecord& volume, const protocol::GroupRecord& group);

}  // namespace datom::config_service

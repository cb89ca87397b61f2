#include "replication/state.h"

#include <algorithm>
#include <array>

namespace datom::replication {
namespace {

using enum State;
using enum Cause;

constexpr std::string_view kForget = "forget the leader; wait before standing as elector";
constexpr std::string_view kStepDown =
    "resign; release the lock; fail what clients wait for as unknown; forget followers";
constexpr std::string_view kGiveUp = "release the lock; wait before standing again";

constexpr std::array kTransitions = std::to_array<Transition>({
    {follower_wait_to_join_group, leader_contact, follower_syncing,
     "entries are missing or not yet durable", "report the end of the journal to the leader"},
    {follower_wait_to_join_group, caught_up, follower_functional,
     "everything the leader had at first contact is durable, base complete", "acks count"},
    {follower_wait_to_join_group, no_leader, ec_acquire_lock,
     "a member and voter, in touch with coordination, first of those that answer",
     "ask all voters; take the lock, replacing a dead holder's"},
    {follower_wait_to_join_group, chosen, leader_waiting_for_quorum,
     "promised = its term, same incarnation, journal ends as reported, not led before",
     "take the lock; broadcast"},
    {follower_syncing, caught_up, follower_functional,
     "everything the leader had at first contact is durable, base complete", "acks count"},
    {follower_syncing, leader_lost, follower_wait_to_join_group, "", kForget},
    {follower_syncing, higher_term, follower_wait_to_join_group, "", kForget},
    {follower_syncing, stop, follower_wait_to_join_group, "", kForget},
    {follower_functional, fell_behind, follower_syncing,
     "an Append's previous entry is not in the journal", "acks no longer count"},
    {follower_functional, leader_lost, follower_wait_to_join_group, "", kForget},
    {follower_functional, higher_term, follower_wait_to_join_group, "", kForget},
    {follower_functional, stop, follower_wait_to_join_group, "", kForget},
    {ec_acquire_lock, lock_acquired, ec_waiting_for_quorum, "it holds the lock",
     "ask all voters whether they are there and hear a leader"},
    {ec_acquire_lock, leader_is_there, follower_wait_to_join_group, "", kGiveUp},
    {ec_acquire_lock, higher_term, follower_wait_to_join_group, "", kGiveUp},
    {ec_acquire_lock, election_failed, follower_wait_to_join_group, "", kGiveUp},
    {ec_acquire_lock, session_expired, follower_wait_to_join_group, "", kGiveUp},
    {ec_acquire_lock, stop, follower_wait_to_join_group, "", kGiveUp},
    {ec_waiting_for_quorum, quorum_present, ec_election_in_progress,
     "Q voters answered, none hears a leader",
     "raise the term in the record, at best in the multi that took the lock; seal the voters"},
    {ec_waiting_for_quorum, leader_is_there, follower_wait_to_join_group, "", kGiveUp},
    {ec_waiting_for_quorum, higher_term, follower_wait_to_join_group, "", kGiveUp},
    {ec_waiting_for_quorum, election_failed, follower_wait_to_join_group, "", kGiveUp},
    {ec_waiting_for_quorum, session_expired, follower_wait_to_join_group, "", kGiveUp},
    {ec_waiting_for_quorum, stop, follower_wait_to_join_group, "", kGiveUp},
    {ec_election_in_progress, leader_named, follower_wait_to_join_group,
     "Q trustworthy seals; the record names the greatest (last term, last op)",
     "the record's write released the lock; send BecomeLeader"},
    {ec_election_in_progress, leader_is_there, follower_wait_to_join_group, "", kGiveUp},
    {ec_election_in_progress, higher_term, follower_wait_to_join_group, "", kGiveUp},
    {ec_election_in_progress, election_failed, follower_wait_to_join_group, "", kGiveUp},
    {ec_election_in_progress, session_expired, follower_wait_to_join_group, "", kGiveUp},
    {ec_election_in_progress, stop, follower_wait_to_join_group, "", kGiveUp},
    {leader_waiting_for_quorum, no_op_committed, leader_functional,
     "the lock is held, Q members are functional, earlier leases are over, the term's no-op is "
     "durable on Q",
     "serve clients"},
    {leader_waiting_for_quorum, quorum_lost, follower_wait_to_join_group, "", kStepDown},
    {leader_waiting_for_quorum, higher_term, follower_wait_to_join_group, "", kStepDown},
    {leader_waiting_for_quorum, session_expired, follower_wait_to_join_group, "", kStepDown},
    {leader_waiting_for_quorum, stop, follower_wait_to_join_group, "", kStepDown},
    {leader_functional, quorum_lost, follower_wait_to_join_group, "", kStepDown},
    {leader_functional, higher_term, follower_wait_to_join_group, "", kStepDown},
    {leader_functional, replaced, follower_wait_to_join_group,
     "the stable configuration does not have it", kStepDown},
    {leader_functional, session_expired, follower_wait_to_join_group, "", kStepDown},
    {leader_functional, stop, follower_wait_to_join_group, "", kStepDown},
});

}  // namespace

std::string_view name(State state) {
  switch (state) {
    case follower_wait_to_join_group:
      return "FOLLOWER_WAIT_TO_JOIN_GROUP";
    case follower_syncing:
      return "FOLLOWER_SYNCING";
    case follower_functional:
      return "FOLLOWER_FUNCTIONAL";
    case ec_acquire_lock:
      return "EC_ACQUIRE_LOCK";
    case ec_waiting_for_quorum:
      return "EC_WAITING_FOR_QUORUM";
    case ec_election_in_progress:
      return "EC_ELECTION_IN_PROGRESS";
    case leader_waiting_for_quorum:
      return "LEADER_WAITING_FOR_QUORUM";
    case leader_functional:
      return "LEADER_FUNCTIONAL";
  }
  return "?";
}

std::string_view name(Role role) {
  switch (role) {
    case Role::follower:
      return "follower";
    case Role::elector:
      return "elector";
    case Role::leader:
      return "leader";
  }
  return "?";
}

Role role_of(State state) {
  if (state < ec_acquire_lock) return Role::follower;
  return state < leader_waiting_for_quorum ? Role::elector : Role::leader;
}

std::string_view name(Cause cause) {
  switch (cause) {
    case leader_contact:
      return "leader_contact";
    case caught_up:
      return "caught_up";
    case fell_behind:
      return "fell_behind";
    case higher_term:
      return "higher_term";
    case no_leader:
      return "no_leader";
    case leader_lost:
      return "leader_lost";
    case lock_acquired:
      return "lock_acquired";
    case quorum_present:
      return "quorum_present";
    case leader_is_there:
      return "leader_is_there";
    case election_failed:
      return "election_failed";
    case leader_named:
      return "leader_named";
    case chosen:
      return "chosen";
    case no_op_committed:
      return "no_op_committed";
    case quorum_lost:
      return "quorum_lost";
    case replaced:
      return "replaced";
    case session_expired:
      return "session_expired";
    case stop:
      return "stop";
  }
  return "?";
}

std::span<const Transition> transitions() {
  return kTransitions;
}

bool allowed(State from, Cause cause, State to) {
  return std::any_of(kTransitions.begin(), kTransitions.end(), [&](const Transition& row) {
    return row.from == from && row.cause == cause && row.to == to;
  });
}

}  // namespace datom::replication

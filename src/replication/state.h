// The states of a replica in its group, and the one table of its transitions (docs/replication.md
// prints the same table; a test compares them).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace datom::replication {

enum class State : std::uint8_t {
  follower_wait_to_join_group,
  follower_syncing,
  follower_functional,
  ec_acquire_lock,
  ec_waiting_for_quorum,
  ec_election_in_progress,
  leader_waiting_for_quorum,
  leader_functional,
};

// "FOLLOWER_WAIT_TO_JOIN_GROUP" and so on.
std::string_view name(State state);

enum class Role : std::uint8_t { follower, elector, leader };
std::string_view name(Role role);
Role role_of(State state);

// Why a state changes.
enum class Cause : std::uint8_t {
  leader_contact,  // an Append of the promised term from its leader
  caught_up,       // everything the leader had when this replica joined is durable here
  fell_behind,     // the leader shows that entries are missing or differ
  higher_term,     // a message of a higher term
  no_leader,       // nobody led for a while and this replica is the first member
  leader_lost,     // the leader fell silent, its connection broke, or it left
  lock_acquired,
  quorum_present,   // Q voters answered and none hears a leader
  leader_is_there,  // a voter hears a leader
  election_failed,  // lock or term lost to another, no answer in time
  leader_named,     // the term's record names the leader
  chosen,           // BecomeLeader of the promised term
  no_op_committed,
  quorum_lost,      // no quorum of answers for two election timeouts
  replaced,         // another replica votes in the leader's place
  session_expired,  // the coordination session is gone
  stop,             // the service stops or hands over
};
std::string_view name(Cause cause);

struct Transition {
  State from;
  Cause cause;
  State to;
  std::string_view guard;
  std::string_view action;
};

// In the order of the document.
std::span<const Transition> transitions();

// Whether the table has it.
bool allowed(State from, Cause cause, State to);

}  // namespace datom::replication

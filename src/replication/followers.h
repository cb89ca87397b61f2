// What a leader knows of its followers in its term: how far each journal is known to equal the
// leader's, what was sent, who answers.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/uuid.h"
#include "replication/config.h"
#include "replication/effects.h"

namespace datom::replication {

using protocol::EntryId;

struct Follower {
  protocol::ReplicaRecord replica;
  bool functional = false;  // its acks count
  bool copying = false;
  bool copy_needed = false;  // its journal ends below the leader's base
  bool probing = true;  // looking for the op up to which the journals are equal; sends no entries
  std::uint64_t probe = 0;  // number of the last probe: refusals of earlier Appends are late
  bool reading = false;     // a ReadLog for it is under way
  Op next{1};               // next op to send: everything below is sent or known to be there
  Op acked;                 // equal to the leader's journal and durable there
  Op counted;               // of `acked`, what it asserted as a functional member
  Op applied;
  EntryId last;                 // end of its journal, as of its last answer
  std::uint64_t uncertain = 0;  // of its last answer: told back to it
  std::uint64_t round = 0;      // highest read round it confirmed
  Instant heard{};              // when it last answered in this term
  Instant echo{};               // when the newest Append that it answered was sent

  // Sent and not acked: (last op, bytes) of each batch; bounded by the window.
  std::deque<std::pair<Op, std::size_t>> in_flight;
  std::size_t in_flight_bytes = 0;

  void sent(Op last_op, std::size_t bytes);
  void ack(Op op);
  // Forgets what was sent: it was lost, or did not fit.
  void resume_at(Op op);
};

class Followers {
 public:
  // All members but `self`; each is taken to have the leader's `last` until it says otherwise.
  Followers(Config config, const Uuid& self, EntryId last, Instant now);

  // Another configuration is in force: who is new is taken to have `last`, who is gone goes.
  void reconfigure(Config config, EntryId last, Instant now);
  const Config& config() const { return config_; }

  // nullptr where it is none.
  Follower* find(const Uuid& replica);
  Follower* find_service(const std::string& service);
  std::map<Uuid, Follower>& all() { return followers_; }
  const std::map<Uuid, Follower>& all() const { return followers_; }

  // Whether a quorum, the leader included, is functional.
  bool quorum_functional() const;
  // The highest op that is durable on a quorum of functional voters, the leader's own copy being
  // `own_durable`.
  Op durable_on_quorum(Op own_durable) const;
  // The highest read round that a quorum, the leader included, has confirmed; `newest` is its own.
  std::uint64_t confirmed_round(std::uint64_t newest) const;
  // When a quorum, the leader included, had last answered.
  Instant quorum_heard(Instant now) const;
  // The latest time such that a quorum answered what was sent then or later: a lease counts from
  // it.
  Instant quorum_echo(Instant now) const;

 private:
  template <typename Value, typename Get>
  Value on_quorum(Value own, Get get) const;

  const Uuid self_;
  Config config_;
  std::map<Uuid, Follower> followers_;  // ordered: deterministic
};

}  // namespace datom::replication

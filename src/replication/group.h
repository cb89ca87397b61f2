// The group protocol: one replica's part in its group, as a pure state machine. Every method is an
// event and gives the effects that the driver must perform, in order. No clock, I/O or randomness
// of its own: the same events give the same effects. Rules: docs/replication.md.
//
// "Durable before sent" is kept by construction: a message that asserts durability is made only in
// the step in which the driver reports that durability.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "replication/config.h"
#include "replication/effects.h"
#include "replication/election.h"
#include "replication/followers.h"
#include "replication/log.h"
#include "replication/state.h"

namespace datom::replication {

struct Identity {
  Uuid volume;
  protocol::ReplicaRecord self;
  std::uint64_t incarnation = 0;  // random, drawn at each start
};

struct Options {
  Duration heartbeat = std::chrono::milliseconds(200);
  Duration election_timeout = std::chrono::milliseconds(1000);  // silence of a leader
  Duration lease = std::chrono::milliseconds(300);              // of reads; 0: rounds instead
  std::size_t window_bytes = 16 << 20;                          // sent to a follower and not acked
  std::size_t read_bytes = 1 << 20;                             // of one ReadLog
};

// What the replica found on its disk.
struct Durable {
  Term promised;
  EntryId base;                  // of the journal
  std::vector<EntryId> entries;  // that follow it
  Op committed;                  // certainly committed: applied, or a commit hint of the journal
  bool base_complete = true;
  bool head_certain = true;
};

class Group {
 public:
  Group(Identity identity, Options options, Durable durable, Instant now);

  // ---- events ----
  // Time passed; call at next_tick() at the latest.
  Effects tick(Instant now);
  Effects view_changed(Instant now, View view);
  // The outcome of a Coordinate; a View at least as new as the outcome was delivered before.
  // `path`: of the lock taken. `version`: of the record written.
  Effects coordinated(Instant now, std::uint64_t number, Outcome outcome, std::string path,
                      std::int32_t version);
  // `entries` belong to an Append (may be null) and have passed parse_batch.
  Effects receive(Instant now, const protocol::GroupMessage& message, Batch entries);
  // The connection to a service broke or was refused; a message or connection heals it.
  Effects peer_down(Instant now, const std::string& service);
  Effects promise_saved(Instant now, Term term);
  Effects log_written(Instant now, EntryId last);
  Effects log_truncated(Instant now);
  // `entries` null: they could not be read.
  Effects entries_read(Instant now, const Uuid& follower, Batch entries);
  // Leader: appends a batch made by the driver, its ops behind last(), of term(). REQUIRES:
  // can_propose(), or it is the no-op that NeedNoOp asked for: wants_no_op().
  Effects propose(Instant now, Batch batch);
  // Leader: a read round begins now; ReadsConfirmed follows. One at a time. REQUIRES:
  // can_propose().
  Effects begin_read_round(Instant now);
  // The journal was trimmed up to `op`, or an entry there cannot be read any more.
  void log_trimmed(Op op);
  // Whether the journal may be emptied to go on behind `base`, an op that the leader has applied.
  bool copy_wanted(const EntryId& base) const;
  // Copying begins: the journal is empty behind `base`. It ended: everything is durable, or it
  // failed and is to be asked for again.
  Effects copy_started(Instant now, EntryId base);
  Effects copy_ended(Instant now, bool complete);
  // Leader: makes `to` a learner in the place of the voter `from`; what follows comes by itself
  // (protocol::GroupRecord). Asked again, it answers the same. REQUIRES: can_propose().
  enum class Answer {
    done,         // the record says so or will, or is further already
    busy,         // the record is being written: ask again
    conflict,     // another replica is being replaced; cancel: it votes already
    not_a_voter,  // `from` is none
  };
  struct Answered {
    Answer answer;
    Effects effects;
  };
  Answered replace(Instant now, const Uuid& from, const ReplicaRecord& to);
  // Leader: `to` is a learner no more. REQUIRES: can_propose().
  Answered cancel_replace(Instant now, const Uuid& to);
  // Hands over: gives up every role for ever.
  Effects stop(Instant now);
  // Other timing; a lease counts only what is sent from now on.
  void configure(Instant now, Options options);
  // Leader: for the next broadcasts.
  void set_fingerprint(Op op, std::uint64_t fingerprint);

  // ---- what it is now ----
  Instant next_tick() const;
  State state() const { return state_; }
  Term promised() const { return promised_; }
  // Of the leadership that this replica holds. REQUIRES: role leader.
  Term term() const { return promised_; }
  EntryId last() const { return log_.last(); }
  Op commit() const { return commit_; }
  Op base() const { return log_.base().op; }
  bool base_complete() const { return base_complete_; }
  // Leader, functional: clients are served.
  bool can_propose() const { return state_ == State::leader_functional; }
  bool wants_no_op() const { return no_op_wanted_; }
  // Whether nobody else can have committed anything up to `now`: what was read before is current.
  // The data are read first, then this is asked, then the reply is sent (rule R3).
  bool lease_holds(Instant now) const;
  // Service that leads as far as this replica knows; "" when it knows none.
  std::string leader() const;
  const Followers* followers() const { return followers_ ? &*followers_ : nullptr; }
  const std::optional<protocol::GroupRecord>& record() const { return view_.record; }

 private:
  struct Leadership {  // a leader as a follower sees it
    protocol::ReplicaRecord replica;
    Instant heard{};
    Op verified;     // up to it the journals are known to be equal
    Op join_target;  // the leader's end at first contact
    std::uint64_t round = 0;
    std::uint64_t sent = 0;  // newest of its Appends, by its clock
    bool heard_me = false;   // this process, before it sent one of its Appends
  };
  struct Order {  // BecomeLeader
    Term term;
    std::uint64_t config_epoch = 0;
    protocol::BecomeLeader body;
  };
  struct Pending {  // the coordination request under way
    std::uint64_t number = 0;
    CoordinationRequest request;
  };

  // group.cc: what all roles share
  Effects taken() { return std::exchange(effects_, {}); }
  void enter(State to, Cause cause);
  void send(const protocol::ReplicaRecord& to, Term term, protocol::GroupBody body,
            Batch entries = nullptr);
  void coordinate(CoordinationRequest request);
  void settle_unknown(Outcome& outcome, std::string& path, std::int32_t& version) const;
  void wait_for_leader(Cause cause, bool soon);
  void raise_promise(Term term);
  void save_promise_when_drained();
  bool hears_leader() const;
  bool suspected(const std::string& service) const { return suspected_.contains(service); }
  const Holder* own_lock() const;
  void care_for_lock();
  void record_written(const protocol::GroupRecord& record, std::int32_t version);
  void adopt_config();

  // group_follower.cc
  void on_probe(const protocol::ReplicaRecord& from, Term term);
  void on_seal(const protocol::ReplicaRecord& from, Term term);
  void reply_seal(const protocol::ReplicaRecord& to, Term term, bool sealed);
  void on_become_leader(Order order);
  void on_resign(const protocol::ReplicaRecord& from, Term term);
  void grant_lease(Term term, Duration lease);
  void on_append(const protocol::ReplicaRecord& from, Term term, const protocol::Append& append,
                 const Batch& entries);
  void follow(const protocol::ReplicaRecord& leader, const protocol::Append& append);
  void hear_that_it_heard(const protocol::Append& append);
  bool take_entries(const protocol::Append& append, const Batch& entries);
  bool follows(const EntryId& previous, const protocol::EntryBatch& entries) const;
  void write_entries(const Batch& entries, std::size_t first_new);
  void reply_append(bool matched, Op previous, std::uint64_t answers);
  void join_when_caught_up();
  void learn_commit(Op leader_commit);
  void ask_for_copy();
  Op acked() const;
  void follower_tick();

  // group_elector.cc
  std::optional<Instant> stand_at() const;
  void stand();
  void try_lock();
  void have_lock();
  protocol::GroupRecord raised_record() const;
  void ask_voters();
  void on_probe_reply(const Uuid& from, const protocol::ProbeReply& reply);
  void raise_term();
  void seal_voters(Term term);
  void on_seal_reply(const Uuid& from, Term term, const protocol::SealReply& reply);
  void choose_leader();
  void leader_was_named();
  void give_up(Cause cause, bool soon);
  void elector_tick();
  protocol::SealReply own_report() const;

  // group_leader.cc
  void lead(Duration lease_left);
  void broadcast();
  void send_append(Follower& follower, Batch entries);
  void replicate(Follower& follower);
  void on_append_reply(const Uuid& from, Term term, const protocol::AppendReply& reply);
  void step_back(Follower& follower, const protocol::AppendReply& reply);
  void ask_for_no_op();
  void advance_commit();
  void confirm_reads();
  void step_down(Cause cause);
  void leader_tick();

  // group_members.cc
  void follow_config();
  void advance_config();
  bool write_config(protocol::GroupRecord record);

  const Identity identity_;
  Options options_;
  Effects effects_;
  Instant now_;
  State state_ = State::follower_wait_to_join_group;
  bool stopped_ = false;

  // Durable, with what is on its way to be.
  Log log_;
  Term promised_;         // nothing of a lower term is obeyed
  Term durable_promise_;  // acks and seals assert this one
  bool promise_saving_ = false;
  std::size_t log_writes_ = 0;  // WriteLog and TruncateLog under way
  bool base_complete_;
  bool head_certain_;
  Op commit_;
  Op told_commit_;  // of the last Commit effect

  // Coordination.
  View view_;
  Config config_;  // the newest that the record showed
  std::uint64_t next_number_ = 1;
  std::optional<Pending> pending_;
  std::string lock_;  // own lock's path, "" when none
  std::set<std::string>
      suspected_;  // services whose connection broke and that were not heard since

  // Follower.
  std::optional<Leadership> leadership_;
  std::optional<protocol::ReplicaRecord>
      seal_waits_;  // the elector that waits for a durable promise
  bool copying_ = false;
  Instant no_leader_since_;
  bool stand_soon_ = false;     // the leader certainly went: no need to wait for its silence
  Term led_;                    // last term led, by this process
  std::optional<Order> order_;  // to lead, under a configuration that is not known here yet
  // Leases that its answers granted: a leader of lease_term_, or an earlier one, may serve reads.
  Term lease_term_;
  Instant lease_until_{};
  Instant earlier_lease_until_{};

  // Elector.
  std::optional<Election> election_;
  Instant elector_deadline_{};
  Instant ask_again_{};
  Instant sealing_since_{};
  Term sealing_;  // the term that the voters are asked to promise; 0: none yet in this election
  Instant lock_at_{};  // from then on the lock is taken without waiting for a quorum of answers
  Term highest_seen_;  // terms promised anywhere, as far as told
  std::optional<Election::Choice> chosen_;

  // Leader.
  std::optional<Followers> followers_;
  Instant broadcast_at_{};
  bool no_op_asked_ = false;
  bool no_op_wanted_ = false;
  Op no_op_;
  Instant leases_over_{};   // of earlier leaders: nothing is committed before
  Instant lease_floor_{};   // answers to what was sent earlier do not count for a lease
  Instant overtaken_at_{};  // when the record last had no higher term
  Op config_since_;         // the end of the journal when the present configuration came into force
  std::uint64_t appends_ = 0;  // sent in this term
  std::uint64_t round_ = 0;
  std::optional<Op> round_commit_;  // of the read round under way
  Op fingerprint_op_;
  std::uint64_t fingerprint_ = 0;
};

}  // namespace datom::replication

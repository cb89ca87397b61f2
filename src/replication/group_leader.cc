// The leader's part: replication, commit, read rounds. Rules L1-L3, R1.
#include <algorithm>

#include "common/check.h"
#include "replication/group.h"

namespace datom::replication {

using enum State;
using enum Cause;

void Group::lead(Duration lease_left) {
  led_ = promised_;
  enter(leader_waiting_for_quorum, chosen);
  leadership_.reset();
  followers_.emplace(config_, identity_.self.replica, log_.last(), now_);
  config_since_ = log_.last().op;
  overtaken_at_ = now_;
  leases_over_ = now_ + lease_left;
  lease_floor_ = now_;
  no_op_asked_ = false;
  no_op_wanted_ = false;
  no_op_ = Op(0);
  appends_ = 0;
  round_ = 0;
  round_commit_.reset();
  fingerprint_op_ = Op(0);
  care_for_lock();
  broadcast();
  ask_for_no_op();
}

// At multiples of the interval: so those of all groups of a server fall together.
void Group::broadcast() {
  broadcast_at_ = (now_ / options_.heartbeat + 1) * options_.heartbeat;
  for (auto& [uuid, follower] : followers_->all()) send_append(follower, nullptr);
}

// With entries: those from follower.next on. Without: the broadcast, whose `previous` is what the
// follower should have by now; it says so if something was lost.
void Group::send_append(Follower& follower, Batch entries) {
  protocol::Append append;
  const std::optional<EntryId> previous = log_.at(follower.next.previous());
  follower.copy_needed = !previous.has_value();
  append.copy_needed = follower.copy_needed;
  append.previous = previous.value_or(log_.base());
  append.commit = commit_;
  append.leader_last = log_.last();
  append.round = round_;
  append.fingerprint_op = fingerprint_op_;
  append.fingerprint = fingerprint_;
  append.number = ++appends_;
  append.sent = static_cast<std::uint64_t>(now_.count());
  append.lease = options_.lease;
  append.heard = follower.uncertain;
  send(follower.replica, promised_, append, entries);
  if (entries) follower.sent(entries->headers.back().op, entries->bytes.size());
}

// Sends what the follower lacks from the journal, a bounded window ahead of its acks.
void Group::replicate(Follower& follower) {
  if (follower.probing || follower.reading || follower.copy_needed) return;
  if (follower.next > log_.durable().op || follower.in_flight_bytes >= options_.window_bytes)
    return;
  if (!log_.at(follower.next.previous())) return;  // trimmed; the next broadcast says so
  follower.reading = true;
  effects_.push_back(ReadLog{follower.replica.replica, follower.next, options_.read_bytes});
}

Effects Group::entries_read(Instant now, const Uuid& replica, Batch entries) {
  now_ = now;
  Follower* follower = followers_ ? followers_->find(replica) : nullptr;
  if (follower == nullptr) return taken();
  follower->reading = false;
  const bool still_wanted = entries && !entries->empty() &&
                            entries->headers.front().op == follower->next &&
                            log_.has(entries->headers.back().id());
  if (still_wanted) send_append(*follower, entries);
  if (entries) replicate(*follower);
  return taken();
}

Effects Group::propose(Instant now, Batch batch) {
  now_ = now;
  DATOM_CHECK(followers_.has_value() && !batch->empty());
  DATOM_CHECK(can_propose() || no_op_wanted_);
  no_op_wanted_ = false;
  const Op first = batch->headers.front().op;
  for (const protocol::EntryHeader& header : batch->headers) {
    DATOM_CHECK(header.term == promised_);
    log_.append(header.id());
  }
  if (no_op_ == Op(0)) no_op_ = first;
  ++log_writes_;
  effects_.push_back(WriteLog{batch});
  for (auto& [uuid, follower] : followers_->all()) {
    const bool in_step = !follower.probing && follower.next == first && !follower.reading;
    if (in_step && follower.in_flight_bytes < options_.window_bytes) send_append(follower, batch);
  }
  return taken();
}

Effects Group::begin_read_round(Instant now) {
  now_ = now;
  DATOM_CHECK(can_propose() && !round_commit_);
  ++round_;
  round_commit_ = commit_;
  broadcast();
  confirm_reads();
  return taken();
}

void Group::on_append_reply(const Uuid& from, Term term, const protocol::AppendReply& reply) {
  highest_seen_ = std::max(highest_seen_, term);
  if (term > promised_ && role_of(state_) == Role::leader) {
    step_down(higher_term);
    return;
  }
  if (!followers_ || term != promised_) return;
  Follower* follower = followers_->find(from);
  if (follower == nullptr || reply.acked > log_.last().op) return;
  follower->heard = now_;
  follower->functional = reply.functional;
  follower->copying = reply.copying;
  follower->applied = reply.applied;
  follower->last = reply.last;
  follower->uncertain = reply.uncertain;
  follower->round = std::max(follower->round, std::min(reply.round, round_));
  const Instant echo(static_cast<Duration::rep>(reply.echo));
  if (echo <= now_) follower->echo = std::max(follower->echo, echo);
  follower->ack(reply.acked);
  if (reply.functional) follower->counted = std::max(follower->counted, reply.acked);
  if (follower->next <= follower->acked) follower->resume_at(follower->acked.next());
  if (!reply.matched) {
    step_back(*follower, reply);
  } else if (reply.previous >= follower->next.previous()) {
    follower->probing = false;
  }
  replicate(*follower);
  ask_for_no_op();
  advance_commit();
  confirm_reads();
  advance_config();
}

// The follower lacks what `previous` named, or has something else there: goes back to the last op
// at which the two journals may be equal (the follower's terms up to there are at most
// conflict_term).
void Group::step_back(Follower& follower, const protocol::AppendReply& reply) {
  // What was sent ahead before a loss is refused in its turn: all of these refusals but the first
  // are late.
  if (reply.answers <= follower.probe && !follower.copy_needed) return;
  follower.probing = true;
  Op at = std::min(reply.previous, reply.last.op);
  const std::optional<Op> same_term = log_.last_up_to_term(reply.conflict_term);
  at = std::min(at, same_term.value_or(Op(0)));
  const std::optional<EntryId> here = log_.at(at);
  if (here && here->term < reply.conflict_term && reply.conflict_first > Op(0)) {
    at = std::min(at, reply.conflict_first.previous());
  }
  if (at == reply.previous && at > Op(0) && !follower.copy_needed) at = at.previous();
  // Below what it once acknowledged: its disk lost it. It is told to catch up from what it has.
  follower.acked = std::min(follower.acked, at);
  follower.counted = std::min(follower.counted, at);
  follower.resume_at(at.next());
  follower.copy_needed = !log_.at(at).has_value();
  follower.probe = appends_;
  if (!reply.copying || !follower.copy_needed) send_append(follower, nullptr);
}

// L1: the inherited tail commits with the first entry of the own term.
void Group::ask_for_no_op() {
  if (state_ != leader_waiting_for_quorum || no_op_asked_ || lock_.empty()) return;
  if (!followers_->quorum_functional()) return;
  no_op_asked_ = true;
  no_op_wanted_ = true;
  effects_.push_back(NeedNoOp{});
}

void Group::advance_commit() {
  if (now_ < leases_over_) return;  // R2: an earlier leader may still serve reads
  const Op durable = log_.durable().op;
  // Not beyond the own copy: what is applied here must be in the journal here.
  const Op on_quorum = std::min(followers_->durable_on_quorum(durable), durable);
  if (on_quorum > commit_ && log_.at(on_quorum)->term == promised_) commit_ = on_quorum;
  if (state_ == leader_waiting_for_quorum && no_op_ > Op(0) && commit_ >= no_op_) {
    enter(leader_functional, no_op_committed);
  }
  if (commit_ > told_commit_) {
    told_commit_ = commit_;
    effects_.push_back(Commit{commit_});
  }
}

void Group::confirm_reads() {
  if (!round_commit_ || followers_->confirmed_round(round_) < round_) return;
  effects_.push_back(ReadsConfirmed{round_, *round_commit_});
  round_commit_.reset();
}

// R2, R3. The clocks of two machines differ by less than one part in a hundred.
bool Group::lease_holds(Instant now) const {
  constexpr Duration kMargin = std::chrono::milliseconds(5);
  if (!can_propose() || options_.lease <= kMargin) return false;
  const Instant since = followers_->quorum_echo(now);
  return since >= lease_floor_ && now < since + options_.lease - options_.lease / 100 - kMargin;
}

void Group::step_down(Cause cause) {
  for (auto& [uuid, follower] : followers_->all()) {
    send(follower.replica, led_, protocol::Resign{});
  }
  followers_.reset();
  no_op_wanted_ = false;
  round_commit_.reset();
  wait_for_leader(cause, false);
  care_for_lock();
}

void Group::leader_tick() {
  if (now_ - followers_->quorum_heard(now_) > 2 * options_.election_timeout) {
    step_down(quorum_lost);
    return;
  }
  // An elector raised the term and went no further. The record names nobody then, and this leader
  // cannot write it: an election brings them in line.
  if (view_.record->term <= promised_) {
    overtaken_at_ = now_;
  } else if (now_ - overtaken_at_ > 4 * options_.election_timeout) {
    step_down(higher_term);
    return;
  }
  advance_commit();
  advance_config();
  if (followers_ && now_ >= broadcast_at_) broadcast();
}

}  // namespace datom::replication

// The follower's part: promises, journalling, joining. Rules E1, E3, L3.
#include <algorithm>
#include <utility>

#include "common/check.h"
#include "replication/group.h"

namespace datom::replication {

using enum State;
using enum Cause;

void Group::on_probe(const protocol::ReplicaRecord& from, Term term) {
  send(from, term, protocol::ProbeReply{durable_promise_, hears_leader()});
}

void Group::on_seal(const protocol::ReplicaRecord& from, Term term) {
  if (term < promised_) {
    reply_seal(from, term, false);
    return;
  }
  if (term > promised_) raise_promise(term);
  if (leadership_) return;  // the election of this term is over
  if (durable_promise_ >= term && log_writes_ == 0) {
    reply_seal(from, term, true);  // asked again: the first answer was lost
  } else {
    seal_waits_ = from;
  }
}

void Group::reply_seal(const protocol::ReplicaRecord& to, Term term, bool sealed) {
  protocol::SealReply report = own_report();
  report.sealed = sealed;
  report.promised = sealed ? durable_promise_ : promised_;
  send(to, term, report);
}

protocol::SealReply Group::own_report() const {
  const Duration lease_left = std::clamp(lease_until_ - now_, Duration(0), protocol::kMaxLease);
  return {true,           durable_promise_, log_.durable(),        commit_,
          base_complete_, head_certain_,    identity_.incarnation, lease_left};
}

void Group::on_become_leader(Order order) {
  const Term term = order.term;
  if (state_ != follower_wait_to_join_group || stopped_) return;
  if (term != promised_ || durable_promise_ != term || led_ == term) return;
  if (order.body.incarnation != identity_.incarnation || order.body.last != log_.last() ||
      log_writes_ > 0) {
    return;  // E3: not who was chosen; the elector will raise another term
  }
  if (order.config_epoch > config_.epoch()) {
    // Quorums are those of the configuration under which it was chosen; the record's watch tells.
    order_ = std::move(order);
    return;
  }
  if (order.config_epoch < config_.epoch() || config_.voter(identity_.self.replica) == nullptr) {
    return;  // a later leader has changed the configuration since
  }
  lead(order.body.lease_left);
}

// It leads no more and, having said so, serves nothing under its lease.
void Group::on_resign(const protocol::ReplicaRecord& from, Term term) {
  if (lease_term_ == term) lease_until_ = std::min(lease_until_, earlier_lease_until_);
  suspected_.insert(from.service);
  if (leadership_ && leadership_->replica == from && term == promised_) {
    wait_for_leader(leader_lost, true);
    follower_tick();
  }
}

// Rule R2. What this replica answers lets the leader count on it until then.
void Group::grant_lease(Term term, Duration lease) {
  if (lease_term_ != term) {
    lease_term_ = term;
    earlier_lease_until_ = lease_until_;
  }
  lease_until_ = std::max(lease_until_, now_ + lease);
}

void Group::on_append(const protocol::ReplicaRecord& from, Term term,
                      const protocol::Append& append, const Batch& entries) {
  if (term < promised_) {
    send(from, promised_, protocol::AppendReply{});  // its envelope deposes the sender
    return;
  }
  if (role_of(state_) == Role::leader && term == promised_) return;  // cannot be: one leader a term
  if (term > promised_) raise_promise(term);
  if (role_of(state_) == Role::elector) give_up(leader_is_there, false);
  if (!leadership_ || leadership_->replica != from) follow(from, append);
  seal_waits_.reset();  // the election of this term is over
  leadership_->heard = now_;
  leadership_->round = std::max(leadership_->round, append.round);
  leadership_->sent = std::max(leadership_->sent, append.sent);
  grant_lease(term, append.lease);
  if (append.heard == identity_.incarnation) hear_that_it_heard(append);

  // A leader that heard nothing for long may take this journal for shorter than it is.
  const bool lacks = append.copy_needed && copy_wanted(append.previous);
  if (lacks || !base_complete_) ask_for_copy();
  const std::size_t writes = log_writes_;
  const bool matched = !lacks && take_entries(append, entries);
  if (!leadership_) return;  // the entries were refused as divergent
  if (!matched) {
    leadership_->join_target = std::max(leadership_->join_target, append.leader_last.op);
    if (state_ == follower_functional) enter(follower_syncing, fell_behind);
  }
  learn_commit(append.commit);
  join_when_caught_up();
  if (state_ == follower_wait_to_join_group) enter(follower_syncing, leader_contact);
  // Entries are acked once they are written; everything else is answered at once.
  if (!matched || log_writes_ == writes) reply_append(matched, append.previous.op, append.number);
}

// Rule S2. What an earlier process acknowledged in this term, and the disk lost, is not behind the
// end that the leader has now; it may be behind the end that a late Append tells of.
void Group::hear_that_it_heard(const protocol::Append& append) {
  if (std::exchange(leadership_->heard_me, true)) return;
  leadership_->join_target = std::max(leadership_->join_target, append.leader_last.op);
}

void Group::follow(const protocol::ReplicaRecord& leader, const protocol::Append& append) {
  if (state_ != follower_wait_to_join_group) wait_for_leader(leader_lost, false);
  leadership_ = Leadership{leader, now_, Op(0), append.leader_last.op, 0, 0, false};
}

// False when the entry before them is not here. Otherwise they are in the journal, or on their way.
bool Group::take_entries(const protocol::Append& append, const Batch& entries) {
  const bool below_base = append.previous.op < log_.base().op;  // all of that is committed here
  if (!below_base && !log_.has(append.previous)) return false;
  const Op matched = below_base ? log_.base().op : append.previous.op;
  leadership_->verified = std::max(leadership_->verified, matched);
  if (!entries || entries->empty()) return true;

  if (!follows(append.previous, *entries)) return false;
  std::size_t first_new = 0;
  for (; first_new < entries->headers.size(); ++first_new) {
    const EntryId id = entries->headers[first_new].id();
    if (id.op > log_.base().op && !log_.has(id)) break;
  }
  if (first_new < entries->headers.size()) write_entries(entries, first_new);
  if (leadership_) {
    leadership_->verified = std::max(leadership_->verified, entries->headers.back().op);
  }
  return true;
}

// Whether a peer's batch can be a leader's: behind `previous`, terms that do not fall and are not
// above the leader's own (parse_batch has checked the rest of the chain).
bool Group::follows(const EntryId& previous, const protocol::EntryBatch& entries) const {
  const protocol::EntryHeader& first = entries.headers.front();
  Term term = previous.term;
  for (const protocol::EntryHeader& header : entries.headers) {
    if (header.term < std::exchange(term, header.term)) return false;
  }
  return term <= promised_ && first.op == previous.op.next() && first.previous == previous.checksum;
}

// Cuts a conflicting tail, which the current leader has shown to be one, and appends the rest.
void Group::write_entries(const Batch& entries, std::size_t first_new) {
  const Op first = entries->headers[first_new].op;
  if (first <= log_.last().op) {
    if (first <= commit_) {
      effects_.push_back(Divergent{"op " + std::to_string(first.value()) +
                                   " is committed here and another op at the leader " +
                                   leadership_->replica.service});
      wait_for_leader(leader_lost, false);
      return;
    }
    log_.truncate_after(first.previous());
    ++log_writes_;
    effects_.push_back(TruncateLog{first.previous()});
  }
  Batch rest = entries;
  if (first_new > 0) {
    protocol::BatchBuilder builder(entries->bytes.size(), identity_.volume);
    for (std::size_t i = first_new; i < entries->headers.size(); ++i) {
      const protocol::Entry entry = entries->entry(i);
      builder.add(entry.header, entry.payload.view());
    }
    rest = std::make_shared<const protocol::EntryBatch>(builder.finish());
  }
  for (const protocol::EntryHeader& header : rest->headers) log_.append(header.id());
  ++log_writes_;
  effects_.push_back(WriteLog{rest});
}

void Group::reply_append(bool matched, Op previous, std::uint64_t answers) {
  const EntryId last = log_.last();
  protocol::AppendReply reply;
  reply.matched = matched;
  reply.previous = previous;
  reply.answers = answers;
  reply.functional = state_ == follower_functional;
  reply.acked = acked();
  reply.last = last;
  if (!matched) {
    const Op at = std::min(previous, last.op);
    reply.conflict_term = log_.at(std::max(at, log_.base().op))->term;
    reply.conflict_first = log_.first_of_term(reply.conflict_term);
  }
  reply.round = leadership_->round;
  reply.applied = told_commit_;
  reply.copying = copying_;
  if (!head_certain_) reply.uncertain = identity_.incarnation;
  // Without the durable promise of a term this replica, restarted, would not know that it may have
  // granted a lease.
  if (durable_promise_ >= promised_) reply.echo = leadership_->sent;
  send(leadership_->replica, promised_, reply);
}

// An ack asserts: the promise of this term and everything up to the op, contiguous, equal to the
// leader's, on stable storage.
Op Group::acked() const {
  if (durable_promise_ < promised_) return Op(0);
  return std::min(leadership_->verified, log_.durable().op);
}

void Group::join_when_caught_up() {
  if (state_ == follower_functional || copying_ || !base_complete_) return;
  if (acked() < leadership_->join_target || durable_promise_ < promised_) return;
  if (!head_certain_ && !leadership_->heard_me) return;
  head_certain_ = true;  // a leader has supplied the tail
  enter(follower_functional, caught_up);
}

void Group::learn_commit(Op leader_commit) {
  const Op verified = leadership_ ? leadership_->verified : commit_;
  commit_ = std::max(commit_, std::min(leader_commit, verified));
  const Op appliable = std::min(commit_, log_.durable().op);
  if (appliable <= told_commit_) return;
  told_commit_ = appliable;
  effects_.push_back(Commit{appliable});
}

// What this journal holds behind `base` may have been acknowledged: it is dropped only where it
// contradicts the leader's, or where this replica is no base for anybody anyway.
bool Group::copy_wanted(const EntryId& base) const {
  return !base_complete_ || (base.op > log_.base().op && !log_.has(base));
}

void Group::ask_for_copy() {
  if (copying_) return;
  copying_ = true;
  effects_.push_back(CopyNeeded{leadership_->replica.service});
}

Effects Group::copy_started(Instant now, EntryId base) {
  now_ = now;
  log_.reset(base);
  base_complete_ = false;
  commit_ = base.op;
  told_commit_ = base.op;
  if (leadership_) leadership_->verified = Op(0);
  return taken();
}

Effects Group::copy_ended(Instant now, bool complete) {
  now_ = now;
  copying_ = false;
  base_complete_ = base_complete_ || complete;
  if (leadership_) {
    join_when_caught_up();
    reply_append(true, leadership_->verified, 0);
  }
  return taken();
}

void Group::follower_tick() {
  if (leadership_) {
    if (now_ - leadership_->heard < options_.election_timeout) return;
    suspected_.insert(leadership_->replica.service);
    wait_for_leader(leader_lost, true);
  }
  const std::optional<Instant> at = stand_at();
  if (at && *at <= now_) stand();
}

}  // namespace datom::replication

// The elector's part: lock, quorum, term, seals, choice. Rules T1-T4, E1-E3.
#include <algorithm>
#include <map>

#include "common/check.h"
#include "replication/group.h"

namespace datom::replication {

using enum State;
using enum Cause;

// When this replica stands as elector if nobody leads before: at once for the first member of those
// not known to be gone, an election timeout later for each one before it.
std::optional<Instant> Group::stand_at() const {
  if (stopped_ || !view_.connected || !view_.record ||
      config_.voter(identity_.self.replica) == nullptr) {
    return std::nullopt;
  }
  const auto votes = [this](const std::string& service) {
    return std::any_of(config_.voters().begin(), config_.voters().end(),
                       [&](const ReplicaRecord& one) { return one.service == service; });
  };
  // Of a service that restarted, the node of its earlier process stays until that one's session
  // ends: the last one is the service's.
  std::map<std::string, std::size_t> place;
  for (std::size_t i = 0; i < view_.members.size(); ++i) place[view_.members[i].service] = i;
  const auto own = std::find_if(view_.members.begin(), view_.members.end(),
                                [](const Holder& holder) { return holder.mine; });
  if (own == view_.members.end()) return std::nullopt;
  const auto own_place = static_cast<std::size_t>(own - view_.members.begin());
  const auto before = std::count_if(place.begin(), place.end(), [&](const auto& other) {
    const auto& [service, at] = other;
    return at < own_place && service != identity_.self.service && !suspected(service) &&
           votes(service);
  });
  const bool soon = stand_soon_ || view_.record->term == Term(0);
  const auto waits = static_cast<int>(before) + (soon ? 0 : 1);
  return no_leader_since_ + waits * options_.election_timeout;
}

void Group::stand() {
  enter(ec_acquire_lock, no_leader);
  election_.emplace(config_);
  sealing_ = Term(0);
  election_->probe_answered(identity_.self.replica, {promised_, false});
  chosen_.reset();
  elector_deadline_ = now_ + 4 * options_.election_timeout;
  lock_at_ = now_ + options_.heartbeat;
  ask_voters();
  if (!pending_) try_lock();
}

// Takes the lock if it is free, or if whoever holds it is gone. A holder that neither leads nor
// goes on within our deadline loses it as well: the lock is liveness only. With a quorum of answers
// the same multi raises the term; without, the lock is taken to wait for one.
void Group::try_lock() {
  if (own_lock() != nullptr) {
    have_lock();
    return;
  }
  lock_.clear();
  const auto holder = std::find_if(view_.locks.begin(), view_.locks.end(),
                                   [](const Holder& lock) { return !lock.mine; });
  TakeLock take;
  if (holder != view_.locks.end()) {
    const bool gone = suspected(holder->service) || holder->service == identity_.self.service;
    if (!gone && now_ < elector_deadline_) return;
    take.dead = holder->path;
  }
  if (election_->quorum_present()) {
    take.raised = raised_record();
    take.expected_version = view_.record_version;
  } else if (now_ < lock_at_) {
    return;
  }
  coordinate(std::move(take));
}

void Group::have_lock() {
  enter(ec_waiting_for_quorum, lock_acquired);
  // Whoever reaches coordination but no voters must not keep the lock from those who do.
  elector_deadline_ = now_ + 3 * options_.election_timeout;
}

void Group::ask_voters() {
  ask_again_ = now_ + options_.heartbeat;
  for (const protocol::ReplicaRecord& to : election_->config().voters()) {
    if (to.replica == identity_.self.replica) continue;
    if (state_ != ec_election_in_progress) {
      send(to, promised_, protocol::Probe{});
    } else if (!election_->has_sealed(to.replica)) {
      send(to, promised_, protocol::Seal{});
    }
  }
}

void Group::on_probe_reply(const Uuid& from, const protocol::ProbeReply& reply) {
  highest_seen_ = std::max(highest_seen_, reply.promised);
  if (state_ != ec_acquire_lock && state_ != ec_waiting_for_quorum) return;
  if (reply.hears_leader) {
    // It may only not have noticed yet what this replica has: asked again soon.
    give_up(leader_is_there, true);
    no_leader_since_ = now_ + options_.heartbeat;
    return;
  }
  election_->probe_answered(from, reply);
  if (pending_ || !election_->quorum_present()) return;
  state_ == ec_acquire_lock ? try_lock() : raise_term();
}

// T3: above every term that was promised anywhere, as far as known.
protocol::GroupRecord Group::raised_record() const {
  protocol::GroupRecord record = *view_.record;
  record.term =
      std::max({record.term, promised_, highest_seen_, election_->highest_promise()}).next();
  record.phase = protocol::Phase::no_leader;
  record.leader.clear();
  record.nonce = identity_.incarnation ^ next_number_;
  return record;
}

// T2: one multi that checks the own lock and the record's version.
void Group::raise_term() {
  if (pending_) return;  // asked again at the next answer or tick
  if (config_.epoch() != election_->config().epoch()) {
    give_up(election_failed, true);
    return;
  }
  enter(ec_election_in_progress, quorum_present);
  elector_deadline_ = now_ + 4 * options_.election_timeout;
  ask_again_ = elector_deadline_;
  coordinate(WriteRecord{raised_record(), view_.record_version, lock_, false});
}

// The term is raised: promise it myself and ask the others to.
void Group::seal_voters(Term term) {
  if (term <= promised_ || view_.record->term != term ||
      config_.epoch() != election_->config().epoch()) {
    give_up(election_failed, true);  // another elector or leader wrote the record meanwhile
    return;
  }
  elector_deadline_ = now_ + 4 * options_.election_timeout;
  sealing_since_ = now_;
  sealing_ = term;
  promised_ = term;
  seal_waits_.reset();
  save_promise_when_drained();
  ask_voters();
}

void Group::on_seal_reply(const Uuid& from, Term term, const protocol::SealReply& reply) {
  highest_seen_ = std::max(highest_seen_, reply.promised);
  // While the record is being raised a late seal of the term before may arrive: it is none of this.
  if (state_ != ec_election_in_progress || term != sealing_) return;
  if (!reply.sealed) {
    if (reply.promised > promised_) give_up(higher_term, false);
    return;
  }
  election_->sealed(from, reply, now_);
  choose_leader();
}

// Once everyone who is thought to be there has answered, or after two heartbeats: Q reports are
// enough to be safe, all of them give the best choice.
void Group::choose_leader() {
  if (pending_ || durable_promise_ < promised_) return;
  if (view_.record->term != promised_ || config_.epoch() != election_->config().epoch()) {
    give_up(election_failed, true);
    return;
  }
  const auto& voters = election_->config().voters();
  const bool all_answered = std::all_of(voters.begin(), voters.end(), [&](const auto& one) {
    return election_->has_sealed(one.replica) || suspected(one.service);
  });
  const bool hurry = now_ >= sealing_since_ + 2 * options_.heartbeat;
  if (!all_answered && !hurry) return;
  chosen_ = election_->choose(identity_.self.replica);
  if (!chosen_) return;
  protocol::GroupRecord record = *view_.record;
  record.phase = protocol::Phase::leader;
  record.leader = chosen_->replica.service;
  record.nonce = identity_.incarnation ^ next_number_;
  coordinate(WriteRecord{std::move(record), view_.record_version, lock_, true});
}

void Group::leader_was_named() {
  const Election::Choice choice = *chosen_;
  const Duration lease_left =
      std::clamp(election_->leases_over() - now_, Duration(0), protocol::kMaxLease);
  election_.reset();
  chosen_.reset();
  wait_for_leader(leader_named, false);
  const protocol::BecomeLeader order{choice.report.last, choice.report.incarnation, lease_left};
  if (choice.replica.replica == identity_.self.replica) {
    on_become_leader({promised_, config_.epoch(), order});
  } else {
    send(choice.replica, promised_, order);
  }
}

void Group::give_up(Cause cause, bool soon) {
  election_.reset();
  chosen_.reset();
  wait_for_leader(cause, soon);
  care_for_lock();
}

void Group::elector_tick() {
  if (state_ == ec_acquire_lock && !pending_) try_lock();
  if (state_ == ec_acquire_lock && pending_ && now_ >= elector_deadline_) {
    elector_deadline_ += options_.election_timeout;  // its outcome ends this
  }
  if (now_ >= elector_deadline_) {
    give_up(election_failed, false);
    return;
  }
  if (state_ == ec_waiting_for_quorum && election_->quorum_present()) {
    raise_term();
    return;
  }
  if (now_ < ask_again_) return;
  ask_voters();
  if (state_ == ec_election_in_progress) choose_leader();
}

}  // namespace datom::replication

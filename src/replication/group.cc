#include "replication/group.h"

#include <algorithm>

#include "common/check.h"

namespace datom::replication {

using enum State;
using enum Cause;

Group::Group(Identity identity, Options options, Durable durable, Instant now)
    : identity_(std::move(identity)),
      options_(options),
      now_(now),
      log_(durable.base, durable.entries),
      promised_(durable.promised),
      durable_promise_(durable.promised),
      base_complete_(durable.base_complete),
      head_certain_(durable.head_certain),
      commit_(std::min(durable.committed, log_.last().op)),
      told_commit_(commit_),
      no_leader_since_(now) {
  // What it granted before it restarted it does not know; a replica that never promised anything
  // never answered anybody.
  if (promised_ > Term(0)) lease_until_ = earlier_lease_until_ = now + protocol::kMaxLease;
}

Effects Group::tick(Instant now) {
  now_ = now;
  switch (role_of(state_)) {
    case Role::follower:
      follower_tick();
      break;
    case Role::elector:
      elector_tick();
      break;
    case Role::leader:
      leader_tick();
      break;
  }
  return taken();
}

Instant Group::next_tick() const {
  switch (role_of(state_)) {
    case Role::follower: {
      if (leadership_) return leadership_->heard + options_.election_timeout;
      return std::max(stand_at().value_or(now_ + options_.election_timeout), now_);
    }
    case Role::elector:
      return std::min(elector_deadline_, ask_again_);
    case Role::leader:
      return leases_over_ > now_ ? std::min(broadcast_at_, leases_over_) : broadcast_at_;
  }
  return now_;
}

Effects Group::view_changed(Instant now, View view) {
  now_ = now;
  if (!view.record) {  // the newest one known stays a hint
    view.record = std::move(view_.record);
    view.record_version = view_.record_version;
  }
  view_ = std::move(view);
  if (view_.record) highest_seen_ = std::max(highest_seen_, view_.record->term);
  adopt_config();
  if (view_.expired) {
    lock_.clear();
    if (role_of(state_) == Role::elector) give_up(session_expired, false);
    if (role_of(state_) == Role::leader) step_down(session_expired);
  }
  care_for_lock();
  return taken();
}

Effects Group::coordinated(Instant now, std::uint64_t number, Outcome outcome, std::string path,
                           std::int32_t version) {
  now_ = now;
  if (!pending_ || pending_->number != number) return taken();
  if (outcome == Outcome::unknown) settle_unknown(outcome, path, version);
  const CoordinationRequest request = std::move(pending_->request);
  pending_.reset();
  const bool done = outcome == Outcome::done;

  if (const auto* take = std::get_if<TakeLock>(&request)) {
    if (done) lock_ = path;
    if (done && take->raised) record_written(*take->raised, version);
    if (role_of(state_) == Role::leader) ask_for_no_op();
    if (state_ == ec_acquire_lock && done) {
      have_lock();
      if (take->raised && state_ == ec_waiting_for_quorum) {
        enter(ec_election_in_progress, quorum_present);
        seal_voters(take->raised->term);
      }
    }
  } else if (const auto* write = std::get_if<WriteRecord>(&request)) {
    if (done) record_written(write->record, version);
    if (write->release && done) lock_.clear();
    if (state_ != ec_election_in_progress) {
      // given up meanwhile, or a leader's change of the configuration
    } else if (!done) {
      give_up(election_failed, false);
    } else if (write->release) {
      leader_was_named();
    } else {
      seal_voters(write->record.term);
    }
  } else if (std::get<ReleaseLock>(request).path == lock_) {
    lock_.clear();
  }
  care_for_lock();
  return taken();
}

// The driver delivered a View after the connection came back: what it shows is what happened. Not
// provably mine is not mine (T3).
void Group::settle_unknown(Outcome& outcome, std::string& path, std::int32_t& version) const {
  outcome = Outcome::refused;
  if (const auto* take = std::get_if<TakeLock>(&pending_->request)) {
    const bool raised =
        !take->raised || (view_.record && view_.record->nonce == take->raised->nonce);
    if (!raised) return;
    version = view_.record_version;
    const auto mine = std::find_if(view_.locks.begin(), view_.locks.end(),
                                   [](const Holder& lock) { return lock.mine; });
    if (mine == view_.locks.end()) return;
    path = mine->path;
    outcome = Outcome::done;
  } else if (const auto* write = std::get_if<WriteRecord>(&pending_->request)) {
    if (!view_.record || view_.record->nonce != write->record.nonce) return;
    version = view_.record_version;
    outcome = Outcome::done;
  }
}

Effects Group::receive(Instant now, const protocol::GroupMessage& message, Batch entries) {
  now_ = now;
  if (stopped_ || message.volume != identity_.volume || message.to != identity_.self.replica) {
    return taken();
  }
  const protocol::ReplicaRecord* from = config_.member(message.from);
  // A leader that was replaced resigns after its members know the configuration without it.
  if (from == nullptr && leadership_ && leadership_->replica.replica == message.from) {
    from = &leadership_->replica;
  }
  if (from == nullptr) return taken();
  suspected_.erase(from->service);

  struct Dispatch {
    Group& group;
    const protocol::ReplicaRecord sender;
    Term term;
    std::uint64_t epoch;
    const Batch& batch;
    void operator()(const protocol::Probe&) { group.on_probe(sender, term); }
    void operator()(const protocol::ProbeReply& body) {
      group.on_probe_reply(sender.replica, body);
    }
    void operator()(const protocol::Seal&) { group.on_seal(sender, term); }
    void operator()(const protocol::SealReply& body) {
      group.on_seal_reply(sender.replica, term, body);
    }
    void operator()(const protocol::BecomeLeader& body) {
      group.on_become_leader({term, epoch, body});
    }
    void operator()(const protocol::Resign&) { group.on_resign(sender, term); }
    void operator()(const protocol::Append& body) { group.on_append(sender, term, body, batch); }
    void operator()(const protocol::AppendReply& body) {
      group.on_append_reply(sender.replica, term, body);
    }
  };
  std::visit(Dispatch{*this, *from, message.term, message.config_epoch, entries}, message.body);
  return taken();
}

Effects Group::peer_down(Instant now, const std::string& service) {
  now_ = now;
  suspected_.insert(service);
  if (leadership_ && leadership_->replica.service == service) wait_for_leader(leader_lost, true);
  if (role_of(state_) == Role::follower) follower_tick();
  if (followers_) {
    // What was on its way may be lost; its next answer tells from where to go on.
    for (auto& [uuid, follower] : followers_->all()) {
      if (follower.replica.service == service) follower.functional = false;
    }
  }
  return taken();
}

Effects Group::promise_saved(Instant now, Term term) {
  now_ = now;
  promise_saving_ = false;
  durable_promise_ = std::max(durable_promise_, term);
  if (durable_promise_ < promised_) {
    save_promise_when_drained();
    return taken();
  }
  if (state_ == ec_election_in_progress && promised_ == sealing_) {
    election_->sealed(identity_.self.replica, own_report(), now_);
    choose_leader();
  }
  if (seal_waits_) {
    const protocol::ReplicaRecord elector = *seal_waits_;
    seal_waits_.reset();
    reply_seal(elector, promised_, true);
  }
  if (leadership_) {
    join_when_caught_up();
    reply_append(true, leadership_->verified, 0);
  }
  return taken();
}

Effects Group::log_written(Instant now, EntryId last) {
  now_ = now;
  --log_writes_;
  log_.written(last);
  save_promise_when_drained();
  if (followers_) {
    for (auto& [uuid, follower] : followers_->all()) replicate(follower);
    advance_commit();
  } else if (leadership_) {
    learn_commit(commit_);
    join_when_caught_up();
    reply_append(true, leadership_->verified, 0);
  }
  return taken();
}

Effects Group::log_truncated(Instant now) {
  now_ = now;
  --log_writes_;
  save_promise_when_drained();
  return taken();
}

void Group::log_trimmed(Op op) {
  if (op > log_.base().op) log_.trim_through(op);
}

Effects Group::stop(Instant now) {
  now_ = now;
  stopped_ = true;
  if (role_of(state_) == Role::leader) {
    step_down(Cause::stop);
  } else if (role_of(state_) == Role::elector) {
    give_up(Cause::stop, false);
  } else if (state_ != follower_wait_to_join_group) {
    wait_for_leader(Cause::stop, false);
  }
  return taken();
}

void Group::configure(Instant now, Options options) {
  if (options.lease != options_.lease) lease_floor_ = now;
  options_ = options;
}

void Group::set_fingerprint(Op op, std::uint64_t fingerprint) {
  fingerprint_op_ = op;
  fingerprint_ = fingerprint;
}

std::string Group::leader() const {
  if (role_of(state_) == Role::leader) return identity_.self.service;
  return leadership_ ? leadership_->replica.service : "";
}

void Group::enter(State to, Cause cause) {
  DATOM_CHECK(allowed(state_, cause, to));
  effects_.push_back(Changed{state_, to, cause, promised_});
  state_ = to;
}

void Group::send(const protocol::ReplicaRecord& to, Term term, protocol::GroupBody body,
                 Batch entries) {
  effects_.push_back(Send{to.service,
                          {identity_.volume, identity_.self.replica, to.replica, term,
                           config_.epoch(), std::move(body)},
                          std::move(entries)});
}

void Group::coordinate(CoordinationRequest request) {
  DATOM_CHECK(!pending_);
  pending_ = Pending{next_number_++, request};
  effects_.push_back(Coordinate{pending_->number, std::move(request)});
}

// Back to FOLLOWER_WAIT_TO_JOIN_GROUP. `soon`: the leader certainly went, the first member need not
// wait for its silence.
void Group::wait_for_leader(Cause cause, bool soon) {
  leadership_.reset();
  no_leader_since_ = now_;
  stand_soon_ = soon;
  if (state_ != follower_wait_to_join_group) enter(follower_wait_to_join_group, cause);
}

// From now on nothing of a lower term is obeyed; what asserts the promise waits until it is
// durable.
void Group::raise_promise(Term term) {
  DATOM_CHECK(term > promised_);
  if (role_of(state_) == Role::leader) {
    step_down(higher_term);
  } else if (role_of(state_) == Role::elector) {
    give_up(higher_term, false);
  } else {
    wait_for_leader(higher_term, false);
  }
  promised_ = term;
  highest_seen_ = std::max(highest_seen_, term);
  seal_waits_.reset();
  save_promise_when_drained();
}

// Older writes end before the promise is made durable, so that a seal reports all of them. One that
// is not durable when the replica stops has not been reported to anybody.
void Group::save_promise_when_drained() {
  if (stopped_ || promise_saving_ || log_writes_ > 0 || durable_promise_ >= promised_) return;
  promise_saving_ = true;
  effects_.push_back(SavePromise{promised_});
}

bool Group::hears_leader() const {
  if (role_of(state_) == Role::leader) return true;
  return leadership_ && now_ - leadership_->heard < options_.election_timeout;
}

const Holder* Group::own_lock() const {
  const auto found = std::find_if(view_.locks.begin(), view_.locks.end(), [&](const Holder& lock) {
    return lock.mine && lock.path == lock_;
  });
  return found == view_.locks.end() ? nullptr : &*found;
}

// A view may be newer than the write of which the outcome is told here.
void Group::record_written(const protocol::GroupRecord& record, std::int32_t version) {
  if (version <= view_.record_version) return;
  view_.record = record;
  view_.record_version = version;
  adopt_config();
}

// Epochs grow with each write of a configuration, and every write is guarded by the version of the
// one before: the same epoch is the same configuration.
void Group::adopt_config() {
  if (view_.record && view_.record->config_epoch > config_.epoch()) {
    config_ = Config(*view_.record);
  }
  if (role_of(state_) == Role::leader) follow_config();
  if (order_) on_become_leader(*std::exchange(order_, std::nullopt));
}

// Takes a lock for the role that needs one, releases locks that no role needs: left by an outcome
// that was unknown, or by giving up.
void Group::care_for_lock() {
  if (pending_ || !view_.connected || view_.expired) return;
  // A leader whose lock someone took away as a dead one's takes another; the term decides.
  if (own_lock() == nullptr) lock_.clear();
  if (state_ == ec_acquire_lock) {
    try_lock();
    return;
  }
  const bool needed = role_of(state_) != Role::follower;
  if (role_of(state_) == Role::leader && lock_.empty() && !stopped_) {
    coordinate(TakeLock{});
    return;
  }
  for (const Holder& lock : view_.locks) {
    if (!lock.mine || (needed && lock.path == lock_)) continue;
    coordinate(ReleaseLock{lock.path});
    return;  // one at a time; its outcome goes on
  }
}

}  // namespace datom::replication

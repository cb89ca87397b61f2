// The leader's part in replacing a replica: learner, joint, stable. Rule M3; records.h says what is
// written.
#include <algorithm>
#include <utility>

#include "common/check.h"
#include "replication/group.h"

namespace datom::replication {

using enum Cause;

Group::Answered Group::replace(Instant now, const Uuid& from, const ReplicaRecord& to) {
  now_ = now;
  DATOM_CHECK(can_propose());
  const Config& config = followers_->config();
  if (config.voter(to.replica) != nullptr) return {Answer::done, taken()};
  if (config.learner() == LearnerRecord{to, from}) return {Answer::done, taken()};
  if (config.joint() || config.learner()) return {Answer::conflict, taken()};
  if (config.voter(from) == nullptr) return {Answer::not_a_voter, taken()};
  protocol::GroupRecord record = *view_.record;
  record.learners = {{to, from}};
  if (!write_config(std::move(record))) return {Answer::busy, taken()};
  return {Answer::done, taken()};
}

Group::Answered Group::cancel_replace(Instant now, const Uuid& to) {
  now_ = now;
  DATOM_CHECK(can_propose());
  const Config& config = followers_->config();
  if (config.voter(to) != nullptr) return {Answer::conflict, taken()};
  if (!config.learner() || config.learner()->member.replica != to) return {Answer::done, taken()};
  protocol::GroupRecord record = *view_.record;
  record.learners.clear();
  if (!write_config(std::move(record))) return {Answer::busy, taken()};
  return {Answer::done, taken()};
}

// Guarded by the own lock and the record's version. While the outcome is not known the leader goes
// on under the configuration that it knows: each one's quorums intersect with those of the next.
bool Group::write_config(protocol::GroupRecord record) {
  if (view_.record->term > promised_) {
    // An elector raised the term and got no further. This leader may go on serving, but the record
    // is not its own any more: an election brings them in line.
    step_down(higher_term);
    return false;
  }
  const bool current =
      view_.record->term == promised_ && view_.record->config_epoch == followers_->config().epoch();
  if (pending_ || !current || own_lock() == nullptr) return false;
  ++record.config_epoch;
  record.nonce = identity_.incarnation ^ next_number_;
  coordinate(WriteRecord{std::move(record), view_.record_version, lock_, false});
  return true;
}

// A leader's configurations are those that it wrote itself, in its own term.
void Group::follow_config() {
  if (!followers_ || view_.record->term != promised_ ||
      config_.epoch() <= followers_->config().epoch()) {
    return;
  }
  followers_->reconfigure(config_, log_.last(), now_);
  config_since_ = log_.last().op;
  if (!config_.joint() && config_.voter(identity_.self.replica) == nullptr) {
    step_down(replaced);
    return;
  }
  broadcast();
  if (config_.joint() && can_propose()) {
    no_op_wanted_ = true;  // the entry that shows both majorities to be in step
    effects_.push_back(NeedNoOp{});
  }
}

// The next of the three writes, once it is its turn. Nothing before an entry of the own term is
// committed (functional), or two configurations that do not know of each other could both change.
void Group::advance_config() {
  if (!followers_ || !can_propose()) return;
  const Config& config = followers_->config();
  protocol::GroupRecord record = *view_.record;
  if (record.term > promised_ && (!record.learners.empty() || !record.next_voters.empty())) {
    step_down(higher_term);  // what goes on cannot be written; see write_config()
  } else if (config.joint()) {
    if (commit_ <= config_since_) return;
    record.voters = std::exchange(record.next_voters, {});
    write_config(std::move(record));
  } else if (config.learner()) {
    const LearnerRecord learner = *config.learner();
    if (!followers_->find(learner.member.replica)->functional) return;
    record.learners.clear();
    record.next_voters = record.voters;
    std::replace_if(
        record.next_voters.begin(), record.next_voters.end(),
        [&](const ReplicaRecord& one) { return one.replica == learner.replaces; }, learner.member);
    write_config(std::move(record));
  }
}

}  // namespace datom::replication

#include "replication/config.h"

namespace datom::replication {

std::size_t quorum(std::size_t voters) {
  return voters / 2 + 1;
}

Config::Config(const protocol::GroupRecord& record) : epoch_(record.config_epoch) {
  for (const auto* set : {&record.voters, &record.next_voters}) {
    if (set->empty()) continue;
    std::vector<Uuid>& uuids = sets_.emplace_back();
    for (const ReplicaRecord& one : *set) {
      uuids.push_back(one.replica);
      if (voter(one.replica) == nullptr) voters_.push_back(one);
    }
  }
  members_ = voters_;
  if (record.learners.empty()) return;
  learner_ = record.learners.front();
  if (member(learner_->member.replica) == nullptr) members_.push_back(learner_->member);
}

const ReplicaRecord* Config::find(const std::vector<ReplicaRecord>& among, const Uuid& replica) {
  const auto found = std::find_if(among.begin(), among.end(),
                                  [&](const ReplicaRecord& one) { return one.replica == replica; });
  return found == among.end() ? nullptr : &*found;
}

}  // namespace datom::replication

// Who takes part in a group, and what a quorum of them is: a majority of the voters, and while two
// configurations are joint, a majority of each (rule M3).
#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <vector>

#include "common/uuid.h"
#include "protocol/records.h"

namespace datom::replication {

using protocol::LearnerRecord;
using protocol::ReplicaRecord;

// Q of n voters: floor(n / 2) + 1.
std::size_t quorum(std::size_t voters);

class Config {
 public:
  Config() = default;
  explicit Config(const protocol::GroupRecord& record);

  std::uint64_t epoch() const { return epoch_; }
  bool joint() const { return sets_.size() > 1; }
  const std::optional<LearnerRecord>& learner() const { return learner_; }
  // Everyone whose answers count in some quorum, each once.
  const std::vector<ReplicaRecord>& voters() const { return voters_; }
  // Voters and learner.
  const std::vector<ReplicaRecord>& members() const { return members_; }

  // nullptr: it is none.
  const ReplicaRecord* voter(const Uuid& replica) const { return find(voters_, replica); }
  const ReplicaRecord* member(const Uuid& replica) const { return find(members_, replica); }

  // Whether `has(replica)` holds for a quorum.
  template <typename Has>
  bool quorum_has(Has has) const {
    return std::all_of(sets_.begin(), sets_.end(), [&](const std::vector<Uuid>& set) {
      const auto count = std::count_if(set.begin(), set.end(), has);
      return static_cast<std::size_t>(count) >= quorum(set.size());
    });
  }

  // The greatest value that a quorum reaches, `get(replica)` being each one's.
  template <typename Value, typename Get>
  Value on_quorum(Get get) const {
    std::optional<Value> least;
    for (const std::vector<Uuid>& set : sets_) {
      std::vector<Value> values;
      for (const Uuid& replica : set) values.push_back(get(replica));
      std::sort(values.begin(), values.end(), std::greater<>());
      const Value reached = values[quorum(set.size()) - 1];
      least = least ? std::min(*least, reached) : reached;
    }
    return least.value_or(Value{});
  }

 private:
  static const ReplicaRecord* find(const std::vector<ReplicaRecord>& among, const Uuid& replica);

  std::uint64_t epoch_ = 0;
  std::vector<std::vector<Uuid>> sets_;  // of voters: one, or two while joint
  std::vector<ReplicaRecord> voters_;
  std::vector<ReplicaRecord> members_;
  std::optional<LearnerRecord> learner_;
};

}  // namespace datom::replication

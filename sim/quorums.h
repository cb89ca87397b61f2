// What a quorum is (rule M3), written down a second time: what is checked and what checks it must
// not be the same code.
#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <vector>

#include "common/uuid.h"
#include "protocol/records.h"

namespace datom::sim {

class Quorums {
 public:
  explicit Quorums(const protocol::GroupRecord& record) {
    for (const auto* set : {&record.voters, &record.next_voters}) {
      if (set->empty()) continue;
      std::vector<Uuid>& uuids = sets_.emplace_back();
      for (const protocol::ReplicaRecord& voter : *set) uuids.push_back(voter.replica);
    }
  }

  static bool is_majority(std::size_t some, std::size_t of) { return 2 * some > of; }

  // Whether `has(replica)` holds for a majority of the voters; while two configurations are joint,
  // of each.
  template <typename Has>
  bool all_have(Has has) const {
    return std::all_of(sets_.begin(), sets_.end(), [&](const std::vector<Uuid>& set) {
      const auto some = std::count_if(set.begin(), set.end(), has);
      return is_majority(static_cast<std::size_t>(some), set.size());
    });
  }

  // The greatest value that they reach, `get(replica)` being each one's.
  template <typename Value, typename Get>
  Value reached(Get get) const {
    std::optional<Value> least;
    for (const std::vector<Uuid>& set : sets_) {
      std::vector<Value> values;
      for (const Uuid& replica : set) values.push_back(get(replica));
      std::sort(values.begin(), values.end(), std::greater<>());
      std::size_t some = 1;
      while (!is_majority(some, set.size())) ++some;
      const Value here = values[some - 1];
      least = least ? std::min(*least, here) : here;
    }
    return least.value_or(Value{});
  }

 private:
  std::vector<std::vector<Uuid>> sets_;  // one, or two while they are joint
};

}  // namespace datom::sim

// The choice of a leader: quorums and the elector's collected answers. Rules E1-E3.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "protocol/group_messages.h"
#include "protocol/records.h"

namespace datom::replication {

using protocol::ReplicaRecord;

// Q of n voters: floor(n / 2) + 1.
std::size_t quorum(std::size_t voters);

// The voter with that replica uuid; nullptr if it is none.
const ReplicaRecord* find_voter(const std::vector<ReplicaRecord>& voters, const Uuid& replica);

// Answers to one election's probes and seals, by replica; answers of others than voters are not
// taken.
class Election {
 public:
  explicit Election(std::vector<ReplicaRecord> voters) : voters_(std::move(voters)) {}

  void probe_answered(const Uuid& replica, const protocol::ProbeReply& reply);
  // Q voters answered.
  bool quorum_present() const { return present_.size() >= quorum(voters_.size()); }
  // The highest promise among the answers (rule T3).
  Term highest_promise() const { return highest_promise_; }

  void sealed(const Uuid& replica, const protocol::SealReply& reply);
  bool has_sealed(const Uuid& replica) const { return seals_.contains(replica); }
  std::size_t seals() const { return seals_.size(); }

  struct Choice {
    ReplicaRecord replica;
    protocol::SealReply report;
  };
  // Of at least Q trustworthy reports (base complete, head certain), the greatest (last term, last
  // op); `preferred` wins a tie. nullopt while there are fewer.
  std::optional<Choice> choose(const Uuid& preferred) const;

 private:
  std::vector<ReplicaRecord> voters_;
  std::map<Uuid, bool> present_;
  Term highest_promise_;
  std::map<Uuid, protocol::SealReply> seals_;
};

}  // namespace datom::replication

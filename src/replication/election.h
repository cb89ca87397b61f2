// The choice of a leader: the elector's collected answers. Rules E1-E3.
#pragma once

#include <map>
#include <optional>
#include <set>

#include "protocol/group_messages.h"
#include "replication/config.h"
#include "replication/effects.h"

namespace datom::replication {

// Answers to one election's probes and seals, by replica; answers of others than voters are not
// taken.
class Election {
 public:
  explicit Election(Config config) : config_(std::move(config)) {}

  const Config& config() const { return config_; }

  void probe_answered(const Uuid& replica, const protocol::ProbeReply& reply);
  // A quorum answered.
  bool quorum_present() const;
  // The highest promise among the answers (rule T3).
  Term highest_promise() const { return highest_promise_; }

  void sealed(const Uuid& replica, const protocol::SealReply& reply, Instant now);
  bool has_sealed(const Uuid& replica) const { return seals_.contains(replica); }
  // When every lease that a sealed voter knows of is over (rule R2).
  Instant leases_over() const { return leases_over_; }

  struct Choice {
    ReplicaRecord replica;
    protocol::SealReply report;
  };
  // Of a quorum of trustworthy reports (base complete, head certain), the greatest (last term, last
  // op); `preferred` wins a tie. nullopt while there are fewer.
  std::optional<Choice> choose(const Uuid& preferred) const;

 private:
  Config config_;
  std::set<Uuid> present_;
  Term highest_promise_;
  std::map<Uuid, protocol::SealReply> seals_;
  Instant leases_over_{};
};

}  // namespace datom::replication

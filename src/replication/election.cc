#include "replication/election.h"

#include <algorithm>
#include <tuple>

namespace datom::replication {

void Election::probe_answered(const Uuid& replica, const protocol::ProbeReply& reply) {
  if (config_.voter(replica) == nullptr) return;
  present_.insert(replica);
  highest_promise_ = std::max(highest_promise_, reply.promised);
}

bool Election::quorum_present() const {
  return config_.quorum_has([this](const Uuid& replica) { return present_.contains(replica); });
}

void Election::sealed(const Uuid& replica, const protocol::SealReply& reply, Instant now) {
  if (config_.voter(replica) == nullptr || !reply.sealed) return;
  seals_[replica] = reply;
  leases_over_ = std::max(leases_over_, now + reply.lease_left);
}

std::optional<Election::Choice> Election::choose(const Uuid& preferred) const {
  const auto trustworthy = [this](const Uuid& replica) {
    const auto seal = seals_.find(replica);
    return seal != seals_.end() && seal->second.base_complete && seal->second.head_certain;
  };
  if (!config_.quorum_has(trustworthy)) return std::nullopt;
  const auto rank = [&](const Uuid& replica) {
    const protocol::SealReply& report = seals_.at(replica);
    return std::tuple(report.last.term, report.last.op, replica == preferred);
  };
  const Uuid* best = nullptr;
  for (const auto& [replica, report] : seals_) {
    if (!trustworthy(replica)) continue;
    if (best == nullptr || rank(replica) > rank(*best)) best = &replica;
  }
  return Choice{*config_.voter(*best), seals_.at(*best)};
}

}  // namespace datom::replication

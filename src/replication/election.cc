#include "replication/election.h"

#include <algorithm>
#include <tuple>

namespace datom::replication {

std::size_t quorum(std::size_t voters) {
  return voters / 2 + 1;
}

const ReplicaRecord* find_voter(const std::vector<ReplicaRecord>& voters, const Uuid& replica) {
  const auto found = std::find_if(voters.begin(), voters.end(), [&](const ReplicaRecord& voter) {
    return voter.replica == replica;
  });
  return found == voters.end() ? nullptr : &*found;
}

void Election::probe_answered(const Uuid& replica, const protocol::ProbeReply& reply) {
  if (find_voter(voters_, replica) == nullptr) return;
  present_[replica] = true;
  highest_promise_ = std::max(highest_promise_, reply.promised);
}

void Election::sealed(const Uuid& replica, const protocol::SealReply& reply) {
  if (find_voter(voters_, replica) != nullptr && reply.sealed) seals_[replica] = reply;
}

std::optional<Election::Choice> Election::choose(const Uuid& preferred) const {
  const protocol::SealReply* best = nullptr;
  const Uuid* best_replica = nullptr;
  std::size_t trustworthy = 0;
  const auto rank = [&](const Uuid& replica, const protocol::SealReply& report) {
    return std::tuple(report.last.term, report.last.op, replica == preferred);
  };
  for (const auto& [replica, report] : seals_) {
    if (!report.base_complete || !report.head_certain) continue;
    ++trustworthy;
    if (best == nullptr || rank(replica, report) > rank(*best_replica, *best)) {
      best = &report;
      best_replica = &replica;
    }
  }
  if (trustworthy < quorum(voters_.size())) return std::nullopt;
  return Choice{*find_voter(voters_, *best_replica), *best};
}

}  // namespace datom::replication

#include "config_service/trouble_clocks.h"

#include <fmt/core.h>

#include <optional>

namespace datom::config_service {
namespace {

// A replica that has stopped waits to join its group, or has not even been opened. Others tell of
// trouble too, and take part all the same.
bool cannot_be_used(const protocol::ReplicaStatus& status) {
  const bool idle = status.state().empty() || status.state() == "FOLLOWER_WAIT_TO_JOIN_GROUP";
  return idle && !status.trouble().empty();
}

std::optional<TroubleClocks::Lost> look_at(const protocol::ReplicaRecord& replica,
                                           const protocol::VolumeRecord& volume,
                                           const Answers& answers) {
  const auto answer = answers.find(replica.service);
  if (answer == answers.end() || !answer->second.up) {
    return TroubleClocks::Lost{{}, fmt::format("{} is down", replica.service), false};
  }
  if (!answer->second.trouble.empty()) return std::nullopt;
  const protocol::ReplicaStatus* status = find_replica(answer->second, volume.id, replica.replica);
  if (status == nullptr && replica.replica == volume.move_to) {
    return TroubleClocks::Lost{{}, fmt::format("{} does not make it", replica.service), true};
  }
  if (status == nullptr || !cannot_be_used(*status)) return std::nullopt;
  return TroubleClocks::Lost{{}, fmt::format("{}: {}", replica.service, status->trouble()), true};
}

}  // namespace

void TroubleClocks::observe(runtime::Time now, const Domain& domain, const Answers& answers) {
  std::map<Uuid, Lost> lost;
  for (const auto& [name, volume] : domain.volumes) {
    for (const protocol::ReplicaRecord& replica : domain.replicas_of(volume.record)) {
      std::optional<Lost> one = look_at(replica, volume.record, answers);
      if (!one) continue;
      const Lost* before = find(replica.replica);
      one->since = before == nullptr ? now : before->since;
      lost[replica.replica] = std::move(*one);
    }
  }
  lost_ = std::move(lost);
}

const TroubleClocks::Lost* TroubleClocks::find(const Uuid& replica) const {
  const auto found = lost_.find(replica);
  return found == lost_.end() ? nullptr : &found->second;
}

}  // namespace datom::config_service

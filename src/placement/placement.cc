#include "placement/placement.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "common/error.h"

namespace datom::placement {
namespace {

using protocol::NodeState;

// Reasons shown in one message; a domain may have many servers.
constexpr std::size_t kMaxReasons = 8;

bool has_room(const Candidate& candidate, const Demand& demand) {
  return !candidate.unclaimed_bytes || *candidate.unclaimed_bytes >= demand.bytes;
}

// Why it cannot hold a replica, nullopt if it can.
std::optional<std::string> obstacle(const Candidate& candidate, const Demand& demand) {
  if (candidate.node_state != NodeState::in_service) {
    return fmt::format("node {} is {}", candidate.node, protocol::name(candidate.node_state));
  }
  if (!candidate.trouble.empty()) {
    return fmt::format("{} on {} {}", candidate.service, candidate.node, candidate.trouble);
  }
  if (!has_room(candidate, demand)) {
    return fmt::format("{} on {} has {} bytes left to give, {} needed", candidate.service,
                       candidate.node, *candidate.unclaimed_bytes, demand.bytes);
  }
  return std::nullopt;
}

std::string joined(const std::vector<std::string>& reasons) {
  const std::size_t shown = std::min(reasons.size(), kMaxReasons);
  std::string text = fmt::format("{}", fmt::join(reasons.begin(), reasons.begin() + shown, "; "));
  if (shown < reasons.size()) text += fmt::format("; and {} more", reasons.size() - shown);
  return text;
}

[[noreturn]] void refuse(const Demand& demand, const std::vector<Candidate>& candidates,
                         const std::set<std::string>& usable_nodes) {
  std::vector<std::string> reasons;
  std::set<std::string> nodes_with_more_room = usable_nodes;
  for (const Candidate& candidate : candidates) {
    const std::optional<std::string> reason = obstacle(candidate, demand);
    if (!reason) continue;
    reasons.push_back(*reason);
    if (!has_room(candidate, demand) && candidate.trouble.empty() &&
        candidate.node_state == NodeState::in_service) {
      nodes_with_more_room.insert(candidate.node);
    }
  }
  const bool only_space = nodes_with_more_room.size() >= demand.replicas;
  const std::string what = demand.replicas == 1
                               ? "a replica needs a node"
                               : fmt::format("{} replicas need as many nodes", demand.replicas);
  throw Error(only_space ? Code::no_space : Code::unavailable,
              "{} with a volume server that can take {} bytes, found {}{}{}{}", what, demand.bytes,
              usable_nodes.size(),
              usable_nodes.empty() ? "" : fmt::format(" ({})", fmt::join(usable_nodes, ", ")),
              reasons.empty() ? "" : "; left out: ", joined(reasons));
}

}  // namespace

std::vector<std::string> place(const Demand& demand, std::vector<Candidate> candidates) {
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return std::tie(a.bytes_placed, a.replicas, a.service) <
           std::tie(b.bytes_placed, b.replicas, b.service);
  });
  std::vector<std::string> chosen;
  std::set<std::string> nodes;
  for (const Candidate& candidate : candidates) {
    if (chosen.size() == demand.replicas) break;
    if (obstacle(candidate, demand) || !nodes.insert(candidate.node).second) continue;
    chosen.push_back(candidate.service);
  }
  if (chosen.size() < demand.replicas) refuse(demand, candidates, nodes);
  return chosen;
}

}  // namespace datom::placement

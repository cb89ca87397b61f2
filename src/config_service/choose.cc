#include "config_service/choose.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>

#include "common/error.h"

namespace datom::config_service {
namespace {

using placement::Candidate;

// Bytes of the server's disk that no replica has a claim on: replicas are sparse, and may grow to
// their volume's size.
std::optional<std::uint64_t> unclaimed_bytes(const Answer& answer, std::uint64_t bytes_placed) {
  if (!answer.reply.has_free_bytes()) return std::nullopt;
  std::uint64_t used = 0;
  for (const protocol::ReplicaStatus& status : answer.reply.replicas()) {
    used += status.bytes_used();
  }
  const std::uint64_t claimed = bytes_placed > used ? bytes_placed - used : 0;
  const std::uint64_t free = answer.reply.free_bytes();
  return free > claimed ? free - claimed : 0;
}

Candidate candidate(const Domain& domain, const std::string& service, const Answer& answer) {
  Candidate result;
  result.service = service;
  result.node = domain.node_of(service);
  const auto node = domain.nodes.find(result.node);
  result.node_state =
      node == domain.nodes.end() ? protocol::NodeState::out : node->second.record.state;
  result.trouble = answer.trouble;
  for (const auto& [name, volume] : domain.volumes) {
    for (const protocol::ReplicaRecord& replica : domain.replicas_of(volume.record)) {
      if (replica.service != service) continue;
      result.bytes_placed += volume.record.size;
      ++result.replicas;
    }
  }
  result.unclaimed_bytes = unclaimed_bytes(answer, result.bytes_placed);
  return result;
}

// Where the volume is kept already.
struct Kept {
  std::set<std::string> services;
  std::set<std::string> nodes;  // but for that of the replica that leaves
};

Kept kept(const Domain& domain, const protocol::VolumeRecord& volume,
          const protocol::ReplicaRecord& leaving) {
  Kept result;
  for (const protocol::ReplicaRecord& replica : domain.replicas_of(volume)) {
    result.services.insert(replica.service);
    if (replica != leaving) result.nodes.insert(domain.node_of(replica.service));
  }
  return result;
}

}  // namespace

std::vector<Candidate> candidates(const Domain& domain, const Answers& answers) {
  std::vector<Candidate> result;
  for (const auto& [service, answer] : answers) {
    result.push_back(candidate(domain, service, answer));
  }
  return result;
}

std::string choose_successor(const Domain& domain, const Answers& answers,
                             const protocol::VolumeRecord& volume,
                             const protocol::ReplicaRecord& leaving, const std::string& wanted) {
  const Kept there = kept(domain, volume, leaving);
  std::vector<Candidate> all = candidates(domain, answers);
  if (!wanted.empty()) {
    std::erase_if(all, [&](const Candidate& each) { return each.service != wanted; });
    if (all.empty()) {
      throw Error(Code::not_found, "{} is no volume server of domain {}; there are: {}", wanted,
                  domain.name, fmt::join(volume_servers(domain), ", "));
    }
  }
  for (Candidate& each : all) {
    if (there.services.contains(each.service)) {
      each.trouble = fmt::format("keeps a replica of {} already", volume.name);
    } else if (there.nodes.contains(each.node)) {
      each.trouble = fmt::format("is on a node that keeps a replica of {} already", volume.name);
    } else if (wanted.empty() && each.node == domain.node_of(leaving.service)) {
      each.trouble = "is on the node that the replica is to leave";
    }
  }
  placement::Demand demand;
  demand.replicas = 1;
  demand.bytes = volume.size;
  return placement::place(demand, std::move(all)).front();
}

}  // namespace datom::config_service

// Which volume servers should hold the replicas of a volume. Pure: it decides from what it is
// given.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocol/records.h"

namespace datom::placement {

// A volume server of the domain, as it is known when a volume is to be placed.
struct Candidate {
  std::string service;
  std::string node;
  protocol::NodeState node_state = protocol::NodeState::in_service;
  std::string trouble = "is down";  // why it cannot be used now; empty: it can
  std::uint64_t bytes_placed = 0;   // sizes of the volumes of which it holds a replica
  std::uint64_t replicas = 0;       // how many it holds
  // Bytes of its disk that no replica, however full it gets, has a claim on; not set: unknown, then
  // it is taken to be enough.
  std::optional<std::uint64_t> unclaimed_bytes;
};

struct Demand {
  std::uint32_t replicas = 0;
  std::uint64_t bytes = 0;  // of each
};

// The services to hold the replicas, each on a node of its own: least used first, that is by bytes
// placed, then replicas, then name. Throws Error saying how many were wanted, how many nodes could
// take one, and why the other candidates were left out: no_space if there would be enough nodes
// with more room on their disks, else unavailable.
std::vector<std::string> place(const Demand& demand, std::vector<Candidate> candidates);

}  // namespace datom::placement

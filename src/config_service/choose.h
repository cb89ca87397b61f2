// Which server is to keep a replica: the domain and what its servers say, made into what placement
// decides by.
#pragma once

#include <string>
#include <vector>

#include "config_service/domain.h"
#include "config_service/replica_answers.h"
#include "placement/placement.h"
#include "protocol/records.h"

namespace datom::config_service {

// The volume servers that `answers` tells of.
std::vector<placement::Candidate> candidates(const Domain& domain, const Answers& answers);

// The server for a replica that takes the place of `leaving`, on a node that keeps no other replica
// of the volume: `wanted`, or, if that is empty, the least used one, on another node than that of
// `leaving`. Throws Error{not_found} where there is no server `wanted`; unavailable or no_space
// with the reasons, as placement::place.
std::string choose_successor(const Domain& domain, const Answers& answers,
                             const protocol::VolumeRecord& volume,
                             const protocol::ReplicaRecord& leaving, const std::string& wanted);

}  // namespace datom::config_service

// Records of the tree and answers of the services, as the messages that people and programs get.
// Pure.
#pragma once

#include <string>

#include "config_service/domain.h"
#include "config_service/replica_answers.h"
#include "protocol/config.pb.h"

namespace datom::config_service {

// REQUIRES: the node, service or volume of that name is in the domain.
protocol::Node node_view(const Domain& domain, const std::string& name);
// The same with the replicas that it holds.
protocol::Node node_info_view(const Domain& domain, const std::string& name);
protocol::Service service_view(const Domain& domain, const std::string& name);

// State: healthy when its leader serves and every voter is functional, unavailable when no member
// says that it serves as leader, else degraded. Whom `answers` does not tell of is in trouble.
protocol::Volume volume_view(const Domain& domain, const std::string& name, const Answers& answers);

}  // namespace datom::config_service

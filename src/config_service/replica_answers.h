// What the volume servers themselves say of their replicas.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/uuid.h"
#include "config_service/domain.h"
#include "protocol/volume.pb.h"
#include "rpc/rpc.h"
#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::config_service {

struct Answer {
  bool up = false;  // as the coordination tree has it
  std::string
      trouble;  // why there is no answer: "is down", "does not answer: ..."; empty: there is
  protocol::ReplicaStatusReply reply;
};

using Answers = std::map<std::string, Answer>;  // by service

// Asks those of `services` that are up, all at once, `timeout` in all. A nil `volume` asks for all
// replicas.
runtime::Task<Answers> ask_replicas(runtime::Loop& loop, rpc::Caller& caller, const Domain& domain,
                                    std::vector<std::string> services, Uuid volume,
                                    runtime::Duration timeout);

// The report on a volume's replica in an answer; nullptr if it is not among them. A report that
// names no replica is of one that could not be opened, whichever.
const protocol::ReplicaStatus* find_replica(const Answer& answer, const Uuid& volume,
                                            const Uuid& replica);
// Whether the answer tells of any replica of the volume.
bool has_replica(const Answer& answer, const Uuid& volume);

// Names of the volume servers of the domain.
std::vector<std::string> volume_servers(const Domain& domain);

}  // namespace datom::config_service

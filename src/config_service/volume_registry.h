// The volumes of a domain: making them, removing them, and how they are.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common/uuid.h"
#include "config_service/domain.h"
#include "config_service/replica_answers.h"
#include "coordination/client.h"
#include "protocol/config_fwd.h"
#include "rpc/rpc.h"
#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::config_service {

// Where a removal stands.
struct Removal {
  bool done = false;                 // the volume is gone from the tree
  std::vector<std::string> waiting;  // services that are up and have not dropped their replica
  std::vector<std::string> down;     // services that will drop it once they are up again
};

class VolumeRegistry {
 public:
  // They must outlive it; all on `loop`. `ask_timeout` is how long a volume server has to answer.
  VolumeRegistry(runtime::Loop& loop, runtime::Random& random, coordination::Client& client,
                 rpc::Caller& caller, std::string domain, runtime::Duration ask_timeout);

  // Places the volume and records it; its servers make the replicas when they see the record. Does
  // not wait for them. Throws Error
  //   invalid_argument  a field makes no sense, saying which
  //   already_exists    the name is taken (by another id than the request's)
  //   unavailable, no_space  it cannot be placed (placement.h)
  runtime::Task<void> create(protocol::CreateVolumeRequest request);

  // As the tree and the volume's servers have it. Error{not_found}.
  runtime::Task<protocol::Volume> info(std::string name);

  // Other limits for its clients; its servers keep to them as soon as they see the record.
  // Error{not_found}, Error{invalid_argument}.
  runtime::Task<void> set_limits(protocol::SetVolumeRequest request);

  // Decides that the volume goes; from here on it does, whatever happens. Gives its id.
  // Error{not_found}.
  runtime::Task<Uuid> begin_removal(std::string name);
  // One step of it: takes the volume from the tree once every server that is up has dropped its
  // replica. Done, too, when that volume (by id) is not there any more.
  runtime::Task<Removal> continue_removal(std::string name, Uuid id);
  // Volumes on their way out, with their ids.
  runtime::Task<std::map<std::string, Uuid>> removals();

 private:
  runtime::Task<std::vector<std::string>> place(const Domain& domain, std::uint32_t replicas,
                                                std::uint64_t size);
  // Writes the record as `alter` leaves it, which may be asked again for a newer one; gives what is
  // there then. Error{not_found}, and what `alter` throws.
  runtime::Task<protocol::VolumeRecord> change(std::string name,
                                               std::function<void(protocol::VolumeRecord&)> alter);
  runtime::Task<std::vector<coordination::Operation>> deletion(const protocol::VolumeRecord& volume,
                                                               coordination::Version version);

  runtime::Loop& loop_;
  runtime::Random& random_;
  coordination::Client& client_;
  rpc::Caller& caller_;
  std::string domain_;
  runtime::Duration ask_timeout_;
};

}  // namespace datom::config_service

// The nodes of a domain and the services that they run.
#pragma once

#include <string>
#include <vector>

#include "config_service/domain.h"
#include "coordination/client.h"
#include "protocol/config_fwd.h"
#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::config_service {

// What registers the node and its services in `domain`, or brings them up to date: a request of the
// same node (by uuid) may be repeated, and may change hardware, host and ports or add services;
// services it does not name stay. Throws Error
//   invalid_argument  a field is missing or makes no sense, ports collide on the node
//   already_exists    the node's or a service's name is taken, or the uuid goes by another name
std::vector<coordination::Operation> registration(const protocol::AddNodeRequest& request,
                                                  const Domain& domain);

class NodeRegistry {
 public:
  // They must outlive it; all on `loop`.
  NodeRegistry(runtime::Loop& loop, coordination::Client& client, std::string domain);

  // Throws as registration().
  runtime::Task<void> add(protocol::AddNodeRequest request);
  // Takes the node and its services out of the domain. Throws Error{not_found}; Error{conflict}
  // naming the volumes that it holds or the services that are up.
  runtime::Task<void> remove(std::string name);
  // Decides that its replicas move away, or, with `cancel`, that it is in service again.
  // Error{not_found}.
  runtime::Task<void> drain(std::string name, bool cancel);
  // Its state is `out` from now on. False: the tree is not as in `domain`, where it holds nothing,
  // any more.
  runtime::Task<bool> finish_drain(const Domain& domain, std::string name);

 private:
  runtime::Loop& loop_;
  coordination::Client& client_;
  std::string domain_;
};

}  // namespace datom::config_service

// Moves replicas of volumes from one server to another (move_step.h).
#pragma once

#include <string>
#include <vector>

#include "config_service/domain.h"
#include "config_service/property_registry.h"
#include "coordination/client.h"
#include "protocol/records.h"
#include "rpc/rpc.h"
#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::config_service {

// How many moves are under way.
std::size_t count_moves(const Domain& domain);

class VolumeMover {
 public:
  // They must outlive it; all on `loop`. `ask_timeout` is how long a volume server has to answer.
  VolumeMover(runtime::Loop& loop, runtime::Random& random, coordination::Client& client,
              rpc::Caller& caller, PropertyRegistry& properties, std::string domain,
              runtime::Duration ask_timeout);

  // Decides that the replica on service `from` moves to service `to`, "": the least used one that
  // can take it. Done, too, if it is on its way there. Throws Error
  //   not_found    there is no such volume, replica or server
  //   conflict     it is being removed, another move of it is under way, or too many of others are
  //   unavailable, no_space  as choose_successor()
  runtime::Task<void> begin(std::string volume, std::string from, std::string to);

  // Decides that the move under way is undone, and gives the new replica that goes. Throws
  // Error{not_found} where there is none, Error{conflict} where it is too late.
  runtime::Task<Uuid> begin_undo(std::string volume);

  // Lets `service` keep a new replica in the place of `from`, as of a reading of the tree, which it
  // brings up to date. REQUIRES: the volume is in it, without a move. False: the tree is another by
  // now.
  runtime::Task<bool> place(Domain& domain, std::string volume, protocol::ReplicaRecord from,
                            std::string service);
  // The same for the new replica of the move that is under way, as long as it has no vote: another
  // new one, on `service`, takes its place.
  runtime::Task<bool> place_elsewhere(Domain& domain, std::string volume, std::string service);

  // The next step of the volume, if there is one. Gives in words why it could not be done; empty:
  // it was, or there is nothing to do.
  runtime::Task<std::string> step(std::string volume);

 private:
  runtime::Task<bool> write(Domain& domain, const std::string& volume,
                            protocol::VolumeRecord record, std::string new_service);
  runtime::Task<std::string> cancel_learner(const protocol::GroupRecord& group, Uuid volume,
                                            Uuid learner);
  runtime::Task<std::string> ask_leader(const protocol::GroupRecord& group, rpc::Method method,
                                        std::string request);

  runtime::Loop& loop_;
  runtime::Random& random_;
  coordination::Client& client_;
  rpc::Caller& caller_;
  PropertyRegistry& properties_;
  std::string domain_;
  runtime::Duration ask_timeout_;
};

}  // namespace datom::config_service

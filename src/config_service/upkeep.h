// Keeps replicas where they belong: goes on with moves that are under way, replaces replicas that
// have been lost for long, and moves away those of nodes that are draining. Works while this config
// service is the active one; what it decides is in the tree at once, so that another one can go on.
#pragma once

#include <map>
#include <set>
#include <string>

#include "config_service/active_role.h"
#include "config_service/domain.h"
#include "config_service/node_registry.h"
#include "config_service/property_registry.h"
#include "config_service/replica_answers.h"
#include "config_service/trouble_clocks.h"
#include "config_service/volume_mover.h"
#include "coordination/client.h"
#include "rpc/rpc.h"
#include "runtime/loop.h"
#include "runtime/task.h"
#include "runtime/wait.h"
#include "telemetry/log.h"

namespace datom::config_service {

class Upkeep {
 public:
  struct Parts {
    runtime::Loop& loop;
    coordination::Client& client;
    rpc::Caller& caller;
    ActiveRole& role;
    VolumeMover& mover;
    NodeRegistry& nodes;
    PropertyRegistry& properties;
  };
  // The parts must outlive it.
  Upkeep(Parts parts, telemetry::Log log, std::string domain, runtime::Duration ask_timeout);

  // Until stop().
  runtime::Task<void> run();
  void stop();
  // There is something to do: looks at once.
  void wake();

  // Why the volume's move did not get on when it was last tried, in words; empty: it does.
  std::string move_trouble(const std::string& volume) const;
  // What is to be said of replicas of the volume that should be elsewhere and are not yet; empty:
  // nothing.
  std::string waiting(const std::string& volume) const;

 private:
  // One reading of everything, and what it allows.
  struct Round {
    Domain domain;
    Answers answers;
    runtime::Duration replace_after{0};  // 0: never
    std::size_t limit = 0;               // of moves at once
    std::map<std::string, std::string> waiting;
  };

  runtime::Task<void> turn();
  runtime::Task<void> look();
  runtime::Task<Round> read();
  runtime::Task<void> step_volumes(std::set<std::string> names);
  runtime::Task<void> step_volume(std::string name);
  runtime::Task<void> leave_lost_targets(Round& round);
  runtime::Task<void> leave_lost_target(Round& round, std::string volume);
  runtime::Task<void> replace_lost(Round& round);
  runtime::Task<void> replace_lost_of(Round& round, std::string volume);
  runtime::Task<void> drain_nodes(Round& round);
  runtime::Task<void> drain_node(Round& round, std::string node);
  runtime::Task<void> move_away(Round& round, std::string volume, protocol::ReplicaRecord replica,
                                bool may_stay, std::string why);
  bool can_be_replaced(const Round& round, const std::string& volume,
                       const protocol::ReplicaRecord& replica) const;
  const TroubleClocks::Lost* lost_for_long(const Round& round, const Uuid& replica) const;

  Parts parts_;
  telemetry::Log log_;
  std::string domain_;
  runtime::Duration ask_timeout_;

  TroubleClocks clocks_;
  std::uint64_t takeover_ = 0;    // that the clocks are of
  std::set<std::string> moving_;  // volumes with something to do
  std::map<std::string, std::string> move_troubles_;
  std::map<std::string, std::string> waiting_;
  runtime::Time next_look_{};
  runtime::Timer pause_;
  std::string trouble_;  // why the last turn came to nothing
  bool woken_ = false;
  bool stopping_ = false;
};

}  // namespace datom::config_service

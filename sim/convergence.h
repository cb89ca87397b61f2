// What must come true once everything is healed: clients get their answers, the volume has a
// leader, all replicas are functional, at the same op, and equal.
#pragma once

#include "sim/bounds.h"
#include "sim/clients.h"
#include "sim/domain.h"
#include "sim/invariants.h"
#include "sim/verdict.h"

namespace datom::sim {

class Convergence {
 public:
  Convergence(Domain& domain, Clients& clients, const Invariants& invariants, Bounds& bounds,
              Verdict& verdict)
      : domain_(domain),
        clients_(clients),
        invariants_(invariants),
        bounds_(bounds),
        verdict_(verdict) {}

  // Heals, waits in bounded time, reads every block, ends the watch of bounds, stops the servers.
  runtime::Task<void> demand();

  std::uint64_t highest_term() const { return highest_term_; }

 private:
  runtime::Task<void> restart_stopped();
  runtime::Task<void> kill_everything();
  runtime::Task<void> repair();
  runtime::Task<void> compare_files();
  runtime::Task<protocol::ReplicaStatus> status_of(protocol::ReplicaRecord voter);
  Server& server_of(const protocol::ReplicaRecord& voter);
  runtime::Task<bool> reached(std::string& what);

  Domain& domain_;
  Clients& clients_;
  const Invariants& invariants_;
  Bounds& bounds_;
  Verdict& verdict_;
  std::uint64_t highest_term_ = 0;
};

}  // namespace datom::sim

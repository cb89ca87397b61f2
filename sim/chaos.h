// Injects a seed's faults while clients work.
#pragma once

#include <array>
#include <cstdint>

#include "runtime/task_group.h"
#include "sim/clients.h"
#include "sim/domain.h"
#include "sim/faults.h"
#include "sim/verdict.h"

namespace datom::sim {

class Chaos {
 public:
  Chaos(std::uint64_t seed, const Faults& faults, Domain& domain, Clients& clients,
        Verdict& verdict);

  // Spreads the faults over a time of `full`, those of its first `part` happen.
  void plan(runtime::Duration full, runtime::Duration part);
  // Waits for the last one to have passed.
  runtime::Task<void> close() { return tasks_.close(); }

 private:
  class Plan;
  using Link = std::pair<std::size_t, std::size_t>;  // from one server to another

  runtime::Task<void> crash(runtime::Duration when, std::size_t at, runtime::Duration away,
                            runtime::Duration linger);
  runtime::Task<void> freeze(runtime::Duration when, std::size_t at, runtime::Duration how_long);
  runtime::Task<void> partition(runtime::Duration when, std::vector<Link> links,
                                std::vector<runtime::Duration> how_long);
  runtime::Task<void> clog(runtime::Duration when, Link link, runtime::Duration how_long);
  runtime::Task<void> cut_coordination(runtime::Duration when, std::size_t at,
                                       runtime::Duration how_long);
  runtime::Task<void> expire(runtime::Duration when, std::size_t at);

  const std::uint64_t seed_;
  const Faults faults_;
  Domain& domain_;
  Clients& clients_;
  Verdict& verdict_;
  std::array<bool, kServers> busy_{};  // a fault is under way at that server
  runtime::TaskGroup tasks_;
};

}  // namespace datom::sim

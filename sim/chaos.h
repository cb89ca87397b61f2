// Injects a seed's faults while clients work.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/task_group.h"
#include "sim/clients.h"
#include "sim/domain.h"
#include "sim/faults.h"
#include "sim/invariants.h"
#include "sim/verdict.h"

namespace datom::sim {

class Chaos {
 public:
  Chaos(std::uint64_t seed, const Faults& faults, Domain& domain, Clients& clients,
        Invariants& invariants, Verdict& verdict);

  // Spreads the faults over a time of `full`, those of its first `part` happen.
  void plan(runtime::Duration full, runtime::Duration part);
  // Waits for the last one to have passed.
  runtime::Task<void> close() { return tasks_.close(); }

  using Link = std::pair<std::size_t, std::size_t>;  // from one server to another

  // Some of them, for whoever knows a moment for it: they begin after `when`.
  runtime::Task<void> crash(runtime::Duration when, std::size_t at, runtime::Duration away,
                            runtime::Duration linger);
  runtime::Task<void> freeze(runtime::Duration when, std::size_t at, runtime::Duration how_long);
  runtime::Task<void> partition(runtime::Duration when, std::vector<Link> links,
                                std::vector<runtime::Duration> how_long);
  runtime::Task<void> clog(runtime::Duration when, Link link, runtime::Duration how_long);
  runtime::Task<void> cut_coordination(runtime::Duration when, std::size_t at,
                                       runtime::Duration how_long);

 private:
  class Plan;

  void plan_disks(runtime::Duration full, runtime::Duration part);
  runtime::Task<void> refuse(runtime::Duration when, std::size_t at, DiskFault fault,
                             std::string path);
  runtime::Task<void> damage(runtime::Duration when, DiskFault fault);
  runtime::Task<void> flip(runtime::Duration when, std::uint64_t place);
  runtime::Task<void> flip_entry(runtime::Duration when, std::uint64_t place);
  runtime::Task<void> flip_journal(runtime::Duration when, bool newest, std::uint64_t place);
  runtime::Task<void> rot_journal(runtime::Duration when, std::uint64_t place);
  runtime::Task<void> rot_journal_now();
  runtime::Task<void> rot_superblock(runtime::Duration when, std::size_t at, std::uint64_t place);
  runtime::Task<void> rot_superblock_now(std::size_t at);
  runtime::Task<void> fill(runtime::Duration when, std::size_t at, std::uint64_t left,
                           runtime::Duration how_long);
  void plan_members(runtime::Duration full, runtime::Duration part);
  runtime::Task<bool> others_are_functional();
  runtime::Task<void> wipe(runtime::Duration when, runtime::Duration away);
  runtime::Task<void> move(runtime::Duration when, std::size_t which, std::size_t to);
  runtime::Task<void> cancel_move(runtime::Duration when);
  runtime::Task<void> drain(runtime::Duration when, std::size_t at, runtime::Duration how_long);
  runtime::Task<void> restart_config(runtime::Duration when);
  runtime::Task<void> break_coordination(runtime::Duration when, std::size_t at,
                                         runtime::Duration how_long);
  runtime::Task<void> expire_unseen(runtime::Duration when, std::size_t at,
                                    runtime::Duration until_over, runtime::Duration until_heard);
  runtime::Task<void> expire(runtime::Duration when, std::size_t at);
  runtime::Task<void> give_up_session(runtime::Duration when, std::size_t at,
                                      runtime::Duration kept);
  void plan_coordination(runtime::Duration full, runtime::Duration part);
  runtime::Task<void> hold_coordination(runtime::Duration when, std::size_t server,
                                        runtime::Duration how_long);
  runtime::Task<void> coordination_out(runtime::Duration when, runtime::Duration how_long);

  template <typename Request, typename Reply>
  runtime::Task<bool> ask_config(
      runtime::Task<Reply> (config_service::ConfigService::*ask)(Request), Request request);

  const std::uint64_t seed_;
  const Faults faults_;
  Domain& domain_;
  Clients& clients_;
  Invariants& invariants_;
  Verdict& verdict_;
  // The atlas: blocks at rest are damaged at one server only, so that a good copy of each op is
  // somewhere.
  std::size_t damaged_;
  // Where a bit of the superblock is to change as soon as the server is down, if one is.
  std::vector<std::optional<std::uint64_t>> rotting_;
  // The same, of the last write to its journal, at the server that is damaged.
  std::optional<std::uint64_t> journal_rots_;
  std::vector<bool> busy_;  // a fault is under way at that server
  bool config_restarts_ = false;
  std::size_t config_asked_ = 0;  // questions under way
  runtime::TaskGroup tasks_;
};

}  // namespace datom::sim

// What befalls a domain: which faults, how many, how bad. Drawn from the seed, so that each seed
// tries another mixture; every class of fault has random numbers of its own, so that one can be
// switched off and the others stay as they were.
#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/virtual_loop.h"
#include "sim/network.h"

namespace datom::sim {

enum class FaultClass : unsigned {
  loss,                // messages lost
  repeat,              // messages delivered twice
  reorder,             // messages delivered behind later ones
  replay,              // messages delivered once more, seconds later
  delay,               // messages take long
  slow_disk,           // so do operations of disks
  stall,               // some of them take seconds
  crash,               // kill -9 with a power cut, of one server
  crash_of_all,        // of all at the same time
  drift,               // clocks run at different rates
  freeze,              // a process stands still for a while, as by SIGSTOP
  partition,           // one server cut off, or one link, both ways or one way
  clog,                // links hold everything back for a while
  failed_sync,         // a sync or write fails: the replica must stop
  read_error,          // a read of blocks fails
  bit_flip,            // in a block at rest
  table_flip,          // in the table of blocks at rest
  journal_flip,        // in the journal: in what is kept for others, or was written a moment ago
  superblock_flip,     // in one of the superblock's slots, while its server is down
  misdirect,           // a write or read of blocks goes elsewhere
  disk_full,           // for a while
  wipe,                // a server comes back with an empty disk
  move,                // replicas move to other servers, by the config service; or it is undone
  drain,               // all replicas of a node are to leave it
  config_restart,      // the config service ends and another one goes on
  coordination_delay,  // its calls, answers and watches take long
  coordination_break,  // its connection breaks: calls under way are done or not
  coordination_cut,    // a server cannot reach coordination for a while
  expiry,              // of a live server's session; or it gives the session up before it is over
  unseen_expiry,       // the same, of one that is cut off and hears of it later
  stale_read,          // coordination's servers are behind, or stand still for a while
  outage,              // coordination is out for everybody
  lingering,           // a dead server's ephemeral nodes stay for some seconds
  tiny_journal,        // followers that were away copy blocks
  shared,              // several clients write at once
  long_lease,          // leases that outlive an election
  no_lease,            // reads ask a quorum
  client_timeout,      // clients fail what nobody answers for a second, or for less
  ambush,              // faults at the moments that matter
};
inline constexpr unsigned kFaultClasses = static_cast<unsigned>(FaultClass::ambush) + 1;
std::string_view name(FaultClass which);
std::optional<FaultClass> fault_class(std::string_view name);

class FaultSet {
 public:
  bool contains(FaultClass which) const { return bits_.test(static_cast<unsigned>(which)); }
  void insert(FaultClass which) { bits_.set(static_cast<unsigned>(which)); }
  bool empty() const { return bits_.none(); }

 private:
  std::bitset<kFaultClasses> bits_;
};

// The random numbers of one class in one seed. `use` tells several streams of a class apart.
runtime::SeededRandom stream(std::uint64_t seed, FaultClass which, std::uint64_t use = 0);
// Those of anything else, by name.
runtime::SeededRandom stream(std::uint64_t seed, std::string_view what);

struct Faults {
  NetworkFaults network;
  runtime::Duration slowest_disk{};  // an operation takes up to so long
  std::uint64_t stall_one_in = 0;    // so many operations, up to three seconds; 0: none
  int crashes = 0;
  int crashes_of_all = 0;
  std::int64_t drift = 0;  // clocks gain or lose up to so many millionths
  int freezes = 0;
  int partitions = 0;
  int clogs = 0;
  int failed_syncs = 0;
  int read_errors = 0;
  int bit_flips = 0;
  int table_flips = 0;
  int journal_flips = 0;
  int superblock_flips = 0;
  int misdirections = 0;
  int full_disks = 0;
  bool wipe = false;
  int moves = 0;
  int drains = 0;
  int config_restarts = 0;

  // Whether replicas may go to other servers than those they began on.
  bool membership() const { return wipe || moves > 0 || drains > 0; }
  runtime::Duration coordination_delay{};
  int coordination_breaks = 0;
  int coordination_cuts = 0;
  int expiries = 0;
  int unseen_expiries = 0;
  runtime::Duration
      coordination_lag{};      // each change reaches each of its servers after up to so long
  int coordination_holds = 0;  // a server of it takes nothing in for a while
  int outages = 0;
  bool lingering = false;
  bool tiny_journal = false;
  bool shared = false;
  bool long_lease = false;
  bool no_lease = false;
  runtime::Duration client_timeout{};  // 0: they wait for ever
  int ambushes = 0;
  // Of each server. None in half of the seeds: what a disk lost is then met by every read.
  std::uint64_t cache_blocks = 0;

  static Faults draw(std::uint64_t seed, const FaultSet& without);
  std::string describe() const;

 private:
  void leave_ambushes();
};

}  // namespace datom::sim

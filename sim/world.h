// A whole domain in virtual time, from one seed: three volume servers (the production code) over
// simulated disks, network and coordination; clients that read and write through them; faults. What
// the clients saw is checked, then everything is healed and must converge.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordination/memory/memory.h"
#include "runtime/virtual_loop.h"
#include "sim/history.h"
#include "sim/network.h"
#include "telemetry/log.h"

namespace datom::sim {

// What befalls the domain; drawn from the seed, so that each seed tries another mixture.
struct Faults {
  NetworkFaults network;
  runtime::Duration slowest_disk{};  // an operation takes up to so long
  int crashes = 0;                   // of a server, during the whole run
  int crashes_of_all = 0;            // all servers at the same time
  int partitions = 0;                // one server cut off, both ways or one way
  int coordination_cuts = 0;         // a server cannot reach coordination for a while
  int expiries = 0;                  // of a live server's session
  bool lingering = false;            // a dead server's ephemeral nodes stay for some seconds
  bool tiny_journal = false;         // followers that were away copy blocks
  bool shared = false;               // several clients write at once

  static Faults draw(runtime::Random& random);
  std::string describe() const;
};

struct Outcome {
  std::optional<std::string> failure;
  std::string history;  // of a failed run: every operation of every block
  std::uint64_t acknowledged = 0;
  std::uint64_t reads = 0;
  std::uint64_t elections = 0;  // highest term reached
  std::uint64_t crashes = 0;
  std::uint64_t lost_messages = 0;
  std::chrono::nanoseconds virtual_time{};
  std::uint64_t trace = 0;  // hash of all that clients saw: equal for equal seeds
};

// Runs one seed. `log` hears the servers' log lines.
Outcome simulate(std::uint64_t seed, telemetry::Log log);

}  // namespace datom::sim

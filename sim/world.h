// Runs one seed: a whole domain in virtual time, clients, faults; what the clients saw is checked,
// then everything is healed and must converge.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "sim/faults.h"

namespace datom::sim {

inline constexpr runtime::Duration kFaultyTime = std::chrono::seconds(8);

struct Options {
  FaultSet without;  // classes switched off
  // Faults later than that do not happen; in a longer time they are spread over all of it.
  runtime::Duration faulty_time = kFaultyTime;
  bool trace = false;  // the servers' log lines, to standard error
};

struct Outcome {
  std::optional<std::string> failure;
  std::string faults;   // in words
  std::string history;  // of a failed run: every operation of every block
  std::uint64_t acknowledged = 0;
  std::uint64_t reads = 0;
  std::uint64_t terms = 0;                        // highest term reached
  std::map<std::string, std::uint64_t> injected;  // faults, by kind
  std::chrono::nanoseconds virtual_time{};
  std::uint64_t trace = 0;  // hash of all that clients saw: equal for equal seeds and options
};

Outcome run_seed(std::uint64_t seed, const Options& options = {});

}  // namespace datom::sim

// Many seeds, several at a time, and what they did in all.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sim/program/child.h"

namespace datom::sim {

struct Total {
  std::uint64_t seeds = 0;
  std::uint64_t failed = 0;
  std::uint64_t twice = 0;  // seeds that were run twice and compared
  std::uint64_t acknowledged = 0;
  std::uint64_t reads = 0;
  std::uint64_t terms = 0;
  std::chrono::nanoseconds virtual_time{};
  std::map<std::string, std::uint64_t> injected;

  void add(const Result& result);
  std::string text() const;
};

// Runs the seeds, `jobs` at a time, one of twenty twice. Prints a line for each that fails, in the
// order in which they end, and the progress where standard error is a terminal. Stops at the first
// failure if `first_failure` is set.
Total run_seeds(const std::vector<std::uint64_t>& seeds, const Options& options, std::size_t jobs,
                bool first_failure);

}  // namespace datom::sim

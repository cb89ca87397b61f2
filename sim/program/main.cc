// datom_simulate: runs seeds; prints each failing one, and what was done in all.
//
//   datom_simulate --seeds 300 --from 1        seeds 1 to 300
//   datom_simulate --seed 42 --trace           one seed, with the servers' log on standard error
#include <fmt/core.h>

#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>

#include "sim/world.h"

namespace {

struct Options {
  std::uint64_t from = 1;
  std::uint64_t seeds = 100;
  bool trace = false;
};

int usage() {
  fmt::print(stderr, "usage: datom_simulate [--seeds N] [--from S] | --seed S [--trace]\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--trace") {
      options.trace = true;
      continue;
    }
    if (i + 1 == argc) return usage();
    const std::uint64_t value = std::strtoull(argv[++i], nullptr, 10);
    if (flag == "--seeds") {
      options.seeds = value;
    } else if (flag == "--from") {
      options.from = value;
    } else if (flag == "--seed") {
      options.from = value;
      options.seeds = 1;
    } else {
      return usage();
    }
  }
  const auto log = options.trace ? datom::telemetry::Log::to_stderr(datom::telemetry::Level::debug)
                                 : datom::telemetry::Log::silent();
  datom::sim::Options run;
  run.log = log;
  std::uint64_t failed = 0;
  std::uint64_t acknowledged = 0;
  std::uint64_t reads = 0;
  std::uint64_t terms = 0;
  std::map<std::string, std::uint64_t> injected;
  double hours = 0;
  for (std::uint64_t seed = options.from; seed < options.from + options.seeds; ++seed) {
    const datom::sim::Outcome outcome = datom::sim::run_seed(seed, run);
    acknowledged += outcome.acknowledged;
    reads += outcome.reads;
    terms += outcome.terms;
    for (const auto& [fault, many] : outcome.injected) injected[fault] += many;
    hours += std::chrono::duration<double, std::ratio<3600>>(outcome.virtual_time).count();
    // One seed in twenty runs twice: the same seed must give the same run.
    if (seed % 20 == 0 && datom::sim::run_seed(seed, run).trace != outcome.trace) {
      ++failed;
      fmt::print("seed {}: not deterministic\n", seed);
    }
    if (!outcome.failure) continue;
    ++failed;
    fmt::print("seed {}: {}\n", seed, *outcome.failure);
    if (options.trace) fmt::print(stderr, "{}", outcome.history);
  }
  fmt::print(
      "{} seeds, {} failed; {:.1f} simulated hours, {} writes acknowledged, {} blocks read, {} "
      "terms; injected:\n",
      options.seeds, failed, hours, acknowledged, reads, terms);
  for (const auto& [fault, many] : injected) fmt::print("  {:12} {}\n", many, fault);
  return failed == 0 ? 0 : 1;
}

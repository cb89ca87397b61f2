// datom_simulate: runs seeds of the simulator, or makes a failing one smaller.
#include <fmt/core.h>

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <exception>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/error.h"
#include "sim/program/campaign.h"
#include "sim/program/shrink.h"

namespace {

using datom::Code;
using datom::Error;
using datom::sim::FaultClass;
using datom::sim::Result;

constexpr std::string_view kUsage =
    R"(The simulator: whole domains in virtual time, each from one seed.

usage: ./dev sim [--seeds N] [--from S] [--jobs J] [--first-failure]
       ./dev sim --seed S [--trace]
       ./dev sim --shrink S
       ./dev sim --kept
       ./dev sim --mutants [--only NAME] [--seeds N]

  --seeds N         run N seeds (100), one of twenty twice: both runs must be the same
  --from S          beginning with seed S (1)
  --jobs J          so many at a time (as many as there are processors)
  --first-failure   stop at the first seed that fails
  --seed S          run one seed
  --trace           with its servers' log, virtual time first, and what clients saw if it fails,
                    on standard error
  --shrink S        switch off fault classes and shorten the time as long as the seed fails in the
                    same way; print what is left and the command that runs it
  --kept            run every seed that ever failed (sim/seeds.txt)
  --mutants         plant the bugs of sim/mutants/ in a copy of the sources, one at a time, and count
                    the seeds that it takes to catch each (tools/mutants --help)

With any of them:
  --without A,B     switch off classes of faults
  --faulty-ms T     no faults later than T milliseconds after the start (8000); with more, clients
                    go on for so long and the faults are spread over it

Exit code 1 if a seed failed. Fault classes:
)";

struct Command {
  std::vector<std::uint64_t> seeds;
  datom::sim::Options options;
  std::size_t jobs = std::max(1u, std::thread::hardware_concurrency());
  std::optional<std::uint64_t> shrink;
  bool first_failure = false;
  bool help = false;
};

std::uint64_t number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw Error(Code::invalid_argument, "'{}' is no number", text);
  }
  return value;
}

void switch_off(datom::sim::Options& options, std::string_view classes) {
  while (!classes.empty()) {
    const std::string_view name = classes.substr(0, classes.find(','));
    const std::optional<FaultClass> which = datom::sim::fault_class(name);
    if (!which) throw Error(Code::invalid_argument, "there is no fault class '{}'", name);
    options.without.insert(*which);
    classes.remove_prefix(std::min(classes.size(), name.size() + 1));
  }
}

// A seed a line, then what it showed.
std::vector<std::uint64_t> kept_seeds() {
  const std::string path = DATOM_SOURCE_DIR "/sim/seeds.txt";
  std::ifstream file(path);
  if (!file) throw Error(Code::not_found, "{} cannot be read", path);
  std::vector<std::uint64_t> seeds;
  for (std::string line; std::getline(file, line);) {
    const std::string first = line.substr(0, line.find_first_of(" \t"));
    if (!first.empty() && first[0] != '#') seeds.push_back(number(first));
  }
  return seeds;
}

Command parse(const std::vector<std::string_view>& words) {
  Command command;
  std::uint64_t from = 1;
  std::uint64_t many = 100;
  bool kept = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view flag = words[i];
    const auto value = [&] {
      if (i + 1 == words.size()) throw Error(Code::invalid_argument, "{} what?", flag);
      return words[++i];
    };
    if (flag == "--seeds") {
      many = number(value());
    } else if (flag == "--from") {
      from = number(value());
    } else if (flag == "--seed") {
      from = number(value());
      many = 1;
    } else if (flag == "--jobs") {
      command.jobs = std::max<std::uint64_t>(1, number(value()));
    } else if (flag == "--shrink") {
      command.shrink = number(value());
    } else if (flag == "--without") {
      switch_off(command.options, value());
    } else if (flag == "--faulty-ms") {
      command.options.faulty_time = std::chrono::milliseconds(number(value()));
    } else if (flag == "--trace") {
      command.options.trace = true;
    } else if (flag == "--first-failure") {
      command.first_failure = true;
    } else if (flag == "--kept") {
      kept = true;
    } else if (flag == "--help" || flag == "-h") {
      command.help = true;
    } else {
      throw Error(Code::invalid_argument, "what is {}? See --help", flag);
    }
  }
  if (kept) {
    command.seeds = kept_seeds();
  } else {
    for (std::uint64_t i = 0; i < many; ++i) command.seeds.push_back(from + i);
  }
  return command;
}

int run(const Command& command) {
  if (command.help) {
    fmt::print("{}", kUsage);
    for (unsigned i = 0; i < datom::sim::kFaultClasses; ++i) {
      fmt::print("  {}\n", name(static_cast<FaultClass>(i)));
    }
    return 0;
  }
  if (command.shrink) return datom::sim::shrink(*command.shrink, command.options);
  const datom::sim::Total total =
      datom::sim::run_seeds(command.seeds, command.options, command.jobs, command.first_failure);
  fmt::print("{}", total.text());
  return total.failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(parse({argv + 1, argv + argc}));
  } catch (const std::exception& error) {
    fmt::print(stderr, "datom_simulate: {}\n", error.what());
    return 2;
  }
}

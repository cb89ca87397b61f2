#include "sim/program/shrink.h"

#include <fmt/core.h>

#include <cctype>
#include <optional>

#include "sim/program/child.h"

namespace datom::sim {
namespace {

using std::chrono::milliseconds;

// What is between two tries of the time: finer is of no use to a reader.
constexpr milliseconds kStep{50};

milliseconds time_of(const Options& options) {
  return std::chrono::duration_cast<milliseconds>(options.faulty_time);
}

class Shrinking {
 public:
  Shrinking(std::uint64_t seed, Options options, std::string kind)
      : seed_(seed), smallest_(std::move(options)), kind_(std::move(kind)) {}

  const Options& smallest() const { return smallest_; }
  const std::string& failure() const { return failure_; }
  std::uint64_t tries() const { return tries_; }

  // Whether the seed fails with these options as it did before; then they are the smallest.
  bool still_fails(const Options& options) {
    ++tries_;
    const Result result = run_in_child(seed_, options);
    if (!result.outcome.failure || kind_of(*result.outcome.failure) != kind_) return false;
    smallest_ = options;
    failure_ = *result.outcome.failure;
    return true;
  }

  // Until no single class can be left out.
  void drop_classes() {
    for (bool dropped = true; dropped;) {
      dropped = false;
      for (unsigned i = 0; i < kFaultClasses; ++i) {
        const auto which = static_cast<FaultClass>(i);
        if (smallest_.without.contains(which)) continue;
        Options fewer = smallest_;
        fewer.without.insert(which);
        if (still_fails(fewer)) dropped = true;
      }
    }
  }

  // Halves what is cut off until that is too little to matter.
  void shorten() {
    milliseconds off = time_of(smallest_) / 2;
    while (off >= kStep) {
      Options shorter = smallest_;
      shorter.faulty_time = time_of(smallest_) - off;
      if (!still_fails(shorter)) off /= 2;
      off = std::min(off, time_of(smallest_) / 2);
    }
  }

 private:
  const std::uint64_t seed_;
  Options smallest_;
  const std::string kind_;
  std::string failure_;
  std::uint64_t tries_ = 0;
};

}  // namespace

std::string kind_of(const std::string& failure) {
  constexpr int kWords = 6;
  std::string kind;
  int words = 0;
  for (const char c : failure) {
    const bool digit = std::isdigit(static_cast<unsigned char>(c)) != 0;
    if (c == '[') break;  // details
    if (c == ' ' && ++words == kWords) break;
    if (digit && !kind.empty() && kind.back() == '#') continue;
    kind += digit ? '#' : c;
  }
  return kind;
}

std::string command_of(std::uint64_t seed, const Options& options) {
  std::string command = fmt::format("./dev sim --seed {}", seed);
  std::string off;
  for (unsigned i = 0; i < kFaultClasses; ++i) {
    const auto which = static_cast<FaultClass>(i);
    if (!options.without.contains(which)) continue;
    off += off.empty() ? "" : ",";
    off += name(which);
  }
  if (!off.empty()) command += " --without " + off;
  if (options.faulty_time != kFaultyTime) {
    command += fmt::format(" --faulty-ms {}", time_of(options).count());
  }
  return command + " --trace";
}

int shrink(std::uint64_t seed, Options options) {
  options.trace = false;
  const Result whole = run_in_child(seed, options);
  if (!whole.outcome.failure) {
    fmt::print("seed {} does not fail\n", seed);
    return 0;
  }
  fmt::print("seed {}: {}\n  {}\n", seed, *whole.outcome.failure, whole.outcome.faults);
  std::fflush(stdout);
  Shrinking shrinking(seed, options, kind_of(*whole.outcome.failure));
  shrinking.drop_classes();
  shrinking.shorten();
  shrinking.drop_classes();
  const Result smallest = run_in_child(seed, shrinking.smallest());
  fmt::print("smallest of {} tries: {}\n  {}\n  {}\n", shrinking.tries(),
             smallest.outcome.failure.value_or("does not fail any more"), smallest.outcome.faults,
             command_of(seed, shrinking.smallest()));
  return 1;
}

}  // namespace datom::sim

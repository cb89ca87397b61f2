// One seed in a process of its own: a failed DATOM_CHECK or an endless loop is a failure of that
// seed like any other, and several seeds run at the same time.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "sim/world.h"

namespace datom::sim {

// What one run of a seed gave, as it came back from its process.
struct Result {
  std::uint64_t seed = 0;
  Outcome outcome;
};

class Child {
 public:
  // Begins to run the seed, `twice` to see whether both runs are the same.
  Child(std::uint64_t seed, const Options& options, bool twice);
  // Ends the process if it still runs.
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // Readable when there is something to take.
  int fd() const { return output_; }
  // Takes what has come; true once that is all.
  bool take();
  // It has run for longer than any seed may.
  bool overdue() const;
  // How it ended. REQUIRES: take() gave true, or overdue().
  Result result();

 private:
  std::string last_words() const;

  const std::uint64_t seed_;
  const std::chrono::steady_clock::time_point since_;
  pid_t pid_ = -1;
  int output_ = -1;
  int errors_ = -1;  // a file in memory: what it wrote to standard error
  std::string text_;
};

// Runs one seed and waits for it.
Result run_in_child(std::uint64_t seed, const Options& options, bool twice = false);

}  // namespace datom::sim

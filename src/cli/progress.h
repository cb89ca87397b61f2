// One line on a terminal that shows how far something is.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "cli/context.h"
#include "common/error.h"

namespace datom::cli {

// "[########            ]  40 %"; `percent` above 100 is taken as 100.
std::string bar(std::uint32_t percent);

// Where nobody looks (no terminal), nothing is shown.
class Progress {
 public:
  explicit Progress(Context& context) : context_(context) {}
  ~Progress();  // leaves an empty line

  void show(const std::string& text);
  // The same behind a bar.
  void show(std::uint32_t percent, const std::string& text);

 private:
  Context& context_;
  std::string shown_;
};

// The config service may be replaced by another one while a command waits: this tells how long to
// put up with it.
class Patience {
 public:
  // It answered.
  void renew() { failing_since_.reset(); }
  // It did not: returns after a moment, or throws `error` if that cannot pass, or has not for long.
  void try_again_after(const Error& error);
  // The moment between two questions.
  static void pause();

 private:
  std::optional<std::chrono::steady_clock::time_point> failing_since_;
};

}  // namespace datom::cli

// What a run found and did: its first failure, its trace, how often which fault was injected.
#pragma once

#include <cstdint>
#include <exception>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "common/checksum.h"
#include "runtime/loop.h"

namespace datom::sim {

class Verdict {
 public:
  explicit Verdict(const runtime::Loop& loop) : loop_(loop) {}

  void fail(std::string what) {
    if (!failure_) failure_ = std::move(what);
  }
  // A task of the simulation ended with an error: none should.
  void task_failed(std::exception_ptr error) {
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& e) {
      fail(std::string("a task ended with: ") + e.what());
    }
  }
  const std::optional<std::string>& failure() const { return failure_; }

  // Takes what happened now into the trace.
  void trace(std::uint64_t what) {
    const std::uint64_t all[] = {
        trace_, what, static_cast<std::uint64_t>(loop_.now().time_since_epoch().count())};
    trace_ = checksum({reinterpret_cast<const std::byte*>(all), sizeof all});
  }
  std::uint64_t trace() const { return trace_; }

  void count(std::string_view fault, std::uint64_t many = 1) {
    injected_[std::string(fault)] += many;
  }
  const std::map<std::string, std::uint64_t>& injected() const { return injected_; }

 private:
  const runtime::Loop& loop_;
  std::optional<std::string> failure_;
  std::uint64_t trace_ = 0;
  std::map<std::string, std::uint64_t> injected_;
};

}  // namespace datom::sim

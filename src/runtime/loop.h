// The seams of time and execution. A Loop runs callbacks one after another on one thread; nearly
// every object of datom belongs to one loop and is touched only from there.
//
// EventLoop (event_loop.h) is the real one, VirtualLoop (virtual_loop.h) runs in virtual time.
#pragma once

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <functional>

namespace datom::runtime {

using Duration = std::chrono::nanoseconds;
// Time since boot, suspend included (CLOCK_BOOTTIME): what leases and timeouts are measured by.
using Time = std::chrono::time_point<struct BootClock, Duration>;

class Loop {
 public:
  virtual ~Loop() = default;

  // Runs `callback` later on this loop, after what was posted before it. From any thread.
  // Callbacks posted after the loop has ended are destroyed without running.
  virtual void post(std::function<void()> callback) = 0;

  // Whether the caller runs on this loop.
  virtual bool is_current() const = 0;

  virtual Time now() const = 0;
  // Seconds since 1970-01-01 UTC, for people and logs only; it may jump.
  virtual std::chrono::system_clock::time_point wall_now() const = 0;

  using TimerId = std::uint64_t;
  // Runs `callback` on this loop at `deadline` or a little later. On this loop only.
  virtual TimerId start_timer(Time deadline, std::function<void()> callback) = 0;
  // After it, the callback will not run; false if it has run already. On this loop only.
  virtual bool cancel_timer(TimerId timer) = 0;
};

// co_await switch_to(loop): continues on `loop`. Always through its queue, even when already there,
// so that it also serves as a yield.
inline auto switch_to(Loop& loop) {
  struct Awaiter {
    Loop& loop;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> caller) {
      loop.post([caller] { caller.resume(); });
    }
    void await_resume() const noexcept {}
  };
  return Awaiter{loop};
}

// Randomness as a seam. Belongs to one loop.
class Random {
 public:
  virtual ~Random() = default;
  virtual std::uint64_t next() = 0;

  // Uniform in [0, bound). REQUIRES: bound > 0.
  std::uint64_t below(std::uint64_t bound) { return next() % bound; }
};

}  // namespace datom::runtime

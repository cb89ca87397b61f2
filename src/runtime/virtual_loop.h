// A loop in virtual time: nothing happens by itself. Callbacks run in the order they were posted,
// timers in the order of their deadlines (ties: as they were started), and time jumps to the next
// timer when there is nothing else to do. The same inputs give the same run, on every machine.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <utility>

#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::runtime {

class VirtualLoop final : public Loop {
 public:
  void post(std::function<void()> callback) override { ready_.push_back(std::move(callback)); }
  bool is_current() const override { return true; }
  Time now() const override { return now_; }
  std::chrono::system_clock::time_point wall_now() const override;
  TimerId start_timer(Time deadline, std::function<void()> callback) override;
  bool cancel_timer(TimerId timer) override;

  // Runs what is ready and what that makes ready, without letting time pass.
  void run_ready();
  // Lets `duration` pass, timer by timer.
  void advance(Duration duration);
  // Runs until `task` ends, letting time pass as needed; throws what it throws. Fails a DATOM_CHECK
  // when the task waits for something that cannot happen any more.
  void run(Task<void> task);

 private:
  bool fire_next_timer(Time limit);

  Time now_{std::chrono::hours(1)};
  std::deque<std::function<void()>> ready_;
  TimerId next_timer_ = 1;
  std::map<std::pair<Time, TimerId>, std::function<void()>> timers_;
  std::map<TimerId, Time> deadlines_;
};

// A fixed, seeded sequence (splitmix64).
class SeededRandom final : public Random {
 public:
  explicit SeededRandom(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() override {
    std::uint64_t mixed = (state_ += 0x9e3779b97f4a7c15);
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return mixed ^ (mixed >> 31);
  }

 private:
  std::uint64_t state_;
};

}  // namespace datom::runtime

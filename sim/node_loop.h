// The loop of one simulated machine's process, over the loop of the whole simulation: its clock
// drifts, and it can be stopped and go on, as by SIGSTOP and SIGCONT, or a suspend: to the process,
// its clock jumps forward then.
#pragma once

#include <deque>
#include <map>
#include <utility>

#include "runtime/virtual_loop.h"

namespace datom::sim {

// Its now() is what CLOCK_BOOTTIME shows there: it never goes back. Outlives all that uses it, and
// all that the simulation's loop still has to run for it.
class NodeLoop final : public runtime::Loop {
 public:
  // The clock gains `drift` millionths against true time, or loses them where negative.
  NodeLoop(runtime::VirtualLoop& world, std::int64_t drift);

  void post(std::function<void()> callback) override;
  bool is_current() const override { return true; }
  runtime::Time now() const override;
  std::chrono::system_clock::time_point wall_now() const override;
  TimerId start_timer(runtime::Time deadline, std::function<void()> callback) override;
  bool cancel_timer(TimerId timer) override;

  // Nothing runs here until resume(); the clock goes on.
  void stop();
  void resume();
  bool stopped() const { return stopped_; }

 private:
  void run_one();
  void arm();
  void fire();
  runtime::Time true_time_of(runtime::Time deadline) const;

  runtime::VirtualLoop& world_;
  const std::int64_t drift_;
  bool stopped_ = false;
  std::deque<std::function<void()>> ready_;
  TimerId next_timer_ = 1;
  std::map<std::pair<runtime::Time, TimerId>, std::function<void()>> timers_;
  std::map<TimerId, runtime::Time> deadlines_;
  // The world's timer for the first of ours, while there is one.
  TimerId armed_ = 0;
  runtime::Time armed_for_{};
};

}  // namespace datom::sim

#include "sim/node_loop.h"

#include <algorithm>

namespace datom::sim {
namespace {

constexpr std::int64_t kMillion = 1'000'000;
constexpr runtime::Duration kMargin = std::chrono::microseconds(1);

}  // namespace

NodeLoop::NodeLoop(runtime::VirtualLoop& world, std::int64_t drift)
    : world_(world), drift_(drift) {}

runtime::Time NodeLoop::now() const {
  const runtime::Duration since_boot = world_.now().time_since_epoch();
  return runtime::Time(since_boot + since_boot * drift_ / kMillion);
}

// The first moment of true time at which now() has reached it, or a little later.
runtime::Time NodeLoop::true_time_of(runtime::Time deadline) const {
  const runtime::Duration left = deadline - now();
  if (left.count() <= 0) return world_.now();
  const double longer = static_cast<double>(left.count()) * kMillion / (kMillion + drift_);
  return world_.now() + runtime::Duration(static_cast<std::int64_t>(longer)) + kMargin;
}

std::chrono::system_clock::time_point NodeLoop::wall_now() const {
  return std::chrono::system_clock::time_point(
      std::chrono::duration_cast<std::chrono::system_clock::duration>(now().time_since_epoch()));
}

void NodeLoop::post(std::function<void()> callback) {
  ready_.push_back(std::move(callback));
  if (!stopped_) world_.post([this] { run_one(); });
}

// As often called as something was posted; what it finds while stopped, or after a resume that
// called for all anew, stays or is gone already.
void NodeLoop::run_one() {
  if (stopped_ || ready_.empty()) return;
  const std::function<void()> callback = std::move(ready_.front());
  ready_.pop_front();
  callback();
}

runtime::Loop::TimerId NodeLoop::start_timer(runtime::Time deadline,
                                             std::function<void()> callback) {
  const TimerId id = next_timer_++;
  timers_.emplace(std::pair(deadline, id), std::move(callback));
  deadlines_.emplace(id, deadline);
  arm();
  return id;
}

bool NodeLoop::cancel_timer(TimerId timer) {
  const auto found = deadlines_.find(timer);
  if (found == deadlines_.end()) return false;
  timers_.erase({found->second, timer});
  deadlines_.erase(found);
  return true;
}

void NodeLoop::arm() {
  if (stopped_ || timers_.empty()) return;
  const runtime::Time first = timers_.begin()->first.first;
  if (armed_ != 0) {
    if (armed_for_ <= first) return;  // fires early enough, and arms again
    world_.cancel_timer(armed_);
  }
  armed_for_ = first;
  armed_ = world_.start_timer(true_time_of(first), [this] { fire(); });
}

void NodeLoop::fire() {
  armed_ = 0;
  if (stopped_) return;
  if (!timers_.empty() && timers_.begin()->first.first <= now()) {
    auto next = timers_.extract(timers_.begin());
    deadlines_.erase(next.key().second);
    next.mapped()();
  }
  arm();
}

void NodeLoop::stop() {
  stopped_ = true;
}

void NodeLoop::resume() {
  if (!std::exchange(stopped_, false)) return;
  for (std::size_t i = 0; i < ready_.size(); ++i) world_.post([this] { run_one(); });
  if (armed_ != 0) world_.cancel_timer(std::exchange(armed_, 0));
  arm();
}

}  // namespace datom::sim

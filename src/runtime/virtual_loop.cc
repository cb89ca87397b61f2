#include "runtime/virtual_loop.h"

#include <exception>

#include "runtime/task_group.h"

namespace datom::runtime {

std::chrono::system_clock::time_point VirtualLoop::wall_now() const {
  return std::chrono::system_clock::time_point(
      std::chrono::duration_cast<std::chrono::system_clock::duration>(now_.time_since_epoch()));
}

Loop::TimerId VirtualLoop::start_timer(Time deadline, std::function<void()> callback) {
  const TimerId id = next_timer_++;
  timers_.emplace(std::pair(deadline, id), std::move(callback));
  deadlines_.emplace(id, deadline);
  return id;
}

bool VirtualLoop::cancel_timer(TimerId timer) {
  auto found = deadlines_.find(timer);
  if (found == deadlines_.end()) return false;
  timers_.erase({found->second, timer});
  deadlines_.erase(found);
  return true;
}

void VirtualLoop::run_ready() {
  while (!ready_.empty()) {
    std::function<void()> callback = std::move(ready_.front());
    ready_.pop_front();
    callback();
  }
}

bool VirtualLoop::fire_next_timer(Time limit) {
  if (timers_.empty() || timers_.begin()->first.first > limit) return false;
  auto next = timers_.extract(timers_.begin());
  now_ = std::max(now_, next.key().first);
  deadlines_.erase(next.key().second);
  next.mapped()();
  return true;
}

void VirtualLoop::advance(Duration duration) {
  const Time end = now_ + duration;
  run_ready();
  while (fire_next_timer(end)) run_ready();
  now_ = end;
}

void VirtualLoop::run(Task<void> task) {
  std::exception_ptr error;
  TaskGroup root(*this, [&error](std::exception_ptr thrown) { error = thrown; });
  root.spawn(std::move(task));
  run_ready();
  while (root.running() > 0) {
    const bool something_can_happen = fire_next_timer(Time::max());
    DATOM_CHECK(something_can_happen);
    run_ready();
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace datom::runtime

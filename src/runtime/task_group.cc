#include "runtime/task_group.h"

#include <utility>

namespace datom::runtime {

// A coroutine that starts at once and frees itself at its end.
struct TaskGroup::Root {
  struct promise_type {
    Root get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };
};

TaskGroup::TaskGroup(Loop& loop, OnError on_error) : on_error_(std::move(on_error)), idle_(loop) {}

TaskGroup::~TaskGroup() {
  DATOM_CHECK(running_ == 0);
}

void TaskGroup::spawn(Task<void> task) {
  DATOM_CHECK(!closing_);
  ++running_;
  run(std::move(task));
}

TaskGroup::Root TaskGroup::run(Task<void> task) {
  std::exception_ptr error;
  try {
    co_await std::move(task);
  } catch (...) {
    error = std::current_exception();
  }
  task = {};  // frees the frame, and what it owns, before the group may be gone
  if (error) on_error_(error);
  if (--running_ == 0) idle_.wake_all();
}

Task<void> TaskGroup::wait_idle() {
  while (running_ > 0) co_await idle_.wait();
}

Task<void> TaskGroup::close() {
  closing_ = true;
  co_await wait_idle();
}

}  // namespace datom::runtime

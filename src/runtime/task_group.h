// Owns background tasks: nothing in datom is detached. Belongs to one loop.
#pragma once

#include <cstddef>
#include <exception>
#include <functional>

#include "runtime/loop.h"
#include "runtime/task.h"
#include "runtime/wait.h"

namespace datom::runtime {

class TaskGroup {
 public:
  // `on_error` hears the exception that ends a spawned task: the task root is an edge where errors
  // are caught. It runs on the loop and must not throw.
  using OnError = std::function<void(std::exception_ptr)>;

  TaskGroup(Loop& loop, OnError on_error);
  // close() must have returned if anything was ever spawned.
  ~TaskGroup();
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  // Runs `task` until its first suspension, now. REQUIRES: close() has not been called.
  void spawn(Task<void> task);

  std::size_t running() const { return running_; }
  bool closing() const { return closing_; }

  // Waits until no spawned task is running; more may be spawned meanwhile and afterwards.
  Task<void> wait_idle();
  // Waits until every spawned task has ended, and accepts no more. The owner first makes what they
  // wait for end (closes streams, cancels timers).
  Task<void> close();

 private:
  struct Root;
  Root run(Task<void> task);

  OnError on_error_;
  std::size_t running_ = 0;
  bool closing_ = false;
  Event idle_;
};

}  // namespace datom::runtime

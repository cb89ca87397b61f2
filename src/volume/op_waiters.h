// Tasks that wait until an op is reached (committed, or applied), or until the leadership in which
// they wait is over. Belongs to one loop.
#pragma once

#include <algorithm>
#include <coroutine>
#include <map>
#include <utility>

#include "common/check.h"
#include "common/strong.h"
#include "runtime/loop.h"

namespace datom::volume {

class OpWaiters {
 public:
  explicit OpWaiters(runtime::Loop& loop) : loop_(loop) {}
  ~OpWaiters() { DATOM_CHECK(waiting_.empty()); }
  OpWaiters(const OpWaiters&) = delete;
  OpWaiters& operator=(const OpWaiters&) = delete;

  // Awaitable. True: `op` was reached; false: abandon() came first.
  auto wait(Op op) {
    struct Awaiter {
      OpWaiters& waiters;
      Op op;
      std::coroutine_handle<> task = nullptr;
      bool reached = true;
      bool await_ready() const noexcept { return op <= waiters.reached_; }
      void await_suspend(std::coroutine_handle<> waiter) {
        task = waiter;
        waiters.waiting_.emplace(op, Wake{waiter, &reached});
      }
      bool await_resume() const noexcept { return reached; }
    };
    return Awaiter{*this, op};
  }

  // Everything up to `op` is reached.
  void reach(Op op) {
    reached_ = std::max(reached_, op);
    while (!waiting_.empty() && waiting_.begin()->first <= reached_) wake(true);
  }
  // Those who wait now learn that it may never be reached.
  void abandon() {
    while (!waiting_.empty()) wake(false);
  }

 private:
  struct Wake {
    std::coroutine_handle<> task;
    bool* reached;  // in the waiter's frame
  };

  void wake(bool reached) {
    const Wake first = waiting_.begin()->second;
    waiting_.erase(waiting_.begin());
    *first.reached = reached;
    loop_.post([task = first.task] { task.resume(); });
  }

  runtime::Loop& loop_;
  Op reached_;
  std::multimap<Op, Wake> waiting_;
};

}  // namespace datom::volume

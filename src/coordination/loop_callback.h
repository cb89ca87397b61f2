// A callback that is called from any thread, runs on its loop, and can be silenced there.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "runtime/loop.h"

namespace datom::coordination {

template <typename... Args>
class LoopCallback : public std::enable_shared_from_this<LoopCallback<Args...>> {
 public:
  LoopCallback(runtime::Loop& loop, std::function<void(Args...)> function)
      : loop_(loop), function_(std::move(function)) {}

  // From any thread, while the loop exists.
  void post(Args... args) {
    loop_.post([self = this->shared_from_this(), args...] { self->call(args...); });
  }
  // Nothing runs after it, not even what is posted already. On the loop.
  void silence() { function_ = nullptr; }

 private:
  void call(Args... args) {
    const std::function<void(Args...)> running = function_;  // it may silence itself
    if (running) running(args...);
  }

  runtime::Loop& loop_;
  std::function<void(Args...)> function_;
};

}  // namespace datom::coordination

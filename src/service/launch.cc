#include "service/launch.h"

#include <coroutine>
#include <utility>

namespace datom::service {
namespace {

// A task that nobody awaits; its end is told by a callback.
struct Launched {
  struct promise_type {
    Launched get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };
};

Launched run(runtime::Loop& loop, runtime::Task<void> task,
             std::function<void(std::exception_ptr)> done) {
  co_await runtime::switch_to(loop);
  std::exception_ptr error;
  try {
    co_await std::move(task);
  } catch (...) {
    error = std::current_exception();
  }
  done(error);
}

}  // namespace

void launch(runtime::Loop& loop, runtime::Task<void> task,
            std::function<void(std::exception_ptr)> done) {
  run(loop, std::move(task), std::move(done));
}

}  // namespace datom::service

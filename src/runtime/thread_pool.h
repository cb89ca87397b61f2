// A few threads for blocking system calls of one loop.
#pragma once

#include <condition_variable>
#include <coroutine>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "runtime/event_loop.h"
#include "runtime/task.h"

namespace datom::runtime {

class ThreadPool {
 public:
  // `loop` must outlive it. REQUIRES: threads > 0.
  ThreadPool(EventLoop& loop, std::size_t threads);
  // Joins the threads. REQUIRES: no run() is under way.
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Runs `work` on one of the threads; gives its value, or throws what it throws, on the loop.
  template <typename Work>
  Task<std::invoke_result_t<Work>> run(Work work) {
    using Result = std::invoke_result_t<Work>;
    std::exception_ptr error;
    if constexpr (std::is_void_v<Result>) {
      const std::function<void()> job = [&] { attempt(error, work); };
      co_await Wait{*this, job};
      if (error) std::rethrow_exception(std::move(error));
    } else {
      std::optional<Result> result;
      const std::function<void()> job = [&] { attempt(error, [&] { result.emplace(work()); }); };
      co_await Wait{*this, job};
      if (error) std::rethrow_exception(std::move(error));
      co_return std::move(*result);
    }
  }

 private:
  struct Job {
    const std::function<void()>* work;
    std::coroutine_handle<> waiter;
  };
  struct Wait {
    ThreadPool& pool;
    const std::function<void()>& work;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) { pool.enqueue({&work, waiter}); }
    void await_resume() const noexcept {}
  };

  template <typename Work>
  static void attempt(std::exception_ptr& error, Work&& work) {
    try {
      work();
    } catch (...) {
      error = std::current_exception();
    }
  }

  void enqueue(Job job);
  void serve();

  EventLoop& loop_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;   // guarded by mutex_; as many as tasks wait
  bool stopping_ = false;  // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace datom::runtime

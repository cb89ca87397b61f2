// What tasks of one loop wait on: Event, Timer, Queue. None is thread-safe; all belong to one loop.
// Waiters are woken through the loop's queue, never from inside the call that wakes them.
#pragma once

#include <coroutine>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "common/check.h"
#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::runtime {

// Set and cleared; wait() returns at once while it is set. No waiter may remain at destruction.
class Event {
 public:
  explicit Event(Loop& loop) : loop_(loop) {}
  ~Event() { DATOM_CHECK(waiters_.empty()); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  bool is_set() const { return set_; }
  void set() {
    set_ = true;
    wake_all();
  }
  void clear() { set_ = false; }
  // Wakes all that wait now and leaves the event as it is: "look again".
  void wake_all() {
    for (std::coroutine_handle<> waiter : std::exchange(waiters_, {})) {
      loop_.post([waiter] { waiter.resume(); });
    }
  }

  // Awaitable. Returns once set() or wake_all() was called after the wait began, or at once if set.
  auto wait() {
    struct Awaiter {
      Event& event;
      bool await_ready() const noexcept { return event.set_; }
      void await_suspend(std::coroutine_handle<> waiter) { event.waiters_.push_back(waiter); }
      void await_resume() const noexcept {}
    };
    return Awaiter{*this};
  }

 private:
  Loop& loop_;
  bool set_ = false;
  std::vector<std::coroutine_handle<>> waiters_;
};

// One sleeper at a time, who can be woken early. The waiter must be gone before destruction.
class Timer {
 public:
  explicit Timer(Loop& loop) : loop_(loop) {}
  ~Timer() { DATOM_CHECK(!waiter_); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // Awaitable. True: the time came; false: cancel() was called, now or ever since (a cancelled
  // timer stays cancelled until reset()).
  auto sleep_until(Time deadline) {
    struct Awaiter {
      Timer& timer;
      Time deadline;
      bool await_ready() const noexcept { return timer.cancelled_; }
      void await_suspend(std::coroutine_handle<> waiter) {
        DATOM_CHECK(!timer.waiter_);
        timer.waiter_ = waiter;
        Timer* self = &timer;
        timer.id_ = timer.loop_.start_timer(deadline, [self] { self->wake(); });
      }
      bool await_resume() const noexcept { return !timer.cancelled_; }
    };
    return Awaiter{*this, deadline};
  }
  auto sleep_for(Duration duration) { return sleep_until(loop_.now() + duration); }

  // Wakes the sleeper, and every later sleep at once, until reset().
  void cancel() {
    if (std::exchange(cancelled_, true) || !waiter_) return;
    if (!loop_.cancel_timer(id_)) return;  // it is on its way already
    loop_.post([waiter = std::exchange(waiter_, nullptr)] { waiter.resume(); });
  }
  void reset() { cancelled_ = false; }

 private:
  void wake() { std::exchange(waiter_, nullptr).resume(); }

  Loop& loop_;
  bool cancelled_ = false;
  std::coroutine_handle<> waiter_;
  Loop::TimerId id_ = 0;
};

// First in, first out, at most `limit` items. Many producers, one consumer.
template <typename T>
class Queue {
 public:
  Queue(Loop& loop, std::size_t limit) : limit_(limit), changed_(loop) {}

  std::size_t size() const { return items_.size(); }
  bool closed() const { return closed_; }
  // False, and nothing taken, when full or closed.
  bool try_push(T&& item) {
    if (closed_ || items_.size() >= limit_) return false;
    items_.push_back(std::move(item));
    changed_.wake_all();
    return true;
  }
  // Waits while full. False when closed.
  Task<bool> push(T item) {
    while (!closed_ && items_.size() >= limit_) co_await changed_.wait();
    co_return try_push(std::move(item));
  }
  std::optional<T> try_pop() {
    if (items_.empty()) return std::nullopt;
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    changed_.wake_all();
    return item;
  }
  // Waits while empty. nullopt once closed and drained.
  Task<std::optional<T>> pop() {
    while (items_.empty() && !closed_) co_await changed_.wait();
    co_return try_pop();
  }
  // Wakes everyone; what is inside can still be popped.
  void close() {
    closed_ = true;
    changed_.wake_all();
  }

 private:
  std::size_t limit_;
  bool closed_ = false;
  std::deque<T> items_;
  Event changed_;
};

// Mutual exclusion of tasks across awaits; first come, first served.
class Mutex {
 public:
  explicit Mutex(Loop& loop) : changed_(loop) {}

  class [[nodiscard]] Holder {
   public:
    explicit Holder(Mutex* mutex) : mutex_(mutex) {}
    Holder(Holder&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
    Holder& operator=(Holder&& other) noexcept {
      std::swap(mutex_, other.mutex_);
      return *this;
    }
    ~Holder() {
      if (mutex_ != nullptr) mutex_->unlock();
    }

   private:
    Mutex* mutex_;
  };

  Task<Holder> lock() {
    const std::uint64_t ticket = next_ticket_++;
    while (ticket != serving_) co_await changed_.wait();
    co_return Holder(this);
  }

 private:
  void unlock() {
    ++serving_;
    changed_.wake_all();
  }

  std::uint64_t next_ticket_ = 0;
  std::uint64_t serving_ = 0;
  Event changed_;
};

}  // namespace datom::runtime

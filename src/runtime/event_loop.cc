#include "runtime/event_loop.h"

#include <sys/random.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <ctime>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/error.h"
#include "runtime/task_group.h"

namespace datom::runtime {
namespace {

namespace asio = boost::asio;
using Callback = std::function<void()>;

// How many callbacks or timers run before sockets get their turn, and how many of those then.
constexpr std::size_t kTurn = 256;
constexpr std::size_t kSocketTurn = 64;

Time boot_now() {
  timespec time{};
  ::clock_gettime(CLOCK_BOOTTIME, &time);
  return Time(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
}

int make_timer_descriptor() {
  const int descriptor = ::timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
  if (descriptor < 0) throw_errno(errno, "timerfd_create");
  return descriptor;
}

// Rings at most once per `deadline`: a timer descriptor armed with the earliest deadline only. A
// cancelled timer leaves it armed, since most timeouts are cancelled long before they are due.
class Alarm {
 public:
  explicit Alarm(asio::io_context& context) : descriptor_(context, make_timer_descriptor()) {}

  template <typename Handler>
  void wait(Handler handler) {
    descriptor_.async_read_some(asio::buffer(&expirations_, sizeof expirations_),
                                std::move(handler));
  }

  void ring_by(Time deadline) {
    if (deadline >= armed_) return;
    armed_ = deadline;
    // Zero would disarm it; any time that has passed rings at once.
    const Duration since_boot = std::max(deadline.time_since_epoch(), Duration(1));
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since_boot);
    itimerspec at{};
    at.it_value.tv_sec = seconds.count();
    at.it_value.tv_nsec = (since_boot - seconds).count();
    const int result =
        ::timerfd_settime(descriptor_.native_handle(), TFD_TIMER_ABSTIME, &at, nullptr);
    DATOM_CHECK(result == 0);
  }

  void has_rung() { armed_ = Time::max(); }

 private:
  asio::posix::stream_descriptor descriptor_;
  std::uint64_t expirations_ = 0;
  Time armed_ = Time::max();
};

}  // namespace

struct EventLoop::Impl {
  Impl() : alarm(context), work(context.get_executor()) { await_alarm(); }

  void post_from_elsewhere(Callback callback);
  void collect_posted();
  void run_ready();
  void run_sockets();
  void await_alarm();
  void fire_timers();

  asio::io_context context{1};
  Alarm alarm;
  asio::executor_work_guard<asio::io_context::executor_type> work;

  std::atomic<std::thread::id> runner;  // who is inside run(), if anyone
  std::atomic<bool> stopping = false;

  std::deque<Callback> ready;  // the loop's own thread only
  std::mutex posted_mutex;
  std::vector<Callback> posted;  // guarded by posted_mutex
  std::atomic<bool> any_posted = false;

  TimerId next_timer = 1;
  std::map<std::pair<Time, TimerId>, Callback> timers;
  std::unordered_map<TimerId, Time> deadlines;
};

// The first of a batch wakes the loop; the others are collected with it.
void EventLoop::Impl::post_from_elsewhere(Callback callback) {
  std::lock_guard lock(posted_mutex);
  posted.push_back(std::move(callback));
  if (!any_posted.exchange(true)) asio::post(context, [] {});
}

void EventLoop::Impl::collect_posted() {
  if (!any_posted.load(std::memory_order_acquire)) return;
  std::vector<Callback> batch;
  {
    std::lock_guard lock(posted_mutex);
    batch.swap(posted);
    any_posted = false;
  }
  for (Callback& callback : batch) ready.push_back(std::move(callback));
}

void EventLoop::Impl::run_ready() {
  for (std::size_t count = 0; count < kTurn && !ready.empty() && !stopping; ++count) {
    Callback callback = std::move(ready.front());
    ready.pop_front();
    callback();
  }
}

// Waits for one if nothing else is to be done.
void EventLoop::Impl::run_sockets() {
  if (ready.empty() && !any_posted) {
    context.run_one();
    return;
  }
  for (std::size_t count = 0; count < kSocketTurn && !stopping; ++count) {
    if (context.poll_one() == 0) return;
  }
}

void EventLoop::Impl::await_alarm() {
  alarm.wait([this](const boost::system::error_code& error, std::size_t) {
    if (error == asio::error::operation_aborted) return;
    alarm.has_rung();
    fire_timers();
    await_alarm();
  });
}

void EventLoop::Impl::fire_timers() {
  const Time now = boot_now();
  for (std::size_t count = 0; count < kTurn && !stopping; ++count) {
    if (timers.empty() || timers.begin()->first.first > now) break;
    auto due = timers.extract(timers.begin());
    deadlines.erase(due.key().second);
    due.mapped()();
  }
  if (!timers.empty()) alarm.ring_by(timers.begin()->first.first);
}

EventLoop::EventLoop() : impl_(std::make_unique<Impl>()) {}

// What a callback owns may post once more when it is destroyed, so until nothing is left.
EventLoop::~EventLoop() {
  for (;;) {
    impl_->collect_posted();
    const auto ready = std::exchange(impl_->ready, {});
    const auto timers = std::exchange(impl_->timers, {});
    impl_->deadlines.clear();
    if (ready.empty() && timers.empty()) break;
  }
}

void EventLoop::post(std::function<void()> callback) {
  if (is_current()) {
    impl_->ready.push_back(std::move(callback));
  } else {
    impl_->post_from_elsewhere(std::move(callback));
  }
}

bool EventLoop::is_current() const {
  return impl_->runner.load(std::memory_order_relaxed) == std::this_thread::get_id();
}

Time EventLoop::now() const {
  return boot_now();
}

std::chrono::system_clock::time_point EventLoop::wall_now() const {
  return std::chrono::system_clock::now();
}

Loop::TimerId EventLoop::start_timer(Time deadline, std::function<void()> callback) {
  const TimerId id = impl_->next_timer++;
  impl_->timers.emplace(std::pair(deadline, id), std::move(callback));
  impl_->deadlines.emplace(id, deadline);
  impl_->alarm.ring_by(deadline);
  return id;
}

bool EventLoop::cancel_timer(TimerId timer) {
  const auto found = impl_->deadlines.find(timer);
  if (found == impl_->deadlines.end()) return false;
  impl_->timers.erase({found->second, timer});
  impl_->deadlines.erase(found);
  return true;
}

void EventLoop::run() {
  DATOM_CHECK(impl_->runner.load() == std::thread::id());
  impl_->runner = std::this_thread::get_id();
  struct Leave {
    Impl& impl;
    ~Leave() { impl.runner = std::thread::id(); }
  } leave{*impl_};

  while (!impl_->stopping) {
    impl_->collect_posted();
    impl_->run_ready();
    if (!impl_->stopping) impl_->run_sockets();
  }
  impl_->stopping = false;
}

void EventLoop::stop() {
  impl_->stopping = true;
  asio::post(impl_->context, [] {});
}

void EventLoop::run(Task<void> task) {
  std::exception_ptr error;
  TaskGroup root(*this, [&error](std::exception_ptr thrown) { error = std::move(thrown); });
  const auto stop_at_end = [](Task<void> inner, EventLoop& loop) -> Task<void> {
    struct Stop {
      EventLoop& loop;
      ~Stop() { loop.stop(); }
    } stop{loop};
    co_await std::move(inner);
  };
  Task<void> whole = stop_at_end(std::move(task), *this);
  bool spawned = false;
  post([&] {
    spawned = true;
    root.spawn(std::move(whole));
  });
  while (!spawned || root.running() > 0) run();  // somebody else's stop() does not end the task
  if (error) std::rethrow_exception(error);
}

boost::asio::io_context& EventLoop::context() {
  return impl_->context;
}

SystemRandom::SystemRandom() {
  if (::getentropy(state_, sizeof state_) != 0) throw_errno(errno, "getentropy");
  if (std::ranges::all_of(state_, [](std::uint64_t word) { return word == 0; })) state_[0] = 1;
}

// xoshiro256** by David Blackman and Sebastiano Vigna (public domain algorithm).
std::uint64_t SystemRandom::next() {
  const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const std::uint64_t shifted = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

}  // namespace datom::runtime

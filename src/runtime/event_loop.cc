#include "runtime/event_loop.h"

#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <ctime>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/error.h"
#include "runtime/epoll_poller.h"
#include "runtime/posix_files.h"
#include "runtime/ring.h"
#include "runtime/task_group.h"

namespace datom::runtime {
namespace {

using Callback = std::function<void()>;

// How many callbacks or timers run before sockets and files get their turn.
constexpr std::size_t kTurn = 256;

Time boot_now() {
  timespec time{};
  ::clock_gettime(CLOCK_BOOTTIME, &time);
  return Time(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
}

int checked(int descriptor, const char* made_by) {
  if (descriptor < 0) throw_errno(errno, made_by);
  return descriptor;
}

// Rings at most once per `deadline`: a timer descriptor armed with the earliest deadline only. A
// cancelled timer leaves it armed, since most timeouts are cancelled long before they are due.
class Alarm {
 public:
  int descriptor() const { return descriptor_.get(); }

  void ring_by(Time deadline) {
    if (deadline >= armed_) return;
    armed_ = deadline;
    // Zero would disarm it; any time that has passed rings at once.
    const Duration since_boot = std::max(deadline.time_since_epoch(), Duration(1));
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since_boot);
    itimerspec at{};
    at.it_value.tv_sec = seconds.count();
    at.it_value.tv_nsec = (since_boot - seconds).count();
    const int result = ::timerfd_settime(descriptor(), TFD_TIMER_ABSTIME, &at, nullptr);
    DATOM_CHECK(result == 0);
  }

  void has_rung() { armed_ = Time::max(); }

 private:
  posix::Descriptor descriptor_{
      checked(::timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC), "timerfd_create")};
  Time armed_ = Time::max();
};

// Ends the wait of a loop, from any thread.
class Bell {
 public:
  int descriptor() const { return descriptor_.get(); }
  void ring() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(descriptor(), &one, sizeof one);
  }

 private:
  posix::Descriptor descriptor_{checked(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd")};
};

// First in, first out, without an allocation for each few.
class Callbacks {
 public:
  bool empty() const { return next_ == now_.size() && later_.empty(); }
  void push(Callback callback) { later_.push_back(std::move(callback)); }
  // REQUIRES: !empty().
  Callback pop() {
    if (next_ == now_.size()) {
      now_.clear();
      now_.swap(later_);
      next_ = 0;
    }
    return std::move(now_[next_++]);
  }

 private:
  std::vector<Callback> now_;  // from next_ on
  std::size_t next_ = 0;
  std::vector<Callback> later_;
};

}  // namespace

struct EventLoop::Impl {
  explicit Impl(Waiting waiting);

  void post_from_elsewhere(Callback callback);
  void collect_posted();
  void run_ready();
  void fire_timers();

  Alarm alarm;
  Bell bell;
  std::string why_no_ring;
  Ring* ring = nullptr;  // the poller, if it is one
  std::unique_ptr<Poller> poller;

  std::atomic<std::thread::id> runner;  // who is inside run(), if anyone
  std::atomic<bool> stopping = false;

  Callbacks ready;  // the loop's own thread only
  std::mutex posted_mutex;
  std::vector<Callback> posted;  // guarded by posted_mutex
  std::atomic<bool> any_posted = false;

  TimerId next_timer = 1;
  std::map<std::pair<Time, TimerId>, Callback> timers;
  std::unordered_map<TimerId, Time> deadlines;
};

EventLoop::Impl::Impl(Waiting waiting) {
  if (waiting == Waiting::automatic) {
    std::unique_ptr<Ring> made = Ring::make(&why_no_ring);
    ring = made.get();
    poller = std::move(made);
  } else {
    why_no_ring = "the loop waits by epoll";
  }
  if (poller == nullptr) poller = make_epoll_poller();
  poller->on_readable(bell.descriptor(), [] {});
  poller->on_readable(alarm.descriptor(), [this] {
    alarm.has_rung();
    fire_timers();
  });
}

// The first of a batch wakes the loop; the others are collected with it.
void EventLoop::Impl::post_from_elsewhere(Callback callback) {
  std::lock_guard lock(posted_mutex);
  posted.push_back(std::move(callback));
  if (!any_posted.exchange(true)) bell.ring();
}

void EventLoop::Impl::collect_posted() {
  if (!any_posted.load(std::memory_order_acquire)) return;
  std::vector<Callback> batch;
  {
    std::lock_guard lock(posted_mutex);
    batch.swap(posted);
    any_posted = false;
  }
  for (Callback& callback : batch) ready.push(std::move(callback));
}

void EventLoop::Impl::run_ready() {
  for (std::size_t count = 0; count < kTurn && !ready.empty() && !stopping; ++count) {
    const Callback callback = ready.pop();
    callback();
  }
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

EventLoop::EventLoop(Waiting waiting) : impl_(std::make_unique<Impl>(waiting)) {}

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
    impl_->ready.push(std::move(callback));
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
  impl_->poller->begin();
  struct Leave {
    Impl& impl;
    ~Leave() {
      impl.poller->end();
      impl.runner = std::thread::id();
    }
  } leave{*impl_};

  while (!impl_->stopping) {
    impl_->collect_posted();
    impl_->run_ready();
    if (impl_->stopping) break;
    // Without anything to do it waits.
    impl_->poller->turn(impl_->ready.empty() && !impl_->any_posted, impl_->stopping);
  }
  impl_->stopping = false;
}

void EventLoop::stop() {
  impl_->stopping = true;
  impl_->bell.ring();
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

Poller& EventLoop::poller() {
  return *impl_->poller;
}

Ring* EventLoop::ring(std::string* why) {
  if (impl_->ring == nullptr) *why = impl_->why_no_ring;
  return impl_->ring;
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

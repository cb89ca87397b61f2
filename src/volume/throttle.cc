#include "volume/throttle.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace datom::volume {
namespace {

constexpr double kSecond = 1e9;  // nanoseconds
// What those who wait lose when a timer is late is made up for.
constexpr runtime::Duration kLateness = std::chrono::milliseconds(100);

runtime::Duration nanoseconds(double count) {
  return runtime::Duration(static_cast<runtime::Duration::rep>(count));
}

}  // namespace

Throttle::Throttle(runtime::Loop& loop) : loop_(loop) {}

Throttle::~Throttle() {
  DATOM_CHECK(waiting_.empty());
  if (timer_) loop_.cancel_timer(*timer_);
}

void Throttle::Bucket::use(runtime::Time now, runtime::Duration burst, runtime::Duration cost) {
  level = std::max(level, now - burst) + cost;
}

void Throttle::set(const protocol::Limits& limits) {
  const bool had_requests = requests_.interval.count() > 0;
  const bool had_bytes = bytes_.per_unit > 0;
  requests_.interval = {};
  bytes_.per_unit = 0;
  if (limits.iops > 0) {
    requests_.interval = nanoseconds(kSecond / static_cast<double>(limits.iops));
  }
  if (limits.mib > 0) bytes_.per_unit = kSecond / static_cast<double>(limits.mib << 20);
  burst_ = std::chrono::seconds(limits.burst);
  // A limit that is new begins with what its burst allows; a debt under another one is forgiven.
  const runtime::Time now = loop_.now();
  requests_.level = had_requests ? std::min(requests_.level, now) : now - burst_;
  bytes_.level = had_bytes ? std::min(bytes_.level, now) : now - burst_;
  pump();
}

runtime::Time Throttle::free_at() const {
  runtime::Time at{};
  if (requests_.interval.count() > 0) at = std::max(at, requests_.level);
  if (bytes_.per_unit > 0) at = std::max(at, bytes_.level);
  return at;
}

runtime::Task<void> Throttle::admit(Op session, std::uint64_t bytes) {
  struct Awaiter {
    Throttle& throttle;
    const Op session;
    const std::uint64_t bytes;

    bool await_ready() const {
      if (!throttle.waiting_.empty() || throttle.free_at() > throttle.loop_.now()) return false;
      throttle.last_ = session;
      throttle.let_go({bytes, nullptr});
      return true;
    }
    void await_suspend(std::coroutine_handle<> task) const {
      throttle.waiting_[session].push_back({bytes, task});
      throttle.pump();
    }
    void await_resume() const noexcept {}
  };
  const Awaiter turn{*this, session, bytes};
  co_await turn;
}

void Throttle::let_go(const Waiting& waiting) {
  const runtime::Time now = loop_.now();
  const runtime::Duration saved = waiting.task ? burst_ + kLateness : burst_;
  requests_.use(now, saved, requests_.interval);
  bytes_.use(now, saved, nanoseconds(bytes_.per_unit * static_cast<double>(waiting.bytes)));
  if (waiting.task) loop_.post([task = waiting.task] { task.resume(); });
}

// Those whose time has come go, one of each session in turn; then it waits for the next time.
void Throttle::pump() {
  while (!waiting_.empty() && free_at() <= loop_.now()) {
    auto next = waiting_.upper_bound(last_);
    if (next == waiting_.end()) next = waiting_.begin();
    last_ = next->first;
    const Waiting first = next->second.front();
    next->second.pop_front();
    if (next->second.empty()) waiting_.erase(next);
    let_go(first);
  }
  if (timer_) loop_.cancel_timer(*std::exchange(timer_, std::nullopt));
  if (waiting_.empty()) return;
  timer_ = loop_.start_timer(free_at(), [this] {
    timer_.reset();
    pump();
  });
}

void Throttle::abandon() {
  for (auto& [session, all] : std::exchange(waiting_, {})) {
    for (const Waiting& waiting : all) {
      loop_.post([task = waiting.task] { task.resume(); });
    }
  }
  pump();
}

}  // namespace datom::volume

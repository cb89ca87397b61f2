#include "volume/ticks.h"

#include "common/check.h"

namespace datom::volume {
namespace {

constexpr std::size_t kCallsInOneStep = 64;  // then others on the loop have their turn

}  // namespace

Ticks::Ticks(runtime::Loop& loop, Step step) : loop_(loop), step_(std::move(step)) {}

Ticks::~Ticks() {
  DATOM_CHECK(due_.empty());
  if (armed_) loop_.cancel_timer(armed_->timer);
}

// One that is armed too early is left: it finds nothing to do, and is armed anew.
void Ticks::arm() {
  if (calling_ || due_.empty()) return;
  const runtime::Time first = due_.begin()->first.first;
  if (armed_ && armed_->at <= first) return;
  if (armed_) loop_.cancel_timer(armed_->timer);
  armed_ = Armed{first, loop_.start_timer(first, [this] { fire(); })};
}

void Ticks::fire() {
  armed_.reset();
  calling_ = true;
  step_([this] { call_due(); });
  calling_ = false;
  arm();
}

void Ticks::call_due() {
  const runtime::Time now = loop_.now();
  for (std::size_t calls = 0; calls < kCallsInOneStep; ++calls) {
    if (due_.empty() || due_.begin()->first.first > now) return;
    Tick& tick = *due_.begin()->second;
    tick.cancel();
    tick.call_();
  }
}

void Tick::at(runtime::Time time) {
  if (key_ && key_->first == time) return;
  cancel();
  key_ = Ticks::Key{time, ticks_.next_++};
  ticks_.due_.emplace(*key_, this);
  ticks_.arm();
}

void Tick::cancel() {
  if (key_) ticks_.due_.erase(*key_);
  key_.reset();
}

runtime::Time next_multiple(runtime::Time now, runtime::Duration interval) {
  const runtime::Duration since = now.time_since_epoch();
  return runtime::Time((since / interval + 1) * interval);
}

}  // namespace datom::volume

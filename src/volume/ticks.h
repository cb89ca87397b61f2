// Who is to be called when, of one loop: one timer for as many as there are. Those that are due at
// the same time are called in one step, so that what they send can travel together (group_post.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "runtime/loop.h"

namespace datom::volume {

class Ticks {
 public:
  // `step` is given what calls those that are due, and calls it.
  using Step = std::function<void(const std::function<void()>& calls)>;
  Ticks(runtime::Loop& loop, Step step);
  // No Tick may remain.
  ~Ticks();
  Ticks(const Ticks&) = delete;
  Ticks& operator=(const Ticks&) = delete;

 private:
  friend class Tick;
  using Key = std::pair<runtime::Time, std::uint64_t>;

  void arm();
  void fire();
  void call_due();

  runtime::Loop& loop_;
  const Step step_;
  std::map<Key, class Tick*> due_;
  std::uint64_t next_ = 0;
  struct Armed {
    runtime::Time at;
    runtime::Loop::TimerId timer;
  };
  std::optional<Armed> armed_;
  bool calling_ = false;
};

// One that is called, once, at the time that was last asked for. Belongs to the loop.
class Tick {
 public:
  Tick(Ticks& ticks, std::function<void()> call) : ticks_(ticks), call_(std::move(call)) {}
  ~Tick() { cancel(); }
  Tick(const Tick&) = delete;
  Tick& operator=(const Tick&) = delete;

  void at(runtime::Time time);
  void cancel();
  // Time::max() when it waits for none.
  runtime::Time due() const { return key_ ? key_->first : runtime::Time::max(); }

 private:
  friend class Ticks;
  Ticks& ticks_;
  const std::function<void()> call_;
  std::optional<Ticks::Key> key_;
};

// The next time that is a multiple of `interval`: who waits for it is called together with others.
runtime::Time next_multiple(runtime::Time now, runtime::Duration interval);

}  // namespace datom::volume

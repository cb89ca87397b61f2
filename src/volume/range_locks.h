// Order between writes to the same blocks at a leader. Whole-block writes need none: their ops
// order them. A write of part of a block reads the block first, so it waits until every earlier
// write to it has been applied, and later writes to it wait for that one. Belongs to one loop.
#pragma once

#include <algorithm>
#include <cstdint>
#include <list>

#include "common/strong.h"
#include "runtime/task.h"
#include "runtime/wait.h"

namespace datom::volume {

class RangeLocks {
 private:
  struct Range {
    std::uint64_t first;  // blocks
    std::uint64_t last;
    bool partial;
    Op until;  // released when this op is applied; 0: not proposed yet
  };

 public:
  using Handle = std::list<Range>::iterator;

  explicit RangeLocks(runtime::Loop& loop) : changed_(loop) {}

  // Whether somebody waits for a range to be applied.
  bool contended() const { return waiting_ > 0; }

  // Takes its place in the order and waits until no earlier overlapping range is in the way; calls
  // `on_wait` first if it has to.
  template <typename OnWait>
  runtime::Task<Handle> acquire(std::uint64_t first_block, std::uint64_t last_block, bool partial,
                                OnWait on_wait) {
    const Handle range = ranges_.insert(ranges_.end(), {first_block, last_block, partial, Op(0)});
    if (partial) ++partials_;
    while (partials_ > 0 && in_the_way(range)) {
      ++waiting_;
      on_wait();
      co_await changed_.wait();
      --waiting_;
    }
    co_return range;
  }
  // The write was proposed as `op`: released once that is applied.
  void release_at(Handle range, Op op) {
    range->until = op;
    if (op <= applied_) applied(applied_);
  }
  // The write was not proposed.
  void release(Handle range) {
    if (range->partial) --partials_;
    ranges_.erase(range);
    changed_.wake_all();
  }
  void applied(Op op) {
    applied_ = std::max(applied_, op);
    release_through(op);
  }
  // The leadership is over: what was proposed will be decided by another.
  void abandon_proposed() { release_through(Op(UINT64_MAX)); }

 private:
  void release_through(Op op) {
    bool any = false;
    for (Handle range = ranges_.begin(); range != ranges_.end();) {
      const Handle next = std::next(range);
      if (range->until > Op(0) && range->until <= op) {
        if (range->partial) --partials_;
        ranges_.erase(range);
        any = true;
      }
      range = next;
    }
    if (any) changed_.wake_all();
  }
  bool in_the_way(Handle mine) {
    for (Handle other = ranges_.begin(); other != mine; ++other) {
      const bool overlap = other->first <= mine->last && mine->first <= other->last;
      if (overlap && (other->partial || mine->partial)) return true;
    }
    return false;
  }

  std::list<Range> ranges_;
  Op applied_;
  std::size_t partials_ = 0;
  std::size_t waiting_ = 0;
  runtime::Event changed_;
};

}  // namespace datom::volume

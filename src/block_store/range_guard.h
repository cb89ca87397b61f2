// Keeps reads and changes of the same blocks apart: many readers beside one writer, and they wait
// for each other only where their ranges overlap. Readers that wait go before the next writer, and
// a writer that waits before the next readers: neither can starve the other. Belongs to one loop.
#pragma once

#include <list>
#include <optional>
#include <utility>
#include <vector>

#include "block_store/block_store.h"
#include "runtime/loop.h"
#include "runtime/task.h"
#include "runtime/wait.h"

namespace datom::block_store {

struct BlockRange {
  BlockNumber first = 0;
  BlockNumber end = 0;

  bool overlaps(const BlockRange& other) const { return first < other.end && other.first < end; }
};

class RangeGuard {
  struct Reader {
    BlockRange range;
    bool admitted = false;
  };

 public:
  explicit RangeGuard(runtime::Loop& loop) : writers_(loop), changed_(loop) {}

  // Held for a read: no writer changes the range.
  class [[nodiscard]] Reading {
   public:
    Reading(RangeGuard* guard, std::list<Reader>::iterator place) : guard_(guard), place_(place) {}
    Reading(Reading&& other) noexcept
        : guard_(std::exchange(other.guard_, nullptr)), place_(other.place_) {}
    Reading& operator=(Reading&&) = delete;
    ~Reading() {
      if (guard_ != nullptr) guard_->end_reading(place_);
    }

   private:
    RangeGuard* guard_;
    std::list<Reader>::iterator place_;
  };
  runtime::Task<Reading> read(BlockRange range);

  // Held for a change: no reader is in its ranges, and there is no other writer.
  class [[nodiscard]] Writing {
   public:
    Writing(RangeGuard* guard, runtime::Mutex::Holder turn)
        : guard_(guard), turn_(std::move(turn)) {}
    Writing(Writing&& other) noexcept
        : guard_(std::exchange(other.guard_, nullptr)), turn_(std::move(other.turn_)) {}
    Writing& operator=(Writing&&) = delete;
    ~Writing() {
      if (guard_ != nullptr) guard_->end_writing();
    }

   private:
    RangeGuard* guard_;
    runtime::Mutex::Holder turn_;
  };
  runtime::Task<Writing> write(std::vector<BlockRange> ranges);

 private:
  bool written(const BlockRange& range) const;
  bool has_readers() const;
  void end_reading(std::list<Reader>::iterator place);
  void end_writing();

  runtime::Mutex writers_;
  std::vector<BlockRange> writing_;  // of the one writer; sorted and apart from each other
  std::list<Reader> readers_;        // admitted and waiting ones
  runtime::Event changed_;
};

}  // namespace datom::block_store

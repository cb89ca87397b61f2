#include "block_store/range_guard.h"

#include <algorithm>

namespace datom::block_store {
namespace {

// Sorts and merges, so that an overlap is found by bisection.
std::vector<BlockRange> merged(std::vector<BlockRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const BlockRange& a, const BlockRange& b) { return a.first < b.first; });
  std::vector<BlockRange> apart;
  for (const BlockRange& range : ranges) {
    if (range.first == range.end) continue;
    if (!apart.empty() && range.first <= apart.back().end) {
      apart.back().end = std::max(apart.back().end, range.end);
    } else {
      apart.push_back(range);
    }
  }
  return apart;
}

}  // namespace

bool RangeGuard::written(const BlockRange& range) const {
  auto candidate =
      std::partition_point(writing_.begin(), writing_.end(),
                           [&range](const BlockRange& held) { return held.end <= range.first; });
  return candidate != writing_.end() && candidate->overlaps(range);
}

bool RangeGuard::has_readers() const {
  return std::any_of(readers_.begin(), readers_.end(), [this](const Reader& reader) {
    return reader.admitted && written(reader.range);
  });
}

runtime::Task<RangeGuard::Reading> RangeGuard::read(BlockRange range) {
  auto place = readers_.insert(readers_.end(), Reader{range, !written(range)});
  while (!place->admitted) co_await changed_.wait();
  co_return Reading(this, place);
}

void RangeGuard::end_reading(std::list<Reader>::iterator place) {
  const bool writer_may_wait = written(place->range);
  readers_.erase(place);
  if (writer_may_wait) changed_.wake_all();
}

runtime::Task<RangeGuard::Writing> RangeGuard::write(std::vector<BlockRange> ranges) {
  runtime::Mutex::Holder turn = co_await writers_.lock();
  writing_ = merged(std::move(ranges));
  while (has_readers()) co_await changed_.wait();
  co_return Writing(this, std::move(turn));
}

void RangeGuard::end_writing() {
  writing_.clear();
  bool admitted = false;
  for (Reader& reader : readers_) {
    admitted |= !reader.admitted;
    reader.admitted = true;
  }
  if (admitted) changed_.wake_all();
}

}  // namespace datom::block_store

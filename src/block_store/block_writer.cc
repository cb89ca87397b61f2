#include "block_store/block_writer.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <span>
#include <utility>

#include "block_store/concurrently.h"

namespace datom::block_store {
namespace {

constexpr std::size_t kConcurrentOperations = 32;
constexpr std::size_t kMaxCoalescedBytes = 256 << 10;

using Changes = std::vector<Change>;

// Neighbours of one kind, which become one operation on the file: [begin, end) in a wave.
struct Run {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::uint64_t length = 0;  // bytes
};

bool is_data(const Change& change) {
  return change.kind == BlockKind::data;
}

std::uint64_t length_of(const Change& change) {
  return (change.range.end - change.range.first) * kBlockSize;
}

// Whether it can be written O_DIRECT from where it is.
bool aligned(const runtime::File& file, const Buffer& buffer) {
  return reinterpret_cast<std::uintptr_t>(buffer.data()) % file.memory_alignment() == 0;
}

bool by_block(const Change& a, const Change& b) {
  return a.range.first < b.range.first;
}

// REQUIRES: in order of block.
bool apart(std::span<const Change> changes) {
  for (std::size_t i = 1; i < changes.size(); ++i) {
    if (changes[i].range.first < changes[i - 1].range.end) return false;
  }
  return true;
}

// Ranges that do not overlap.
class RangeSet {
 public:
  bool overlaps(const BlockRange& range) const {
    auto after = ends_.lower_bound(range.end);
    return after != ends_.begin() && std::prev(after)->second > range.first;
  }
  void add(const BlockRange& range) { ends_.emplace(range.first, range.end); }

 private:
  std::map<BlockNumber, BlockNumber> ends_;  // by first
};

// The longest beginning of `changes`, from `next` on, that does not overlap within itself; in order
// of block.
Changes take_wave(Changes& changes, std::size_t& next) {
  Changes wave;
  RangeSet taken;
  while (next < changes.size() && !taken.overlaps(changes[next].range)) {
    taken.add(changes[next].range);
    wave.push_back(std::move(changes[next++]));
  }
  std::sort(wave.begin(), wave.end(), by_block);
  return wave;
}

std::vector<Run> runs_of(std::span<const Change> wave) {
  std::vector<Run> runs;
  for (std::size_t i = 0; i < wave.size(); ++i) {
    const std::uint64_t length = length_of(wave[i]);
    const bool follows = i > 0 && wave[i].kind == wave[i - 1].kind &&
                         wave[i].range.first == wave[i - 1].range.end &&
                         (!is_data(wave[i]) || runs.back().length + length <= kMaxCoalescedBytes);
    if (!follows) runs.push_back({i, i, 0});
    runs.back().end = i + 1;
    runs.back().length += length;
  }
  return runs;
}

// What of a wave is data goes to the file in one call. Content that cannot be written from where it
// is, or that follows other content, is brought together in one piece of memory first.
runtime::Task<void> write_data(runtime::File& file, std::span<const Change> wave,
                               std::span<const Run> runs) {
  const auto in_place = [&file, &wave](const Run& run) {
    return run.end - run.begin == 1 && aligned(file, wave[run.begin].content);
  };
  std::uint64_t copied = 0;
  for (const Run& run : runs) {
    if (is_data(wave[run.begin]) && !in_place(run)) copied += run.length;
  }
  Buffer memory = Buffer::allocate(copied);
  std::vector<runtime::File::Piece> pieces;
  std::size_t filled = 0;
  for (const Run& run : runs) {
    if (!is_data(wave[run.begin])) continue;
    const std::uint64_t offset = wave[run.begin].range.first * kBlockSize;
    if (in_place(run)) {
      pieces.push_back({offset, wave[run.begin].content.view()});
      continue;
    }
    pieces.push_back({offset, memory.view().subspan(filled, run.length)});
    for (std::size_t i = run.begin; i < run.end; ++i) {
      const ByteView content = wave[i].content.view();
      std::memcpy(memory.mutable_data() + filled, content.data(), content.size());
      filled += content.size();
    }
  }
  co_await file.write_pieces(pieces);
}

runtime::Task<void> clear(runtime::File* file, BlockKind kind, std::uint64_t offset,
                          std::uint64_t length) {
  co_await file->punch_hole(offset, length);
  if (kind == BlockKind::zero) co_await file->allocate(offset, length);
}

// REQUIRES: the changes do not overlap, and are in order of block.
runtime::Task<void> write_wave(runtime::Loop& loop, runtime::File& file, Changes wave) {
  const std::vector<Run> runs = runs_of(wave);
  std::vector<Run> cleared;
  std::copy_if(runs.begin(), runs.end(), std::back_inserter(cleared),
               [&wave](const Run& run) { return !is_data(wave[run.begin]); });
  if (cleared.size() < runs.size()) co_await write_data(file, wave, runs);
  if (cleared.empty()) co_return;
  const auto start = [&file, &cleared, &wave](std::size_t index) {
    const Run& run = cleared[index];
    const Change& first = wave[run.begin];
    return clear(&file, first.kind, first.range.first * kBlockSize, run.length);
  };
  co_await run_concurrently(loop, cleared.size(), kConcurrentOperations, start);
}

}  // namespace

runtime::Task<void> write_changes(runtime::Loop& loop, runtime::File& file, Changes changes) {
  Changes sorted = changes;
  std::sort(sorted.begin(), sorted.end(), by_block);
  if (apart(sorted)) {
    co_await write_wave(loop, file, std::move(sorted));
    co_return;
  }
  std::size_t next = 0;
  while (next < changes.size()) {
    co_await write_wave(loop, file, take_wave(changes, next));
  }
}

}  // namespace datom::block_store

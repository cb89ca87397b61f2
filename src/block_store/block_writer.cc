#include "block_store/block_writer.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "block_store/concurrently.h"

namespace datom::block_store {
namespace {

constexpr std::size_t kConcurrentOperations = 32;
constexpr std::size_t kMaxCoalescedBytes = 256 << 10;

using Changes = std::vector<Change>;

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

// One operation on the file: neighbours of one kind, in order of block.
struct Operation {
  BlockKind kind = BlockKind::hole;
  BlockRange range;
  std::vector<Buffer> pieces;

  std::uint64_t offset() const { return range.first * kBlockSize; }
  std::uint64_t length() const { return (range.end - range.first) * kBlockSize; }

  bool takes(const Change& next) const {
    if (next.kind != kind || next.range.first != range.end) return false;
    return kind != BlockKind::data || length() + next.content.size() <= kMaxCoalescedBytes;
  }
  void take(Change next) {
    range.end = next.range.end;
    if (kind == BlockKind::data) pieces.push_back(std::move(next.content));
  }
};

Buffer joined(std::vector<Buffer> pieces, std::uint64_t length) {
  if (pieces.size() == 1) return std::move(pieces.front());
  Buffer whole = Buffer::allocate(length);
  std::size_t filled = 0;
  for (const Buffer& piece : pieces) {
    std::memcpy(whole.mutable_data() + filled, piece.data(), piece.size());
    filled += piece.size();
  }
  return whole;
}

// The longest beginning of `changes`, from `next` on, that does not overlap within itself.
Changes take_wave(Changes& changes, std::size_t& next) {
  Changes wave;
  RangeSet taken;
  while (next < changes.size() && !taken.overlaps(changes[next].range)) {
    taken.add(changes[next].range);
    wave.push_back(std::move(changes[next++]));
  }
  return wave;
}

std::vector<Operation> coalesce(Changes wave) {
  std::sort(wave.begin(), wave.end(),
            [](const Change& a, const Change& b) { return a.range.first < b.range.first; });
  std::vector<Operation> operations;
  for (Change& change : wave) {
    if (operations.empty() || !operations.back().takes(change)) {
      operations.push_back({change.kind, {change.range.first, change.range.first}, {}});
    }
    operations.back().take(std::move(change));
  }
  return operations;
}

runtime::Task<void> perform(runtime::File* file, Operation operation) {
  if (operation.kind == BlockKind::data) {
    const Buffer bytes = joined(std::move(operation.pieces), operation.length());
    co_await file->write(operation.offset(), bytes.view());
    co_return;
  }
  co_await file->punch_hole(operation.offset(), operation.length());
  if (operation.kind == BlockKind::zero) {
    co_await file->allocate(operation.offset(), operation.length());
  }
}

}  // namespace

runtime::Task<void> write_changes(runtime::Loop& loop, runtime::File& file, Changes changes) {
  std::size_t next = 0;
  while (next < changes.size()) {
    std::vector<Operation> operations = coalesce(take_wave(changes, next));
    const auto start = [&file, &operations](std::size_t index) {
      return perform(&file, std::move(operations[index]));
    };
    co_await run_concurrently(loop, operations.size(), kConcurrentOperations, start);
  }
}

}  // namespace datom::block_store

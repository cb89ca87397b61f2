// Blocks and what is known of them go out, verified.
#include <algorithm>
#include <cstring>
#include <utility>

#include "block_store/block_store_impl.h"
#include "common/check.h"
#include "common/checksum.h"

namespace datom::block_store {
namespace {

// Blocks in, runs of one kind out.
class ExtentList {
 public:
  ExtentList(BlockNumber first, std::size_t limit) : next_(first), limit_(limit) {}

  // Blocks between the last one added and this one are holes. False when the list is full.
  bool add(BlockNumber block, BlockKind kind) {
    return append(block - next_, BlockKind::hole) && append(1, kind);
  }
  void finish(BlockNumber end) { append(end - next_, BlockKind::hole); }
  std::vector<Extent> take() { return std::move(extents_); }

 private:
  bool append(std::uint64_t blocks, BlockKind kind) {
    if (blocks == 0) return true;
    if (extents_.empty() || extents_.back().kind != kind) {
      if (extents_.size() == limit_) return false;
      extents_.push_back({0, kind});
    }
    extents_.back().length += blocks * kBlockSize;
    next_ += blocks;
    return true;
  }

  BlockNumber next_;
  std::size_t limit_;
  std::vector<Extent> extents_;
};

void verify(const BlockVersion& expected, ByteView content) {
  const std::uint64_t found = checksum(content);
  if (found == expected.checksum) return;
  throw Error(Code::corrupt, "block {} as of op {} fails its checksum: {:016x}, expected {:016x}",
              expected.block, expected.op.value(), found, expected.checksum);
}

}  // namespace

runtime::Task<Buffer> BlockStore::Impl::read(std::uint64_t offset, std::uint64_t length) {
  const UnderWay counted(*this);
  const BlockRange range = checked_range(offset, length);
  const RangeGuard::Reading reading = co_await guard.read(range);
  check_usable();  // an apply that was waited for may have failed half done
  std::vector<BlockVersion> holding_data;
  const auto collect = [&holding_data](BlockNumber first, std::span<const RawEntry> entries) {
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const BlockVersion version = require_entry(first + i, entries[i]);
      if (version.kind == BlockKind::data) holding_data.push_back(version);
    }
    return true;
  };
  co_await table.scan(range.first, range.end, collect);
  Buffer content = co_await read_verified(range, std::move(holding_data));
  co_return content;
}

// One read from the first to the last block that holds data; what lies between and around them
// reads as zeros, whatever the file holds there.
runtime::Task<Buffer> BlockStore::Impl::read_verified(BlockRange range,
                                                      std::vector<BlockVersion> holding_data) {
  const std::size_t length = (range.end - range.first) * kBlockSize;
  if (holding_data.empty()) co_return Buffer::zeroed(length);
  Buffer content = Buffer::allocate(length);
  const BlockNumber first = holding_data.front().block;
  const BlockNumber end = holding_data.back().block + 1;
  const MutableBytes wanted = content.mutable_view().subspan((first - range.first) * kBlockSize,
                                                             (end - first) * kBlockSize);
  const std::size_t found = co_await data->read(first * kBlockSize, wanted);
  if (found != wanted.size()) {
    throw Error(Code::corrupt, "data file ends early: {} bytes from block {} on, expected {}",
                found, first, wanted.size());
  }
  BlockNumber next = range.first;
  const auto zero_until = [&](BlockNumber block) {
    std::memset(content.mutable_data() + (next - range.first) * kBlockSize, 0,
                (block - next) * kBlockSize);
  };
  for (const BlockVersion& version : holding_data) {
    zero_until(version.block);
    verify(version, content.view().subspan((version.block - range.first) * kBlockSize, kBlockSize));
    next = version.block + 1;
  }
  zero_until(range.end);
  co_return content;
}

runtime::Task<std::vector<Extent>> BlockStore::Impl::extents(std::uint64_t offset,
                                                             std::uint64_t length,
                                                             std::size_t max_extents) {
  DATOM_CHECK(max_extents > 0);
  const UnderWay counted(*this);
  const BlockRange range = checked_range(offset, length);
  ExtentList extents(range.first, max_extents);
  bool full = false;
  const auto collect = [&](BlockNumber first, std::span<const RawEntry> entries) {
    for (std::size_t i = 0; i < entries.size() && !full; ++i) {
      full = !extents.add(first + i, require_entry(first + i, entries[i]).kind);
    }
    return !full;
  };
  co_await table.scan(range.first, range.end, collect);
  if (!full) extents.finish(range.end);
  co_return extents.take();
}

runtime::Task<BlockVersion> BlockStore::Impl::version(BlockNumber block) {
  const UnderWay counted(*this);
  if (block >= table.blocks()) {
    throw Error(Code::invalid_argument, "block {} of a volume of {} blocks", block, table.blocks());
  }
  const Table::Pin page = co_await table.pin(Table::page_of(block));
  co_return require_entry(block, page.get(block));
}

}  // namespace datom::block_store

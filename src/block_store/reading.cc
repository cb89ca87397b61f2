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
  // As of what has been applied, also where an apply is under way: nothing to wait for.
  if (std::optional<Buffer> content = read_cached(range)) co_return std::move(*content);
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

// nullopt where not all of it is in memory.
std::optional<Buffer> BlockStore::Impl::read_cached(BlockRange range) {
  Buffer content = Buffer::allocate((range.end - range.first) * kBlockSize);
  for (BlockNumber block = range.first; block < range.end; ++block) {
    const std::uint64_t at = (block - range.first) * kBlockSize;
    if (!cached.copy(block, content.mutable_view().subspan(at, kBlockSize))) return std::nullopt;
  }
  return content;
}

// What lies between and around blocks that hold data reads as zeros, whatever the file holds there.
// REQUIRES: nothing changes the range meanwhile.
runtime::Task<Buffer> BlockStore::Impl::read_verified(BlockRange range,
                                                      std::vector<BlockVersion> holding_data) {
  Buffer content = Buffer::allocate((range.end - range.first) * kBlockSize);
  const auto place = [&](BlockNumber block) {
    return content.mutable_view().subspan((block - range.first) * kBlockSize, kBlockSize);
  };
  // From the first to the last block that is not in memory.
  std::size_t begin = holding_data.size();
  std::size_t end = 0;
  for (std::size_t i = 0; i < holding_data.size(); ++i) {
    const BlockNumber block = holding_data[i].block;
    if (cached.copy(block, place(block))) continue;
    begin = std::min(begin, i);
    end = i + 1;
  }
  if (begin < end) {
    const std::span missing = std::span(holding_data).subspan(begin, end - begin);
    const BlockNumber first = missing.front().block;
    const MutableBytes into = content.mutable_view().subspan(
        (first - range.first) * kBlockSize, (missing.back().block + 1 - first) * kBlockSize);
    co_await read_missing(missing, into);
  }
  BlockNumber next = range.first;
  const auto zero_until = [&](BlockNumber block) {
    std::memset(content.mutable_data() + (next - range.first) * kBlockSize, 0,
                (block - next) * kBlockSize);
  };
  for (const BlockVersion& version : holding_data) {
    zero_until(version.block);
    next = version.block + 1;
  }
  zero_until(range.end);
  co_return content;
}

// One read from the first to the last of them; each is verified, and kept.
runtime::Task<void> BlockStore::Impl::read_missing(std::span<const BlockVersion> versions,
                                                   MutableBytes into) {
  const BlockNumber first = versions.front().block;
  const std::size_t found = co_await data->read(first * kBlockSize, into);
  bytes_from_disk += found;
  if (found != into.size()) {
    throw Error(Code::corrupt, "data file ends early: {} bytes from block {} on, expected {}",
                found, first, into.size());
  }
  for (const BlockVersion& version : versions) {
    const ByteView content = into.subspan((version.block - first) * kBlockSize, kBlockSize);
    verify(version, content);
    cached.put(version.block, content);
  }
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
  co_return require_sound(block, page.get(block));
}

}  // namespace datom::block_store

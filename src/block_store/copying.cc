// Blocks move between replicas.
#include <algorithm>
#include <utility>

#include "block_store/block_store_impl.h"
#include "block_store/block_writer.h"
#include "common/check.h"
#include "common/checksum.h"

namespace datom::block_store {

runtime::Task<std::vector<BlockVersion>> BlockStore::Impl::newer_blocks(BlockNumber from,
                                                                        Op newer_than,
                                                                        std::size_t limit,
                                                                        BlockNumber end) {
  const UnderWay counted(*this);
  std::vector<BlockVersion> newer;
  end = std::min(end, table.blocks());
  if (from >= end) co_return newer;
  const auto collect = [&](BlockNumber first, std::span<const RawEntry> entries) {
    for (std::size_t i = 0; i < entries.size() && newer.size() < limit; ++i) {
      const BlockVersion version = require_sound(first + i, entries[i]);
      if (version.op > newer_than) newer.push_back(version);
    }
    return newer.size() < limit;
  };
  co_await table.scan(from, end, collect);
  co_return newer;
}

// Versions and contents come from a peer.
runtime::Task<void> BlockStore::Impl::install(std::vector<PeerBlock> blocks) {
  const UnderWay counted(*this);
  DATOM_CHECK(copying);
  for (const auto& [version, content] : blocks) {
    if (fits(version, content)) continue;
    throw Error(Code::corrupt,
                "block {} of op {} (kind {}, {} bytes) from a peer: its content does not match its "
                "version, or it is outside of the volume",
                version.block, version.op.value(), static_cast<int>(version.kind), content.size());
  }
  co_await or_stop(install_checked(std::move(blocks)));
}

// Whether the peer's is to take the place of what is here.
bool BlockStore::Impl::is_newer(const BlockVersion& version, const Table::Pin& page) const {
  const auto here = sound_version(version.block, page.get(version.block), newest_possible());
  return !here || here->op < version.op;
}

runtime::Task<void> BlockStore::Impl::install_checked(std::vector<PeerBlock> blocks) {
  std::vector<BlockRange> ranges;
  for (const PeerBlock& one : blocks) ranges.push_back({one.version.block, one.version.block + 1});
  const RangeGuard::Writing writing = co_await guard.write(std::move(ranges));
  check_usable();
  for (const PeerBlock& one : blocks) newest_copied = std::max(newest_copied, one.version.op);
  PinnedPages pages;
  std::vector<Change> changes;
  for (const auto& [version, content] : blocks) {
    const std::uint64_t number = Table::page_of(version.block);
    if (!pages.contains(number)) {
      Table::Pin pinned = co_await table.pin(number);
      pages.emplace(number, std::move(pinned));
    }
    if (!is_newer(version, pages.at(number))) continue;
    changes.push_back({version.kind, {version.block, version.block + 1}, content});
  }
  co_await write_changes(loop, *data, std::move(changes));
  for (const auto& [version, content] : blocks) {
    Table::Pin& page = pages.at(Table::page_of(version.block));
    if (!is_newer(version, page)) continue;
    const BlockVersion old =
        version_or_none(version.block, page.get(version.block), newest_possible());
    replace(page, old, version);
    cached.forget(version.block);
  }
}

void BlockStore::Impl::begin_copy(Op op, Op newest) {
  DATOM_CHECK(!applying && op >= applied);
  // Else a crash would leave a half copied base that is taken for a complete one.
  DATOM_CHECK(!superblock->current().state.base_complete);
  applied = op;
  copying = true;
  newest_copied = newest;
  known = false;
  history.clear();
}

runtime::Task<void> BlockStore::Impl::finish_copy(Op op) {
  const UnderWay counted(*this);
  DATOM_CHECK(copying);
  // Reads go on, applies and installs wait.
  std::vector<BlockRange> none;
  const RangeGuard::Writing writing = co_await guard.write(std::move(none));
  check_usable();
  Fingerprint sum;
  std::uint64_t used = 0;
  BlockVersion newest;
  const auto count = [&](BlockNumber first, std::span<const RawEntry> entries) {
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const BlockVersion version = require_entry(first + i, entries[i]);
      sum.add(version);
      if (version.kind != BlockKind::hole) ++used;
      if (version.op > newest.op) newest = version;
    }
    return true;
  };
  co_await table.scan(0, table.blocks(), count);
  const Op reached = std::max(applied, op);
  if (newest.op > reached) {
    throw Error(Code::conflict, "block {} is as of op {}, the copy is to be finished at op {}",
                newest.block, newest.op.value(), reached.value());
  }
  applied = reached;
  copying = false;
  known = true;
  fingerprint = sum;
  blocks_used = used;
  note_fingerprint();
}

}  // namespace datom::block_store

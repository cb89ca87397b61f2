// Entries of the journal become blocks.
#include <algorithm>
#include <utility>

#include "block_store/block_store_impl.h"
#include "block_store/block_writer.h"
#include "common/check.h"
#include "common/checksum.h"

namespace datom::block_store {
namespace {

using protocol::Entry;
using protocol::EntryHeader;
using protocol::EntryKind;

constexpr std::size_t kFingerprintsKept = 4096;

bool changes_blocks(EntryKind kind) {
  return kind == EntryKind::write || kind == EntryKind::zero || kind == EntryKind::trim;
}

BlockRange range_of(const EntryHeader& header) {
  return {header.offset / kBlockSize, (header.offset + header.length) / kBlockSize};
}

BlockKind block_kind(EntryKind kind) {
  if (kind == EntryKind::write) return BlockKind::data;
  return kind == EntryKind::zero ? BlockKind::zero : BlockKind::hole;
}

// The pages of `pages` that hold entries of `range`, with the part of it that each holds.
template <typename Visit>
void for_each_page(PinnedPages& pages, BlockRange range, Visit visit) {
  if (range.first == range.end) return;
  auto page = pages.lower_bound(Table::page_of(range.first));
  for (; page != pages.end() && page->first <= Table::page_of(range.end - 1); ++page) {
    const BlockNumber begin = page->first * kEntriesPerPage;
    visit(page->second, std::max(range.first, begin),
          std::min<BlockNumber>(range.end, begin + kEntriesPerPage));
  }
}

// What of the entry's range is older than it. After a crash the table may hold newer blocks
// already; their data is synced and must stay. Pages that are not there hold nothing written.
std::vector<BlockRange> older_ranges(const EntryHeader& header, PinnedPages& pages,
                                     Op newest_possible) {
  const BlockRange range = range_of(header);
  std::vector<BlockRange> older;
  BlockNumber begin = range.first;
  const auto stop_at_newer = [&](const Table::Pin& page, BlockNumber first, BlockNumber end) {
    for (BlockNumber block = first; block < end; ++block) {
      if (version_or_none(block, page.get(block), newest_possible).op < header.op) continue;
      if (begin < block) older.push_back({begin, block});
      begin = block + 1;
    }
  };
  for_each_page(pages, range, stop_at_newer);
  if (begin < range.end) older.push_back({begin, range.end});
  return older;
}

std::vector<Change> plan(const std::vector<Entry>& entries, PinnedPages& pages,
                         Op newest_possible) {
  std::vector<Change> changes;
  for (const Entry& entry : entries) {
    if (!changes_blocks(entry.header.kind)) continue;
    const BlockKind kind = block_kind(entry.header.kind);
    for (const BlockRange& range : older_ranges(entry.header, pages, newest_possible)) {
      Change change{kind, range, {}};
      if (kind == BlockKind::data) {
        change.content = entry.payload.slice(range.first * kBlockSize - entry.header.offset,
                                             (range.end - range.first) * kBlockSize);
      }
      changes.push_back(std::move(change));
    }
  }
  return changes;
}

}  // namespace

// Entries come from peers: whatever is outside of bounds is refused before anything changes.
void BlockStore::Impl::check_entry(const Entry& entry) const {
  const EntryHeader& header = entry.header;
  if (!changes_blocks(header.kind)) return;
  const bool inside = header.offset % kBlockSize == 0 && header.length % kBlockSize == 0 &&
                      header.offset <= size() && header.length <= size() - header.offset;
  const bool whole = header.kind == EntryKind::write ? entry.payload.size() == header.length
                                                     : header.length <= kMaxRangeBytes;
  if (inside && whole && header.op.value() <= kMaxOp) return;
  throw Error(Code::corrupt,
              "entry of op {} (kind {}, range {}+{}, payload of {} bytes) does not fit a volume of "
              "{} bytes",
              header.op.value(), static_cast<int>(header.kind), header.offset, header.length,
              entry.payload.size(), size());
}

runtime::Task<void> BlockStore::Impl::apply(std::vector<Entry> entries) {
  const UnderWay counted(*this);
  const Only only(applying);
  Op expected = applied.next();
  for (const Entry& entry : entries) {
    DATOM_CHECK(entry.header.op == expected);
    expected = expected.next();
    check_entry(entry);
  }
  co_await or_stop(apply_checked(std::move(entries)));
}

runtime::Task<void> BlockStore::Impl::apply_checked(std::vector<Entry> entries) {
  std::vector<BlockRange> ranges;
  for (const Entry& entry : entries) {
    if (changes_blocks(entry.header.kind)) ranges.push_back(range_of(entry.header));
  }
  const RangeGuard::Writing writing = co_await guard.write(std::move(ranges));
  check_usable();
  PinnedPages pages;
  for (const Entry& entry : entries) {
    if (changes_blocks(entry.header.kind)) co_await pin_pages(entry.header, pages);
  }
  co_await write_changes(loop, *data, plan(entries, pages, newest_possible()));
  // From here to the end without await: nobody sees a part of it.
  for (const Entry& entry : entries) {
    if (changes_blocks(entry.header.kind)) take_effect(entry, pages);
    advance_to(entry.header.op);
  }
}

// A trim needs no pages in which nothing was ever written: a volume that is discarded as a whole
// before its first use costs nothing. During a copy it does: the block may be one that the peer
// wrote before this trim, and must not be installed after it.
runtime::Task<void> BlockStore::Impl::pin_pages(const EntryHeader& header, PinnedPages& pages) {
  const BlockRange range = range_of(header);
  if (range.first == range.end) co_return;
  std::vector<std::uint64_t> needed;
  if (header.kind == EntryKind::trim && !copying) {
    co_await find_written_pages(range, needed);
  } else {
    const std::uint64_t last = Table::page_of(range.end - 1);
    for (std::uint64_t page = Table::page_of(range.first); page <= last; ++page) {
      needed.push_back(page);
    }
  }
  for (std::uint64_t page : needed) {
    auto found = pages.find(page);
    if (found == pages.end()) {
      Table::Pin pinned = co_await table.pin(page);
      found = pages.emplace(page, std::move(pinned)).first;
    }
    found->second.prefetch(std::max<BlockNumber>(range.first, page * kEntriesPerPage));
  }
}

runtime::Task<void> BlockStore::Impl::find_written_pages(BlockRange range,
                                                         std::vector<std::uint64_t>& found) {
  const auto look = [&found](BlockNumber first, std::span<const RawEntry> entries) {
    const auto written = [](const RawEntry& entry) { return !entry.never_written(); };
    if (std::any_of(entries.begin(), entries.end(), written)) {
      found.push_back(Table::page_of(first));
    }
    return true;
  };
  co_await table.scan(range.first, range.end, look);
}

void BlockStore::Impl::take_effect(const Entry& entry, PinnedPages& pages) {
  const EntryHeader& header = entry.header;
  BlockVersion next;
  next.op = header.op;
  next.kind = block_kind(header.kind);
  const auto change = [&](Table::Pin& page, BlockNumber first, BlockNumber end) {
    for (BlockNumber block = first; block < end; ++block) {
      const RawEntry& raw = page.get(block);
      if (header.kind == EntryKind::trim && !copying && raw.never_written()) continue;
      const BlockVersion old = version_or_none(block, raw, newest_possible());
      if (old.op >= header.op) continue;
      next.block = block;
      if (next.kind == BlockKind::data) {
        next.checksum = entry.block_checksum(block - header.offset / kBlockSize);
      }
      replace(page, old, next);
      if (next.kind == BlockKind::data) {
        const std::uint64_t at = block * kBlockSize - header.offset;
        keep_written(block, entry.payload.view().subspan(at, kBlockSize));
      } else {
        cached.forget(block);
      }
    }
  };
  for_each_page(pages, range_of(header), change);
}

void BlockStore::Impl::keep_written(BlockNumber block, ByteView content) {
  if (cache_writes) {
    cached.put(block, content);
  } else {
    cached.update(block, content);
  }
}

void BlockStore::Impl::replace(Table::Pin& page, const BlockVersion& old,
                               const BlockVersion& next) {
  fingerprint.remove(old);
  fingerprint.add(next);
  if (old.kind != BlockKind::hole && blocks_used > 0) --blocks_used;
  if (next.kind != BlockKind::hole) ++blocks_used;
  page.set(next);
  if (!recounting || next.block >= recounting->end) return;
  recounting->fingerprint.remove(old);
  recounting->fingerprint.add(next);
  if (old.kind != BlockKind::hole) --recounting->blocks_used;
  if (next.kind != BlockKind::hole) ++recounting->blocks_used;
}

// Blocks that are copied may be newer than what was applied.
Op BlockStore::Impl::newest_possible() const {
  return std::max(applied, copying ? newest_copied : superblock->current().horizon);
}

// As require_entry; one newer than possible is damaged as well.
BlockVersion BlockStore::Impl::require_sound(BlockNumber block, const RawEntry& entry) const {
  const BlockVersion version = require_entry(block, entry);
  if (version.op <= newest_possible()) return version;
  throw Error(Code::corrupt,
              "the table entry of block {} is damaged: it says op {}, at most {} is possible",
              block, version.op.value(), newest_possible().value());
}

void BlockStore::Impl::advance_to(Op op) {
  applied = op;
  const Superblock& durable = superblock->current();
  if (!known && !copying && op == durable.horizon) {
    fingerprint.set(durable.fingerprint);
    blocks_used = durable.blocks_used;
    known = true;
  }
  note_fingerprint();
}

void BlockStore::Impl::note_fingerprint() {
  if (!known) {
    history.clear();
    return;
  }
  history.push_back(fingerprint.value());
  if (history.size() > kFingerprintsKept) history.pop_front();
}

std::optional<std::uint64_t> BlockStore::Impl::fingerprint_at(Op op) const {
  if (op > applied || applied.value() - op.value() >= history.size()) return std::nullopt;
  return history[history.size() - 1 - (applied.value() - op.value())];
}

}  // namespace datom::block_store

// Damage is found, mended, and told from what is sound.
#include <algorithm>
#include <utility>

#include "block_store/block_store_impl.h"
#include "block_store/block_writer.h"
#include "common/check.h"
#include "common/checksum.h"

namespace datom::block_store {
namespace {

// Blocks whose table entries one check looks at, so that it ends soon in an empty volume too.
constexpr std::uint64_t kWindow = std::uint64_t{1} << 20;
constexpr std::size_t kBlocksAtOnce = 256;

bool same(const BlockVersion& a, const BlockVersion& b) {
  return a.op == b.op && a.kind == b.kind && a.checksum == b.checksum;
}

}  // namespace

// ---- finding ------------------------------------------------------------------------------------

// Blocks that hold data and entries that are damaged, until there are `most` of them.
struct BlockStore::Impl::Checked {
  std::size_t most = 0;
  std::vector<BlockVersion> data;
  std::vector<BlockNumber> damaged;

  std::size_t count() const { return data.size() + damaged.size(); }
  BlockNumber first() const {
    if (data.empty()) return damaged.front();
    return damaged.empty() ? data.front().block : std::min(data.front().block, damaged.front());
  }
  BlockNumber last() const {
    if (data.empty()) return damaged.back();
    return damaged.empty() ? data.back().block : std::max(data.back().block, damaged.back());
  }
};

runtime::Task<void> BlockStore::Impl::find_written(BlockNumber from, BlockNumber end,
                                                   Checked& found) {
  const auto collect = [this, &found](BlockNumber first, std::span<const RawEntry> entries) {
    for (std::size_t i = 0; i < entries.size() && found.count() < found.most; ++i) {
      const auto version = sound_version(first + i, entries[i], newest_possible());
      if (!version) {
        found.damaged.push_back(first + i);
      } else if (version->kind == BlockKind::data) {
        found.data.push_back(*version);
      }
    }
    return found.count() < found.most;
  };
  co_await table.scan(from, end, collect);
}

runtime::Task<CheckResult> BlockStore::Impl::check(BlockNumber from, BlockNumber end,
                                                   std::size_t most) {
  DATOM_CHECK(most > 0);
  const UnderWay counted(*this);
  end = std::min(end, table.blocks());
  CheckResult result;
  result.next = end;
  if (from >= end) co_return result;
  const BlockNumber window = std::min(end, from + kWindow);
  Checked where;
  where.most = most;
  co_await find_written(from, window, where);
  result.next = where.count() < most ? window : where.last() + 1;
  if (where.count() == 0) co_return result;
  // What is there may have changed since: looked at again where nothing changes.
  const RangeGuard::Reading reading = co_await guard.read({where.first(), where.last() + 1});
  check_usable();
  Checked found;
  found.most = most;
  co_await find_written(where.first(), where.last() + 1, found);
  if (found.count() == most) result.next = found.last() + 1;
  for (const BlockNumber block : found.damaged) {
    Damage damage;
    damage.version.block = block;
    damage.entry_damaged = true;
    result.damaged.push_back(damage);
  }
  for (std::size_t i = 0; i < found.data.size();) {
    std::size_t after = i + 1;
    while (after < found.data.size() && after - i < kBlocksAtOnce &&
           found.data[after].block == found.data[i].block + (after - i)) {
      ++after;
    }
    co_await check_content(std::span(found.data).subspan(i, after - i), result);
    i = after;
  }
  std::sort(result.damaged.begin(), result.damaged.end(),
            [](const Damage& a, const Damage& b) { return a.version.block < b.version.block; });
  co_return result;
}

// A run of neighbours is read at once; where that fails, one by one.
runtime::Task<void> BlockStore::Impl::check_content(std::span<const BlockVersion> run,
                                                    CheckResult& result) {
  Buffer content = Buffer::allocate(run.size() * kBlockSize);
  result.bytes += content.size();
  bool readable = true;
  try {
    const std::size_t found =
        co_await data->read(run.front().block * kBlockSize, content.mutable_view());
    readable = found == content.size();
  } catch (const Error& error) {
    if (error.code() != Code::io_error) throw;
    readable = false;
  }
  for (std::size_t i = 0; i < run.size(); ++i) {
    bool sound = false;
    if (readable) {
      sound = checksum(content.view().subspan(i * kBlockSize, kBlockSize)) == run[i].checksum;
    } else {
      sound = co_await holds(run[i]);
    }
    if (!sound) result.damaged.push_back({run[i], false});
  }
}

// Whether the disk holds that content.
runtime::Task<bool> BlockStore::Impl::holds(const BlockVersion& version) {
  Buffer content = Buffer::allocate(kBlockSize);
  try {
    const std::size_t found =
        co_await data->read(version.block * kBlockSize, content.mutable_view());
    const bool sound = found == kBlockSize && checksum(content.view()) == version.checksum;
    co_return sound;
  } catch (const Error& error) {
    if (error.code() != Code::io_error) throw;
  }
  co_return false;
}

runtime::Task<std::vector<BlockNumber>> BlockStore::Impl::damaged_entries(std::uint64_t offset,
                                                                          std::uint64_t length,
                                                                          std::size_t most) {
  const UnderWay counted(*this);
  const BlockRange range = checked_range(offset, length);
  std::vector<BlockNumber> damaged;
  const auto collect = [&](BlockNumber first, std::span<const RawEntry> entries) {
    for (std::size_t i = 0; i < entries.size() && damaged.size() < most; ++i) {
      if (!sound_version(first + i, entries[i], newest_possible())) damaged.push_back(first + i);
    }
    return damaged.size() < most;
  };
  co_await table.scan(range.first, range.end, collect);
  co_return damaged;
}

// ---- mending ------------------------------------------------------------------------------------

bool BlockStore::Impl::fits(const BlockVersion& version, const Buffer& content) const {
  if (version.block >= table.blocks() || version.op.value() > kMaxOp) return false;
  if (version.kind == BlockKind::data) {
    return content.size() == kBlockSize && checksum(content.view()) == version.checksum;
  }
  return (version.kind == BlockKind::hole || version.kind == BlockKind::zero) && content.empty() &&
         version.checksum == 0;
}

runtime::Task<bool> BlockStore::Impl::has_version(const BlockVersion& version) {
  const Table::Pin page = co_await table.pin(Table::page_of(version.block));
  const auto here = sound_version(version.block, page.get(version.block), newest_possible());
  const bool has = here && same(*here, version);
  co_return has;
}

runtime::Task<void> BlockStore::Impl::repair(BlockVersion version, Buffer content) {
  const UnderWay counted(*this);
  if (version.kind != BlockKind::data || !fits(version, content)) {
    throw Error(Code::corrupt, "the content to repair block {} of op {} with is not that",
                version.block, version.op.value());
  }
  co_await or_stop(repair_checked(version, std::move(content)));
}

runtime::Task<void> BlockStore::Impl::repair_checked(BlockVersion version, Buffer content) {
  const BlockRange range{version.block, version.block + 1};
  {
    std::vector<BlockRange> ranges(1, range);
    const RangeGuard::Writing writing = co_await guard.write(std::move(ranges));
    check_usable();
    const bool here = co_await has_version(version);
    if (!here) co_return;
    std::vector<Change> changes(1, Change{BlockKind::data, range, std::move(content)});
    co_await write_changes(loop, *data, std::move(changes));
  }
  co_await data->sync();
  const RangeGuard::Reading reading = co_await guard.read(range);
  check_usable();
  const bool still_here = co_await has_version(version);
  if (!still_here) co_return;
  const bool kept = co_await holds(version);
  if (!kept) {
    throw Error(Code::io_error, "block {} of {} does not keep what is written to it", version.block,
                directory);
  }
}

runtime::Task<void> BlockStore::Impl::replace_damaged(BlockVersion version, Buffer content) {
  const UnderWay counted(*this);
  if (!fits(version, content)) {
    throw Error(Code::corrupt, "block {} of op {} cannot be replaced: its content does not fit it",
                version.block, version.op.value());
  }
  if (copying || applying || version.op > applied) {
    throw Error(Code::conflict, "block {} of op {} cannot be replaced as of op {}", version.block,
                version.op.value(), applied.value());
  }
  co_await or_stop(replace_checked(version, std::move(content)));
}

// The running fingerprint counts the version that was there before the damage: this one.
runtime::Task<void> BlockStore::Impl::replace_checked(BlockVersion version, Buffer content) {
  const BlockRange range{version.block, version.block + 1};
  std::vector<BlockRange> ranges(1, range);
  const RangeGuard::Writing writing = co_await guard.write(std::move(ranges));
  check_usable();
  Table::Pin page = co_await table.pin(Table::page_of(version.block));
  std::vector<Change> changes(1, Change{version.kind, range, std::move(content)});
  co_await write_changes(loop, *data, std::move(changes));
  page.set(version);
  cached.forget(version.block);
}

// ---- comparing ----------------------------------------------------------------------------------

// Changes of blocks that were counted already are counted by replace().
runtime::Task<bool> BlockStore::Impl::recount() {
  const UnderWay counted(*this);
  DATOM_CHECK(!recounting);
  if (!known || copying) {
    throw Error(Code::conflict, "{} is not as of one op", directory);
  }
  struct Ends {
    std::optional<Recount>& recount;
    ~Ends() { recount.reset(); }
  } ends{recounting};
  recounting.emplace();
  const auto add = [this](BlockNumber first, std::span<const RawEntry> entries) {
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const BlockVersion version = require_entry(first + i, entries[i]);
      recounting->fingerprint.add(version);
      if (version.kind != BlockKind::hole) ++recounting->blocks_used;
    }
    recounting->end = first + entries.size();
    return true;
  };
  // In steps within which a scan awaits nothing behind what it has left out.
  constexpr BlockNumber kStep = 64 * kEntriesPerPage;
  for (BlockNumber from = 0; from < table.blocks(); from += kStep) {
    const BlockNumber end = std::min(table.blocks(), from + kStep);
    co_await table.scan(from, end, add);
    recounting->end = end;
  }
  if (!known || copying) throw Error(Code::conflict, "{} is being copied to", directory);
  const bool as_counted = fingerprint.value() == recounting->fingerprint.value();
  fingerprint = recounting->fingerprint;
  blocks_used = recounting->blocks_used;
  if (as_counted) co_return true;
  history.clear();
  note_fingerprint();
  co_return false;
}

runtime::Task<std::vector<std::uint64_t>> BlockStore::Impl::digests(std::uint64_t page,
                                                                    std::size_t pages) {
  static_assert(kBlocksPerDigest == kEntriesPerPage);
  const UnderWay counted(*this);
  const std::uint64_t all = (table.blocks() + kEntriesPerPage - 1) / kEntriesPerPage;
  page = std::min(page, all);
  const std::uint64_t end = page + std::min<std::uint64_t>(pages, all - page);
  std::vector<std::uint64_t> digests(end - page);
  if (digests.empty()) co_return digests;
  const auto add = [&](BlockNumber first, std::span<const RawEntry> entries) {
    std::vector<std::uint64_t> words;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const auto version = sound_version(first + i, entries[i], newest_possible());
      if (version && version->kind == BlockKind::hole) continue;
      words.insert(words.end(), {first + i, entries[i].op_and_kind,
                                 version ? version->checksum : entries[i].sealed_checksum});
    }
    if (words.empty()) return true;
    digests[Table::page_of(first) - page] = checksum(std::as_bytes(std::span(words)));
    return true;
  };
  const BlockNumber last = std::min(table.blocks(), end * kEntriesPerPage);
  co_await table.scan(page * kEntriesPerPage, last, add);
  co_return digests;
}

}  // namespace datom::block_store

#include "block_store/table.h"

#include <algorithm>
#include <cstring>

#include "block_store/concurrently.h"
#include "common/check.h"
#include "common/checksum.h"
#include "common/error.h"

namespace datom::block_store {
namespace {

constexpr std::size_t kMinCachePages = 16;
// A scan of more pages than this reads around the cache, so as not to flush it.
constexpr std::uint64_t kScanThroughCache = 4;
constexpr std::uint64_t kScanPages = 256;  // read at once by a scan
constexpr std::size_t kWritePages = 256;   // written and synced at once by a checkpoint
constexpr std::size_t kConcurrentWrites = 4;

std::uint64_t pages_for(std::uint64_t blocks) {
  return (blocks + kEntriesPerPage - 1) / kEntriesPerPage;
}

// Binds an entry to its block: a flipped bit, or a page written to the wrong place, does not pass.
std::uint64_t seal(BlockNumber block, std::uint64_t op_and_kind) {
  std::array<std::byte, 16> bytes;
  store_le(bytes.data(), block);
  store_le(bytes.data() + 8, op_and_kind);
  return checksum(bytes);
}

void check_whole(std::uint64_t page, std::size_t found, std::size_t expected) {
  if (found == expected) return;
  throw Error(Code::corrupt, "block table ends early: {} bytes from page {} on, expected {}", found,
              page, expected);
}

}  // namespace

std::uint64_t table_file_bytes(std::uint64_t blocks) {
  return pages_for(blocks) * kBlockSize;
}

RawEntry encode_entry(const BlockVersion& version) {
  RawEntry entry;
  entry.op_and_kind = version.op.value() << 2 | static_cast<std::uint64_t>(version.kind);
  entry.sealed_checksum = version.checksum ^ seal(version.block, entry.op_and_kind);
  return entry;
}

std::optional<BlockVersion> decode_entry(BlockNumber block, const RawEntry& entry) {
  BlockVersion version;
  version.block = block;
  if (entry.never_written()) return version;
  const std::uint64_t kind = entry.op_and_kind & 3;
  if (kind > static_cast<std::uint64_t>(BlockKind::data)) return std::nullopt;
  version.op = Op(entry.op_and_kind >> 2);
  version.kind = static_cast<BlockKind>(kind);
  version.checksum = entry.sealed_checksum ^ seal(block, entry.op_and_kind);
  if (version.kind != BlockKind::data && version.checksum != 0) return std::nullopt;
  return version;
}

BlockVersion require_entry(BlockNumber block, const RawEntry& entry) {
  std::optional<BlockVersion> version = decode_entry(block, entry);
  if (!version) {
    throw Error(Code::corrupt, "table entry of block {} is damaged (op {}, kind {})", block,
                entry.op_and_kind >> 2, entry.op_and_kind & 3);
  }
  return *version;
}

// While it lives, others wait for the page instead of loading it too.
class Table::LoadMark {
 public:
  LoadMark(Table& table, std::uint64_t page) : table_(table), page_(page) {
    table_.loading_.insert(page_);
  }
  ~LoadMark() {
    table_.loading_.erase(page_);
    table_.loaded_.wake_all();
  }
  LoadMark(const LoadMark&) = delete;
  LoadMark& operator=(const LoadMark&) = delete;

 private:
  Table& table_;
  std::uint64_t page_;
};

// While it lives, no page of the range is evicted: what a scan reads from the file beside it is
// current wherever no page is in memory afterwards.
class Table::KeepMark {
 public:
  KeepMark(Table& table, PageRange pages)
      : table_(table), place_(table.kept_.insert(table.kept_.end(), pages)) {}
  ~KeepMark() { table_.kept_.erase(place_); }
  KeepMark(const KeepMark&) = delete;
  KeepMark& operator=(const KeepMark&) = delete;

 private:
  Table& table_;
  std::list<PageRange>::iterator place_;
};

Table::Table(runtime::Loop& loop, std::unique_ptr<runtime::File> file, std::uint64_t blocks,
             std::size_t cache_bytes)
    : loop_(loop),
      file_(std::move(file)),
      blocks_(blocks),
      cache_pages_(std::max(cache_bytes / kBlockSize, kMinCachePages)),
      loaded_(loop) {}

Table::~Table() = default;

Table::Pin::Pin(Table* table, std::uint64_t page, Slot* slot)
    : table_(table), page_(page), slot_(slot) {
  ++slot_->pins;
}

Table::Pin::Pin(Pin&& other) noexcept
    : table_(other.table_), page_(other.page_), slot_(std::exchange(other.slot_, nullptr)) {}

Table::Pin& Table::Pin::operator=(Pin&& other) noexcept {
  std::swap(table_, other.table_);
  std::swap(page_, other.page_);
  std::swap(slot_, other.slot_);
  return *this;
}

Table::Pin::~Pin() {
  if (slot_ != nullptr) --slot_->pins;
}

const RawEntry& Table::Pin::get(BlockNumber block) const {
  DATOM_CHECK(page_of(block) == page_);
  return slot_->page->entries[block % kEntriesPerPage];
}

void Table::Pin::prefetch(BlockNumber block) const {
  __builtin_prefetch(&slot_->page->entries[block % kEntriesPerPage], /*rw=*/1);
}

void Table::Pin::set(const BlockVersion& version) {
  DATOM_CHECK(page_of(version.block) == page_);
  table_->make_writable(page_, *slot_);
  slot_->page->entries[version.block % kEntriesPerPage] = encode_entry(version);
}

runtime::Task<Table::Pin> Table::pin(std::uint64_t page) {
  Slot* slot = find(page);
  if (slot == nullptr) slot = co_await load(page);
  co_return Pin(this, page, slot);
}

Table::Slot* Table::find(std::uint64_t page) {
  auto found = slots_.find(page);
  if (found == slots_.end()) return nullptr;
  if (found->second.clean) clean_.splice(clean_.begin(), clean_, *found->second.clean);
  return &found->second;
}

runtime::Task<Table::Slot*> Table::load(std::uint64_t page) {
  DATOM_CHECK(page < pages_for(blocks_));
  while (loading_.contains(page)) co_await loaded_.wait();
  Slot* slot = find(page);
  if (slot != nullptr) co_return slot;
  LoadMark mark(*this, page);
  auto content = std::make_shared<Page>();
  const MutableBytes bytes = std::as_writable_bytes(std::span(content->entries));
  const std::size_t found = co_await file_->read(page * kBlockSize, bytes);
  check_whole(page, found, bytes.size());
  co_return insert(page, std::move(content));
}

Table::Slot* Table::insert(std::uint64_t page, std::shared_ptr<Page> content) {
  Slot& slot = slots_[page];
  slot.page = std::move(content);
  mark_clean(page, slot);
  evict();
  return &slot;
}

void Table::mark_clean(std::uint64_t page, Slot& slot) {
  clean_.push_front(page);
  slot.clean = clean_.begin();
}

// Goes by the least recently used; one that must stay is taken as used just now.
void Table::evict() {
  for (std::size_t tries = clean_.size(); tries > 1 && clean_.size() > cache_pages_; --tries) {
    const std::uint64_t page = clean_.back();
    if (slots_.at(page).pins > 0 || kept(page)) {
      clean_.splice(clean_.begin(), clean_, std::prev(clean_.end()));
    } else {
      clean_.pop_back();
      slots_.erase(page);
    }
  }
}

bool Table::kept(std::uint64_t page) const {
  return std::any_of(kept_.begin(), kept_.end(), [page](const PageRange& range) {
    return page >= range.first && page < range.second;
  });
}

void Table::make_writable(std::uint64_t page, Slot& slot) {
  if (slot.dirty) return;
  if (slot.frozen) {
    slot.page = std::make_shared<Page>(*slot.page);
    slot.frozen = false;
  }
  if (slot.clean) clean_.erase(*slot.clean);
  slot.clean.reset();
  slot.dirty = true;
  dirty_.insert(page);
}

runtime::Task<void> Table::scan(BlockNumber first, BlockNumber end, Visit visit) {
  DATOM_CHECK(first <= end && end <= blocks_);
  bool more = true;
  while (more && first < end) {
    const std::uint64_t page = page_of(first);
    const std::uint64_t end_page = std::min(page + kScanPages, page_of(end - 1) + 1);
    const BlockNumber chunk_end = std::min(end, end_page * kEntriesPerPage);
    if (end_page - page <= kScanThroughCache) {
      more = co_await scan_cached(first, chunk_end, visit);
    } else {
      more = co_await scan_file(first, chunk_end, visit);
    }
    first = chunk_end;
  }
}

runtime::Task<bool> Table::scan_cached(BlockNumber first, BlockNumber end, const Visit& visit) {
  while (first < end) {
    const std::uint64_t page = page_of(first);
    const BlockNumber page_end = std::min(end, (page + 1) * kEntriesPerPage);
    const Pin pinned = co_await pin(page);
    if (!visit(first, std::span(&pinned.get(first), page_end - first))) co_return false;
    first = page_end;
  }
  co_return true;
}

bool Table::all_cached(PageRange pages) const {
  for (std::uint64_t page = pages.first; page < pages.second; ++page) {
    if (!slots_.contains(page)) return false;
  }
  return true;
}

// The page as it is in memory, else as it was read; null where nothing was ever written.
std::shared_ptr<const Table::Page> Table::current_page(std::uint64_t page, const Buffer& read,
                                                       std::size_t index) const {
  auto found = slots_.find(page);
  if (found != slots_.end()) return found->second.page;
  const ByteView view = read.view().subspan(index * kBlockSize, kBlockSize);
  if (all_zero(view)) return nullptr;
  auto content = std::make_shared<Page>();
  std::memcpy(content->entries.data(), view.data(), view.size());
  return content;
}

runtime::Task<bool> Table::scan_file(BlockNumber first, BlockNumber end, const Visit& visit) {
  const PageRange pages{page_of(first), page_of(end - 1) + 1};
  KeepMark keep(*this, pages);
  Buffer bytes;
  if (!all_cached(pages)) {
    bytes = Buffer::zeroed((pages.second - pages.first) * kBlockSize);
    const std::size_t found = co_await file_->read(pages.first * kBlockSize, bytes.mutable_view());
    check_whole(pages.first, found, bytes.size());
  }
  while (first < end) {
    const std::uint64_t page = page_of(first);
    const BlockNumber page_end = std::min(end, (page + 1) * kEntriesPerPage);
    std::shared_ptr<const Page> content = current_page(page, bytes, page - pages.first);
    if (content != nullptr) {
      const RawEntry* entries = content->entries.data() + first % kEntriesPerPage;
      if (!visit(first, std::span(entries, page_end - first))) co_return false;
    }
    first = page_end;
  }
  co_return true;
}

Table::Snapshot Table::freeze() {
  Snapshot snapshot;
  for (std::uint64_t page : dirty_) {
    Slot& slot = slots_.at(page);
    slot.dirty = false;
    slot.frozen = true;
    snapshot.pages.emplace_back(page, slot.page);
  }
  dirty_.clear();
  return snapshot;
}

runtime::Task<void> Table::write_run(std::uint64_t first_page, Buffer bytes) {
  co_await file_->write(first_page * kBlockSize, bytes.view());
}

runtime::Task<void> Table::write_some(std::span<const SnapshotPage> pages) {
  // Runs of neighbouring pages, as [first, end) in `pages`.
  std::vector<std::pair<std::size_t, std::size_t>> runs;
  for (std::size_t i = 0; i < pages.size(); ++i) {
    const bool follows = !runs.empty() && pages[i].first == pages[i - 1].first + 1;
    if (!follows) runs.emplace_back(i, i);
    runs.back().second = i + 1;
  }
  const auto write_one = [this, &runs, pages](std::size_t index) {
    const auto [begin, end] = runs[index];
    Buffer bytes = Buffer::allocate((end - begin) * kBlockSize);
    for (std::size_t i = begin; i < end; ++i) {
      std::memcpy(bytes.mutable_data() + (i - begin) * kBlockSize, pages[i].second->entries.data(),
                  kBlockSize);
    }
    return write_run(pages[begin].first, std::move(bytes));
  };
  co_await run_concurrently(loop_, runs.size(), kConcurrentWrites, write_one);
}

runtime::Task<void> Table::write(Snapshot snapshot) {
  // Little by little: a journal on the same disk waits behind what is synced at once.
  const std::span<const SnapshotPage> all(snapshot.pages);
  for (std::size_t at = 0; at < all.size(); at += kWritePages) {
    co_await write_some(all.subspan(at, std::min(kWritePages, all.size() - at)));
    co_await file_->sync();
  }
  for (const auto& [page, content] : snapshot.pages) {
    Slot& slot = slots_.at(page);
    if (!slot.frozen) continue;  // changed since: dirty again
    slot.frozen = false;
    mark_clean(page, slot);
  }
  evict();
}

}  // namespace datom::block_store

#include "runtime/memory_inode.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/check.h"

namespace datom::runtime {
namespace {

constexpr std::size_t kSector = 512;
constexpr std::size_t kSectors = kBlockSize / kSector;
constexpr std::uint8_t kAllSectors = 0xff;

// Calls visit(page number, offset in the page, length in the page, offset in the range).
template <typename Visit>
void for_each_piece(std::uint64_t offset, std::uint64_t length, Visit visit) {
  std::uint64_t done = 0;
  while (done < length) {
    const std::uint64_t at = offset + done;
    const std::size_t inside = at % kBlockSize;
    const std::size_t count = std::min<std::uint64_t>(length - done, kBlockSize - inside);
    visit(at / kBlockSize, inside, count, done);
    done += count;
  }
}

// The sectors that bytes [from, from + length) of a page touch. REQUIRES: length > 0.
std::uint8_t sectors_of(std::size_t from, std::size_t length) {
  const std::size_t first = from / kSector;
  const std::size_t end = (from + length - 1) / kSector + 1;
  return static_cast<std::uint8_t>((1u << end) - (1u << first));
}

std::uint64_t end_of_page(std::uint64_t offset) {
  return (offset + kBlockSize - 1) / kBlockSize * kBlockSize;
}

}  // namespace

std::uint64_t MemoryInode::growth(std::uint64_t offset, std::uint64_t length) const {
  std::uint64_t pages = 0;
  for_each_piece(offset, length, [&](std::uint64_t number, std::size_t, std::size_t, std::size_t) {
    const auto found = pages_.find(number);
    if (found == pages_.end() || !found->second.allocated) ++pages;
  });
  return pages * kBlockSize;
}

std::size_t MemoryInode::read(std::uint64_t offset, MutableBytes into) const {
  if (offset >= size_) return 0;
  const std::size_t count = std::min<std::uint64_t>(into.size(), size_ - offset);
  for_each_piece(
      offset, count,
      [&](std::uint64_t number, std::size_t inside, std::size_t length, std::size_t done) {
        const auto found = pages_.find(number);
        std::byte* to = into.data() + done;
        if (found == pages_.end()) {
          std::memset(to, 0, length);
        } else {
          std::memcpy(to, found->second.now.data() + inside, length);
        }
      });
  return count;
}

MemoryInode::Page& MemoryInode::page_at(std::uint64_t number) {
  return pages_[number];
}

void MemoryInode::set_allocated(Page& page, bool allocated) {
  if (page.allocated == allocated) return;
  page.allocated = allocated;
  allocated_pages_ += allocated ? 1 : -1;
}

// The page, ready for a change of the given bytes.
MemoryInode::Page& MemoryInode::dirty_page(std::uint64_t number, std::size_t from,
                                           std::size_t length) {
  Page& page = page_at(number);
  if (page.durable == nullptr) page.durable = std::make_unique<Bytes>(page.now);
  const Sectors sectors = sectors_of(from, length);
  page.dirty |= sectors;
  page.lost = static_cast<Sectors>(page.lost & ~sectors);
  dirty_pages_.insert(number);
  return page;
}

void MemoryInode::write(std::uint64_t offset, ByteView from) {
  for_each_piece(
      offset, from.size(),
      [&](std::uint64_t number, std::size_t inside, std::size_t length, std::size_t done) {
        Page& page = dirty_page(number, inside, length);
        std::memcpy(page.now.data() + inside, from.data() + done, length);
        set_allocated(page, true);
      });
  if (offset + from.size() > size_ && !from.empty()) {
    size_ = offset + from.size();
    size_lost_ = false;
  }
}

// Pages that are not there are zero already.
void MemoryInode::zero(std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t end = offset + length;
  auto next = pages_.lower_bound(offset / kBlockSize);
  while (next != pages_.end() && next->first * kBlockSize < end) {
    const std::uint64_t number = next->first;
    const std::uint64_t start = number * kBlockSize;
    const std::size_t from = offset > start ? offset - start : 0;
    const std::size_t to = std::min<std::uint64_t>(end - start, kBlockSize);
    Page& page = dirty_page(number, from, to - from);
    std::memset(page.now.data() + from, 0, to - from);
    if (to - from == kBlockSize) set_allocated(page, false);
    ++next;
  }
}

void MemoryInode::resize(std::uint64_t size) {
  if (size == size_) return;
  if (size < size_) {
    zero(size, end_of_page(size_) - size);
    if (size < durable_size_) truncated_to_ = std::min(size, truncated_to_.value_or(size));
  }
  size_ = size;
  size_lost_ = false;
}

void MemoryInode::allocate(std::uint64_t offset, std::uint64_t length) {
  for_each_piece(offset, length, [&](std::uint64_t number, std::size_t, std::size_t, std::size_t) {
    set_allocated(page_at(number), true);
  });
  if (offset + length > size_) resize(offset + length);
}

void MemoryInode::punch_hole(std::uint64_t offset, std::uint64_t length) {
  if (offset < size_) zero(offset, std::min(length, size_ - offset));
}

void MemoryInode::drop_if_empty(std::uint64_t number) {
  const auto found = pages_.find(number);
  if (found != pages_.end() && found->second.dirty == 0 && !found->second.allocated) {
    pages_.erase(found);
  }
}

void MemoryInode::sync_page(std::uint64_t number, Sectors which) {
  const auto found = pages_.find(number);
  if (found == pages_.end() || found->second.dirty == 0) return;
  Page& page = found->second;
  which = static_cast<Sectors>(which & page.dirty & ~page.lost);
  for (std::size_t sector = 0; sector < kSectors; ++sector) {
    if ((which >> sector & 1) == 0) continue;
    std::memcpy(page.durable->data() + sector * kSector, page.now.data() + sector * kSector,
                kSector);
  }
  page.dirty = static_cast<Sectors>(page.dirty & ~which);
  if (page.dirty != 0) return;
  page.durable.reset();
  dirty_pages_.erase(number);
  drop_if_empty(number);
}

// What lay beyond cannot come back any more.
void MemoryInode::commit_truncation() {
  if (!truncated_to_ || size_lost_) return;
  const std::uint64_t size = *std::exchange(truncated_to_, std::nullopt);
  for (auto number = dirty_pages_.lower_bound(size / kBlockSize); number != dirty_pages_.end();
       ++number) {
    const std::uint64_t start = *number * kBlockSize;
    const std::size_t from = size > start ? size - start : 0;
    std::memset(pages_[*number].durable->data() + from, 0, kBlockSize - from);
  }
  durable_size_ = size;
}

// All that lay beyond is there again, and nothing of what was written there since.
void MemoryInode::undo_truncation() {
  const std::uint64_t size = *std::exchange(truncated_to_, std::nullopt);
  for (auto number = dirty_pages_.lower_bound(size / kBlockSize); number != dirty_pages_.end();
       ++number) {
    const std::uint64_t start = *number * kBlockSize;
    const std::size_t from = size > start ? size - start : 0;
    Page& page = pages_[*number];
    std::memcpy(page.now.data() + from, page.durable->data() + from, kBlockSize - from);
    set_allocated(page, true);
  }
  size_ = durable_size_;
}

void MemoryInode::sync() {
  commit_truncation();
  const std::set<std::uint64_t> pages = dirty_pages_;
  for (std::uint64_t number : pages) sync_page(number, kAllSectors);
  if (!size_lost_) durable_size_ = size_;
}

void MemoryInode::sync_range(std::uint64_t offset, std::uint64_t length) {
  commit_truncation();
  for_each_piece(offset, length,
                 [&](std::uint64_t number, std::size_t inside, std::size_t count, std::size_t) {
                   sync_page(number, sectors_of(inside, count));
                 });
  if (!size_lost_) durable_size_ = std::max(durable_size_, std::min(size_, offset + length));
}

void MemoryInode::fail_sync() {
  for (std::uint64_t number : dirty_pages_) pages_[number].lost = pages_[number].dirty;
  size_lost_ = size_ != durable_size_ || truncated_to_.has_value();
}

void MemoryInode::crash(Random& random) {
  size_lost_ = false;
  if (truncated_to_ && random.below(2) == 0) {
    undo_truncation();
  } else {
    commit_truncation();
  }
  for (std::uint64_t number : dirty_pages_) crash_page(pages_[number], random);
  const std::set<std::uint64_t> pages = std::exchange(dirty_pages_, {});
  for (std::uint64_t number : pages) drop_if_empty(number);
  const std::uint64_t before = end_of_page(std::max(size_, durable_size_));
  if (random.below(2) == 0) size_ = durable_size_;
  zero(size_, before - size_);
  sync();
}

void MemoryInode::crash_page(Page& page, Random& random) {
  for (std::size_t sector = 0; sector < kSectors; ++sector) {
    if ((page.dirty >> sector & 1) == 0 || random.below(2) == 0) continue;
    std::memcpy(page.now.data() + sector * kSector, page.durable->data() + sector * kSector,
                kSector);
    set_allocated(page, true);  // also where a hole did not survive
  }
  page.dirty = 0;
  page.lost = 0;
  page.durable.reset();
}

void MemoryInode::flip_bit(std::uint64_t byte, int bit) {
  DATOM_CHECK(byte < size_ && bit >= 0 && bit < 8);
  Page& page = page_at(byte / kBlockSize);
  const std::size_t inside = byte % kBlockSize;
  const std::byte mask{static_cast<unsigned char>(1u << bit)};
  page.now[inside] ^= mask;
  if (page.durable != nullptr) (*page.durable)[inside] ^= mask;
  set_allocated(page, true);
}

}  // namespace datom::runtime

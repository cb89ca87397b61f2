#include "common/page_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <new>

#include "common/bytes.h"
#include "common/check.h"

namespace datom {
namespace {

constexpr std::size_t kHugePage = 2 << 20;
constexpr std::size_t kRegionBytes = 16 << 20;

// At a huge page's boundary.
std::byte* map_region(std::size_t bytes) {
  void* const mapped = ::mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  std::byte* const from = static_cast<std::byte*>(mapped);
  const std::size_t before = (kHugePage - reinterpret_cast<std::uintptr_t>(from)) % kHugePage;
  if (before > 0) ::munmap(from, before);
  ::munmap(from + before + bytes, kHugePage - before);
  // Where the system has none, ordinary pages do.
  ::madvise(from + before, bytes, MADV_HUGEPAGE);
  return from + before;
}

}  // namespace

PageMemory& PageMemory::shared() {
  static PageMemory* const memory = new PageMemory;
  return *memory;
}

PageMemory::~PageMemory() {
  for (const auto& [begin, region] : regions_) {
    DATOM_CHECK(is_unused(region));
    ::munmap(begin, region.bytes);
  }
}

// From the lowest place where it fits, so that what is used stays together.
std::byte* PageMemory::take(std::size_t bytes) {
  DATOM_CHECK(bytes > 0 && bytes % kBlockSize == 0);
  const std::lock_guard lock(mutex_);
  for (auto region = regions_.begin(); region != regions_.end(); ++region) {
    if (std::byte* const memory = take_from(region, bytes)) return memory;
  }
  return take_from(add_region(bytes), bytes);
}

std::byte* PageMemory::take_from(Regions::iterator region, std::size_t bytes) {
  auto& free = region->second.free;
  const auto place = std::find_if(free.begin(), free.end(),
                                  [bytes](const auto& range) { return range.second >= bytes; });
  if (place == free.end()) return nullptr;
  const auto [offset, length] = *place;
  free.erase(place);
  if (length > bytes) free.emplace(offset + bytes, length - bytes);
  return region->first + offset;
}

PageMemory::Regions::iterator PageMemory::add_region(std::size_t at_least) {
  const std::size_t whole = (at_least + kHugePage - 1) / kHugePage * kHugePage;
  Region region;
  region.bytes = std::max(whole, kRegionBytes);
  region.free.emplace(0, region.bytes);
  std::byte* const begin = map_region(region.bytes);
  return regions_.emplace(begin, std::move(region)).first;
}

void PageMemory::give_back(std::byte* memory, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto region = std::prev(regions_.upper_bound(memory));
  auto& free = region->second.free;
  const auto offset = static_cast<std::size_t>(memory - region->first);
  auto place = free.emplace(offset, bytes).first;
  const auto after = std::next(place);
  if (after != free.end() && after->first == offset + bytes) {
    place->second += after->second;
    free.erase(after);
  }
  if (place != free.begin()) {
    const auto before = std::prev(place);
    if (before->first + before->second == offset) {
      before->second += place->second;
      free.erase(place);
    }
  }
  drop_if_spare(region);
}

bool PageMemory::is_unused(const Region& region) {
  return region.free.size() == 1 && region.free.begin()->second == region.bytes;
}

// One of the usual size is kept for what comes next.
void PageMemory::drop_if_spare(Regions::iterator region) {
  if (!is_unused(region->second)) return;
  const bool other_is_unused = std::any_of(regions_.begin(), regions_.end(), [&](const auto& it) {
    return it.first != region->first && is_unused(it.second);
  });
  if (!other_is_unused && region->second.bytes == kRegionBytes) return;
  ::munmap(region->first, region->second.bytes);
  regions_.erase(region);
}

std::size_t PageMemory::mapped() const {
  const std::lock_guard lock(mutex_);
  std::size_t bytes = 0;
  for (const auto& [begin, region] : regions_) bytes += region.bytes;
  return bytes;
}

}  // namespace datom

#include "block_store/block_cache.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/check.h"

namespace datom::block_store {
namespace {

constexpr std::size_t kBlocksPerChunk = 256;
constexpr std::uint8_t kMostUses = 3;
// Slots that one eviction looks at: if all of them were used lately, the one used least goes.
constexpr std::size_t kMostLooks = 32;

}  // namespace

// ---- the cache ----------------------------------------------------------------------------------

BlockCache::~BlockCache() {
  DATOM_CHECK(used_ == 0);
}

void BlockCache::resize(std::size_t bytes) {
  limit_ = std::min<std::size_t>(bytes / kBlockSize, CachedBlocks::kNone);
  if (slots_.size() <= limit_) return;
  for (std::size_t i = limit_; i < slots_.size(); ++i) {
    if (slots_[i].owner == nullptr) continue;
    slots_[i].owner->erase(slots_[i].block);
    --used_;
  }
  slots_.resize(limit_);
  chunks_.resize((limit_ + kBlocksPerChunk - 1) / kBlocksPerChunk);
  std::erase_if(free_, [this](SlotNumber slot) { return slot >= limit_; });
  hand_ = 0;
}

MutableBytes BlockCache::content(SlotNumber slot) {
  return chunks_[slot / kBlocksPerChunk].mutable_view().subspan(slot % kBlocksPerChunk * kBlockSize,
                                                                kBlockSize);
}

std::optional<BlockCache::SlotNumber> BlockCache::take(CachedBlocks& owner, BlockNumber block) {
  if (limit_ == 0) return std::nullopt;
  SlotNumber slot = 0;
  if (!free_.empty()) {
    slot = free_.back();
    free_.pop_back();
  } else if (slots_.size() < limit_) {
    slot = static_cast<SlotNumber>(slots_.size());
    if (slot / kBlocksPerChunk == chunks_.size()) {
      chunks_.push_back(Buffer::allocate(kBlocksPerChunk * kBlockSize));
    }
    slots_.emplace_back();
  } else {
    slot = evict();
  }
  slots_[slot] = {&owner, block, 0};
  ++used_;
  return slot;
}

// REQUIRES: all slots are in use.
BlockCache::SlotNumber BlockCache::evict() {
  SlotNumber victim = hand_;
  for (std::size_t looks = 0; looks < kMostLooks; ++looks) {
    const SlotNumber here = hand_;
    hand_ = static_cast<SlotNumber>((hand_ + 1) % slots_.size());
    Slot& slot = slots_[here];
    if (slot.uses < slots_[victim].uses || looks == 0) victim = here;
    if (slot.uses == 0) break;
    --slot.uses;
  }
  slots_[victim].owner->erase(slots_[victim].block);
  --used_;
  return victim;
}

void BlockCache::give_back(SlotNumber slot) {
  slots_[slot] = {};
  free_.push_back(slot);
  --used_;
}

void BlockCache::note_use(SlotNumber slot) {
  std::uint8_t& uses = slots_[slot].uses;
  uses = std::min<std::uint8_t>(uses + 1, kMostUses);
}

// ---- those of a store ---------------------------------------------------------------------------

// In order: which slots come to be used next does not depend on how a map is laid out.
CachedBlocks::~CachedBlocks() {
  std::vector<std::uint64_t> numbers;
  for (const auto& [number, page] : pages_) numbers.push_back(number);
  std::sort(numbers.begin(), numbers.end());
  for (const std::uint64_t number : numbers) {
    for (const SlotNumber slot : pages_.at(number).slots) {
      if (slot != kNone) cache_->give_back(slot);
    }
  }
}

CachedBlocks::SlotNumber CachedBlocks::find(BlockNumber block) const {
  const auto page = pages_.find(block / kBlocksPerPage);
  return page == pages_.end() ? kNone : page->second.slots[block % kBlocksPerPage];
}

bool CachedBlocks::copy(BlockNumber block, MutableBytes into) {
  const SlotNumber slot = find(block);
  if (slot == kNone) return false;
  cache_->note_use(slot);
  std::memcpy(into.data(), cache_->content(slot).data(), kBlockSize);
  return true;
}

void CachedBlocks::put(BlockNumber block, ByteView content) {
  DATOM_CHECK(content.size() == kBlockSize);
  if (cache_ == nullptr) return;
  SlotNumber slot = find(block);
  if (slot == kNone) {
    const std::optional<SlotNumber> taken = cache_->take(*this, block);
    if (!taken) return;
    slot = *taken;
    Page& page = pages_[block / kBlocksPerPage];
    page.slots[block % kBlocksPerPage] = slot;
    ++page.used;
  }
  std::memcpy(cache_->content(slot).data(), content.data(), kBlockSize);
}

void CachedBlocks::update(BlockNumber block, ByteView content) {
  if (find(block) != kNone) put(block, content);
}

void CachedBlocks::forget(BlockNumber block) {
  const SlotNumber slot = find(block);
  if (slot == kNone) return;
  erase(block);
  cache_->give_back(slot);
}

void CachedBlocks::erase(BlockNumber block) {
  const auto page = pages_.find(block / kBlocksPerPage);
  page->second.slots[block % kBlocksPerPage] = kNone;
  if (--page->second.used == 0) pages_.erase(page);
}

}  // namespace datom::block_store

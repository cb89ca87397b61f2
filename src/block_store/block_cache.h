// Blocks kept in memory, of all the stores of a loop together, within a bound. What is here is what
// the store's table says of the block, verified or computed when it came in: a block found here was
// not read from a disk, and is not verified again.
//
// Evicts by a clock whose hand spares a block as often as it was asked for lately: blocks that are
// asked for again outlive those that were read or written once. Belongs to one loop.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "block_store/range_guard.h"
#include "common/bytes.h"

namespace datom::block_store {

class CachedBlocks;

class BlockCache {
 public:
  // Of content; what it takes to find it comes on top, about one part in a hundred. 0: keeps
  // nothing. Memory is taken as blocks come.
  explicit BlockCache(std::size_t bytes) { resize(bytes); }
  // Every CachedBlocks is gone.
  ~BlockCache();
  BlockCache(const BlockCache&) = delete;
  BlockCache& operator=(const BlockCache&) = delete;

  // What is too much goes at once.
  void resize(std::size_t bytes);
  std::size_t bytes_used() const { return used_ * kBlockSize; }

 private:
  friend CachedBlocks;
  using SlotNumber = std::uint32_t;

  // A place for a block.
  struct Slot {
    CachedBlocks* owner = nullptr;  // nullptr: free
    BlockNumber block = 0;
    std::uint8_t uses = 0;  // since the hand was here, at most kMostUses
  };

  MutableBytes content(SlotNumber slot);
  // nullopt: none may be kept.
  std::optional<SlotNumber> take(CachedBlocks& owner, BlockNumber block);
  SlotNumber evict();
  void give_back(SlotNumber slot);
  void note_use(SlotNumber slot);

  std::size_t limit_ = 0;       // slots
  std::vector<Slot> slots_;     // grows up to limit_
  std::vector<Buffer> chunks_;  // their content
  std::vector<SlotNumber> free_;
  std::size_t used_ = 0;  // slots
  SlotNumber hand_ = 0;
};

// Those of one store.
class CachedBlocks {
 public:
  // Without a cache it keeps nothing. The cache outlives it.
  explicit CachedBlocks(BlockCache* cache) : cache_(cache) {}
  ~CachedBlocks();
  CachedBlocks(const CachedBlocks&) = delete;
  CachedBlocks& operator=(const CachedBlocks&) = delete;

  // Copies a block; false if it is not here. REQUIRES: `into` has kBlockSize.
  bool copy(BlockNumber block, MutableBytes into);
  // Keeps the content of a block, if any may be kept: instead of what is here, if anything is.
  void put(BlockNumber block, ByteView content);
  // The same, but only instead of what is here.
  void update(BlockNumber block, ByteView content);
  void forget(BlockNumber block);

 private:
  friend BlockCache;
  using SlotNumber = BlockCache::SlotNumber;
  static constexpr SlotNumber kNone = ~SlotNumber{0};
  static constexpr std::size_t kBlocksPerPage = 256;

  // Where neighbouring blocks are.
  struct Page {
    Page() { slots.fill(kNone); }
    std::array<SlotNumber, kBlocksPerPage> slots;
    std::size_t used = 0;
  };

  SlotNumber find(BlockNumber block) const;
  void erase(BlockNumber block);  // from the pages; the slot is the cache's

  BlockCache* cache_;
  std::unordered_map<std::uint64_t, Page> pages_;  // by block / kBlocksPerPage
};

}  // namespace datom::block_store

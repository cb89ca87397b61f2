#include "block_store/block_cache.h"

#include <gmock/gmock.h>

#include <string>

#include "block_store/store_fixture.h"
#include "runtime/faulty_files.h"

namespace datom::block_store {
namespace {

const std::string kData = std::string(StoreWorld::kDirectory) + "/layers/0/data";

Buffer filled(unsigned char with) {
  Buffer buffer = Buffer::allocate(kBlockSize);
  std::memset(buffer.mutable_data(), with, kBlockSize);
  return buffer;
}

// The byte that a block is filled with; -1: it is not there.
int found(CachedBlocks& blocks, BlockNumber block) {
  Buffer into = filled(0);
  if (!blocks.copy(block, into.mutable_view())) return -1;
  EXPECT_EQ(into.data()[0], into.data()[kBlockSize - 1]);
  return std::to_integer<int>(into.data()[0]);
}

bool holds(CachedBlocks& blocks, BlockRange range) {
  for (BlockNumber block = range.first; block < range.end; ++block) {
    if (found(blocks, block) < 0) return false;
  }
  return true;
}

TEST(BlockCache, KeepsTheLastContentOfABlockOfEachStore) {
  BlockCache cache(16 * kBlockSize);
  CachedBlocks one(&cache);
  CachedBlocks other(&cache);
  one.put(7, filled(1).view());
  other.put(7, filled(2).view());
  one.put(7, filled(3).view());
  EXPECT_EQ(found(one, 7), 3);
  EXPECT_EQ(found(other, 7), 2);
  EXPECT_EQ(found(one, 8), -1);
  one.forget(7);
  one.forget(7);
  EXPECT_EQ(found(one, 7), -1);
  EXPECT_EQ(found(other, 7), 2);
  EXPECT_EQ(cache.bytes_used(), kBlockSize);
}

TEST(BlockCache, UpdatesOnlyWhatItHas) {
  BlockCache cache(16 * kBlockSize);
  CachedBlocks blocks(&cache);
  blocks.update(1, filled(1).view());
  EXPECT_EQ(found(blocks, 1), -1);
  blocks.put(1, filled(1).view());
  blocks.update(1, filled(2).view());
  EXPECT_EQ(found(blocks, 1), 2);
}

TEST(BlockCache, StaysWithinItsBoundOverAllStores) {
  BlockCache cache(10 * kBlockSize);
  CachedBlocks one(&cache);
  CachedBlocks other(&cache);
  for (BlockNumber block = 0; block < 1000; ++block) {
    one.put(block, filled(1).view());
    other.put(block * 300, filled(2).view());
    ASSERT_LE(cache.bytes_used(), 10 * kBlockSize);
  }
  EXPECT_EQ(cache.bytes_used(), 10 * kBlockSize);
  EXPECT_TRUE(holds(one, {995, 1000}));
  EXPECT_FALSE(holds(one, {990, 1000}));
}

TEST(BlockCache, BlocksAskedForAgainOutliveAScan) {
  constexpr BlockNumber kAll = 1000;
  constexpr BlockNumber kAskedFor = 300;
  BlockCache cache(kAll * kBlockSize);
  CachedBlocks blocks(&cache);
  for (BlockNumber block = 0; block < kAll; ++block) blocks.put(block, filled(1).view());
  for (BlockNumber block = 0; block < kAskedFor; ++block) EXPECT_EQ(found(blocks, block), 1);
  for (BlockNumber block = kAll; block < 2 * kAll - kAskedFor; ++block) {
    blocks.put(block, filled(2).view());
  }
  EXPECT_TRUE(holds(blocks, {kAll, 2 * kAll - kAskedFor}));
  std::uint64_t left = 0;
  for (BlockNumber block = 0; block < kAskedFor; ++block) left += found(blocks, block) == 1 ? 1 : 0;
  EXPECT_GE(left, kAskedFor * 9 / 10);
}

// One eviction is a bounded piece of work also where every block was used again and again.
TEST(BlockCache, EvictsAlsoWhereEverythingIsUsed) {
  BlockCache cache(500 * kBlockSize);
  CachedBlocks blocks(&cache);
  for (int round = 0; round < 4; ++round) {
    for (BlockNumber block = 0; block < 500; ++block) {
      if (found(blocks, block) < 0) blocks.put(block, filled(1).view());
    }
  }
  blocks.put(1000, filled(2).view());
  EXPECT_EQ(found(blocks, 1000), 2);
  EXPECT_EQ(cache.bytes_used(), 500 * kBlockSize);
}

TEST(BlockCache, GivesUpWhatAResizeLeavesNoRoomFor) {
  BlockCache cache(600 * kBlockSize);
  CachedBlocks blocks(&cache);
  for (BlockNumber block = 0; block < 600; ++block) blocks.put(block, filled(1).view());
  blocks.forget(3);
  blocks.forget(599);
  cache.resize(100 * kBlockSize);
  EXPECT_EQ(cache.bytes_used(), 99 * kBlockSize);
  for (BlockNumber block = 1000; block < 1600; ++block) blocks.put(block, filled(2).view());
  EXPECT_EQ(cache.bytes_used(), 100 * kBlockSize);
  cache.resize(0);
  EXPECT_EQ(cache.bytes_used(), 0u);
  blocks.put(1, filled(3).view());
  EXPECT_EQ(found(blocks, 1), -1);
  cache.resize(kBlockSize);
  blocks.put(1, filled(3).view());
  EXPECT_EQ(found(blocks, 1), 3);
}

TEST(BlockCache, WhatAStoreLeavesIsThereForOthers) {
  BlockCache cache(4 * kBlockSize);
  {
    CachedBlocks gone(&cache);
    for (BlockNumber block = 0; block < 4; ++block) gone.put(block * 1000, filled(1).view());
  }
  EXPECT_EQ(cache.bytes_used(), 0u);
  CachedBlocks next(&cache);
  for (BlockNumber block = 0; block < 4; ++block) next.put(block, filled(2).view());
  EXPECT_TRUE(holds(next, {0, 4}));
}

// ---- in a store ---------------------------------------------------------------------------------

class Cached : public ::testing::Test {
 protected:
  // Damages the block on the disk: what is read from there is noticed.
  void damage(BlockNumber block) { world_.disk.flip_bit(kData, block * kBlockSize + 9, 1); }

  BlockCache cache_{64 * kBlockSize};
  StoreWorld world_{1000, {.cache = &cache_}};
};

TEST_F(Cached, ABlockIsReadFromTheDiskOnce) {
  world_.apply(write_entry(1, 10, 4));
  EXPECT_EQ(cache_.bytes_used(), 0u);
  EXPECT_EQ(world_.op_read(11, 1), 1u);
  damage(11);
  EXPECT_EQ(world_.op_read(11, 1), 1u);
  EXPECT_EQ(world_.store->bytes_from_disk(), kBlockSize);
  damage(12);
  EXPECT_EQ(code_of([&] { world_.read(12, 1); }), Code::corrupt);
}

TEST_F(Cached, AReadOfWhatIsThereInPartVerifiesTheRest) {
  world_.apply(write_entry(1, 10, 4));
  world_.read(11, 1);
  damage(13);
  EXPECT_EQ(code_of([&] { world_.read(10, 4); }), Code::corrupt);
  damage(13);  // undone
  const Buffer content = world_.read(9, 6);
  for (BlockNumber block = 10; block < 14; ++block) {
    const Buffer expected = content_of(1, block);
    EXPECT_EQ(std::memcmp(content.data() + (block - 9) * kBlockSize, expected.data(), kBlockSize),
              0);
  }
  EXPECT_TRUE(all_zero(content.view().subspan(0, kBlockSize)));
  EXPECT_TRUE(all_zero(content.view().subspan(5 * kBlockSize, kBlockSize)));
}

TEST_F(Cached, WhoServesKeepsWhatIsWritten) {
  world_.store->cache_writes(true);
  world_.apply(write_entry(1, 10, 4));
  damage(10);
  EXPECT_EQ(world_.op_read(10, 1), 1u);
}

TEST_F(Cached, EveryChangeIsSeen) {
  for (const bool writes : {false, true}) {
    world_.store->cache_writes(writes);
    const std::uint64_t op = world_.store->applied_op().value();
    world_.apply(write_entry(op + 1, 10, 4));
    EXPECT_EQ(world_.op_read(10, op + 4), op + 1);
    world_.apply(write_entry(op + 2, 10, 1));
    EXPECT_EQ(world_.op_read(10, op + 4), op + 2);
    world_.read(11, 1);
    world_.apply(trim_entry(op + 3, 10, 1));
    EXPECT_EQ(world_.op_read(10, op + 4), 0u);
    world_.apply(zero_entry(op + 4, 11, 1));
    EXPECT_EQ(world_.op_read(11, op + 4), 0u);
    EXPECT_EQ(world_.op_read(12, op + 4), op + 1);
  }
}

TEST_F(Cached, ACheckReadsTheDisk) {
  world_.store->cache_writes(true);
  world_.apply(write_entry(1, 10, 4));
  damage(12);
  const CheckResult result = run(world_.loop, world_.store->check(0, 1000, 100));
  ASSERT_EQ(result.damaged.size(), 1u);
  EXPECT_EQ(result.damaged[0].version.block, 12u);
}

TEST_F(Cached, ACopiedBlockTakesThePlaceOfWhatWasThere) {
  StoreWorld leader(1000);
  leader.apply(write_entry(1, 10, 4));
  world_.apply(write_entry(1, 10, 4));
  world_.read(10, 4);
  leader.apply(write_entry(2, 10, 1));
  leader.apply(trim_entry(3, 11, 1));
  copy_blocks(leader, world_);
  EXPECT_EQ(world_.op_read(10, 3), 2u);
  EXPECT_EQ(world_.op_read(11, 3), 0u);
  EXPECT_EQ(world_.op_read(12, 3), 1u);
}

TEST_F(Cached, AnotherIncarnationFindsNothing) {
  world_.store->cache_writes(true);
  world_.apply(write_entry(1, 10, 4));
  world_.reopen();
  EXPECT_EQ(cache_.bytes_used(), 0u);
}

}  // namespace
}  // namespace datom::block_store

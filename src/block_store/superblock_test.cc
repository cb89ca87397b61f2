#include "block_store/superblock.h"

#include <gmock/gmock.h>

#include "block_store/store_fixture.h"
#include "common/checksum.h"

namespace datom::block_store {
namespace {

using ::testing::AnyOf;

constexpr const char* kPath = "/superblock";

Superblock example(std::uint64_t promised) {
  Superblock superblock;
  superblock.size = 10 * kBlockSize;
  superblock.state.volume = Uuid::from_random(1, 2);
  superblock.state.replica = Uuid::from_random(3, 4);
  superblock.state.promised = Term(promised);
  superblock.state.config_epoch = 5;
  superblock.state.base_complete = false;
  superblock.state.copy_from = Op(6);
  superblock.state.sessions = std::string(kMaxSessionBytes, 's');
  superblock.checkpoint = Op(7);
  superblock.horizon = Op(8);
  superblock.fingerprint = 9;
  superblock.blocks_used = 10;
  return superblock;
}

class SuperblockFiles : public ::testing::Test {
 protected:
  SuperblockFiles() : files_(runtime::make_memory_filesystem(loop_, disk_)) {
    run(loop_, SuperblockFile::create(*files_, kPath, example(1)));
    run(loop_, files_->sync_directory("/"));
  }

  std::unique_ptr<SuperblockFile> open() {
    return run(loop_, SuperblockFile::open(*files_, kPath));
  }
  std::uint64_t promised() { return open()->current().state.promised.value(); }
  void crash(runtime::Random& random) {
    disk_.crash(random);
    files_ = runtime::make_memory_filesystem(loop_, disk_);
  }

  runtime::VirtualLoop loop_;
  runtime::MemoryDisk disk_;
  std::unique_ptr<runtime::Filesystem> files_;
};

TEST(Superblock, ComesBackAsItWasEncoded) {
  const Superblock superblock = example(4);
  const std::optional<Superblock> decoded = decode_superblock(encode_superblock(superblock).view());
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->size, superblock.size);
  EXPECT_EQ(decoded->state.volume, superblock.state.volume);
  EXPECT_EQ(decoded->state.replica, superblock.state.replica);
  EXPECT_EQ(decoded->state.promised, Term(4));
  EXPECT_EQ(decoded->state.config_epoch, 5u);
  EXPECT_FALSE(decoded->state.base_complete);
  EXPECT_EQ(decoded->state.copy_from, Op(6));
  EXPECT_EQ(decoded->state.sessions, superblock.state.sessions);
  EXPECT_EQ(decoded->checkpoint, Op(7));
  EXPECT_EQ(decoded->horizon, Op(8));
  EXPECT_EQ(decoded->fingerprint, 9u);
  EXPECT_EQ(decoded->blocks_used, 10u);
}

TEST(Superblock, OneFlippedBitAnywhereDamagesIt) {
  const Buffer good = encode_superblock(example(1));
  for (std::size_t byte = 0; byte < good.size(); ++byte) {
    Buffer bad = Buffer::copy_of(good.view());
    bad.mutable_data()[byte] ^= std::byte{0x10};
    EXPECT_FALSE(decode_superblock(bad.view())) << byte;
  }
}

TEST(Superblock, OfANewerFormatIsRefusedAsSuch) {
  Buffer newer = encode_superblock(example(1));
  store_le(newer.mutable_data() + 8, std::uint32_t{2});
  store_le(newer.mutable_data() + 4088, checksum(newer.view().first(4088)));
  EXPECT_EQ(code_of([&] { decode_superblock(newer.view()); }), Code::unsupported);
}

TEST_F(SuperblockFiles, EitherSlotAloneHoldsWhatWasWrittenLast) {
  for (std::uint64_t slot : {0, 1, 0, 0, 1, 1}) {
    std::unique_ptr<SuperblockFile> file = open();
    const std::uint64_t next = file->current().state.promised.value() + 1;
    run(loop_, file->write(example(next)));
    file.reset();
    disk_.flip_bit(kPath, slot * kSuperblockSlotBytes + 1000, 3);
    EXPECT_EQ(promised(), next);
  }
}

TEST_F(SuperblockFiles, OpeningMakesADamagedSlotGoodAgain) {
  for (std::uint64_t slot : {0, 1, 0, 1}) {
    disk_.flip_bit(kPath, slot * kSuperblockSlotBytes + 70, 0);
    EXPECT_EQ(promised(), 1u);
  }
}

TEST_F(SuperblockFiles, TwoDamagedSlotsAreCorrupt) {
  disk_.flip_bit(kPath, 70, 0);
  disk_.flip_bit(kPath, kSuperblockSlotBytes + 70, 0);
  EXPECT_EQ(code_of([&] { open(); }), Code::corrupt);
}

runtime::Task<void> crash_after(runtime::VirtualLoop* loop, int turns, runtime::MemoryDisk* disk,
                                runtime::Random* random) {
  for (int turn = 0; turn < turns; ++turn) co_await runtime::switch_to(*loop);
  disk->crash(*random);
}

// Whatever the moment, and whichever sectors of the interrupted write survive.
TEST_F(SuperblockFiles, APowerCutDuringAWriteLeavesTheOldOrTheNew) {
  runtime::SeededRandom random(1);
  for (int round = 0; round < 400; ++round) {
    std::unique_ptr<SuperblockFile> file = open();
    const std::uint64_t before = file->current().state.promised.value();
    bool returned = false;
    {
      runtime::TaskGroup tasks(loop_, [](std::exception_ptr) {});
      tasks.spawn(file->write(example(before + 1)));
      tasks.spawn(crash_after(&loop_, round % 9, &disk_, &random));
      run(loop_, tasks.close());
      returned = file->current().state.promised.value() == before + 1;
    }
    file.reset();
    files_ = runtime::make_memory_filesystem(loop_, disk_);
    if (returned) {
      EXPECT_EQ(promised(), before + 1);
    } else {
      EXPECT_THAT(promised(), AnyOf(before, before + 1));
    }
  }
}

}  // namespace
}  // namespace datom::block_store

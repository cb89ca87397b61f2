// Copying blocks between replicas.
#include <gmock/gmock.h>

#include "block_store/model_fixture.h"

namespace datom::block_store {
namespace {

using ::testing::Optional;

constexpr std::uint64_t kBlocks = 600;

void begin_copy(StoreWorld& world, std::uint64_t op, std::uint64_t newest = 1000) {
  ReplicaState state = world.store->state();
  if (state.base_complete) state.copy_from = world.store->checkpoint_op();
  state.base_complete = false;
  run(world.loop, world.store->save(state));
  world.store->begin_copy(Op(op), Op(newest));
}

void finish_copy(StoreWorld& world, std::uint64_t op) {
  run(world.loop, world.store->finish_copy(Op(op)));
  ReplicaState state = world.store->state();
  state.base_complete = true;
  run(world.loop, world.store->checkpoint(state));
}

BlockVersion data_version(StoreWorld& from, BlockNumber block) {
  return run(from.loop, from.store->version(block));
}

TEST(Copying, NewerBlocksComeInOrderAndInPieces) {
  StoreWorld world(kBlocks);
  world.apply_all({write_entry(1, 500, 5), write_entry(2, 10, 2), zero_entry(3, 300, 1),
                   trim_entry(4, 501, 1)});
  std::vector<std::uint64_t> blocks;
  BlockNumber from = 0;
  for (;;) {
    const std::vector<BlockVersion> some =
        run(world.loop, world.store->newer_blocks(from, Op(1), 2));
    for (const BlockVersion& version : some) blocks.push_back(version.block);
    if (some.size() < 2) break;
    from = some.back().block + 1;
  }
  EXPECT_THAT(blocks, ::testing::ElementsAre(10, 11, 300, 501));
  EXPECT_TRUE(run(world.loop, world.store->newer_blocks(0, Op(4), 9)).empty());
  EXPECT_TRUE(run(world.loop, world.store->newer_blocks(kBlocks, Op(0), 9)).empty());
}

TEST(Copying, FindsFewBlocksInALargeSparseVolume) {
  constexpr std::uint64_t kLarge = (std::uint64_t{64} << 30) / kBlockSize;
  StoreWorld world(kLarge);
  world.apply_all({write_entry(1, 5, 1), write_entry(2, kLarge - 1, 1)});
  world.checkpoint();
  world.reopen();
  world.apply(write_entry(3, kLarge / 2, 1));
  const std::vector<BlockVersion> versions = world.versions();
  ASSERT_EQ(versions.size(), 3u);
  EXPECT_EQ(versions[1].block, kLarge / 2);
  EXPECT_EQ(versions[2].block, kLarge - 1);
}

TEST(Copying, AReplicaThatWasAwayBecomesEqual) {
  StoreWorld ahead(kBlocks);
  StoreWorld behind(kBlocks);
  const std::vector<protocol::Entry> both = {write_entry(1, 0, 20), zero_entry(2, 400, 30)};
  ahead.apply_all(both);
  behind.apply_all(both);
  ahead.apply_all({write_entry(3, 10, 5), trim_entry(4, 0, 5), write_entry(5, 550, 40),
                   zero_entry(6, 12, 1), write_zeros_entry(7, 13, 1)});
  copy_blocks(ahead, behind);
  EXPECT_TRUE(behind.store->state().base_complete);
  EXPECT_EQ(behind.store->applied_op(), Op(7));
  EXPECT_TRUE(behind.store->fingerprint_known());
  EXPECT_EQ(behind.store->fingerprint(), ahead.store->fingerprint());
  EXPECT_EQ(behind.store->bytes_used(), ahead.store->bytes_used());
  EXPECT_EQ(as_text(behind.read(0, kBlocks).view()), as_text(ahead.read(0, kBlocks).view()));
  runtime::SeededRandom random(3);
  behind.crash(random);
  EXPECT_EQ(behind.store->checkpoint_op(), Op(7));
  EXPECT_TRUE(behind.store->fingerprint_known());
  EXPECT_EQ(as_text(behind.read(0, kBlocks).view()), as_text(ahead.read(0, kBlocks).view()));
}

TEST(Copying, AnIncompleteBaseStaysSoOverARestart) {
  StoreWorld world(kBlocks);
  world.apply(write_entry(1, 0, 1));
  world.checkpoint();
  begin_copy(world, 9);
  EXPECT_EQ(world.store->applied_op(), Op(9));
  EXPECT_FALSE(world.store->fingerprint_known());
  world.apply(write_entry(10, 3, 1));
  world.checkpoint();
  runtime::SeededRandom random(3);
  world.crash(random);
  EXPECT_FALSE(world.store->state().base_complete);
  EXPECT_EQ(world.store->state().copy_from, Op(1));
  EXPECT_EQ(world.store->applied_op(), Op(10));
  EXPECT_FALSE(world.store->fingerprint_known());
}

// An op that nobody can have would keep the copy from ever being complete.
TEST(Copying, AnEntryOfAnOpThatNobodyHasIsDamagedAndReplaced) {
  StoreWorld ahead(kBlocks);
  ahead.apply_all({write_entry(1, 0, 3), write_entry(2, 1, 1)});
  StoreWorld behind(kBlocks);
  behind.apply(write_entry(1, 0, 3));
  behind.checkpoint();
  behind.disk.flip_bit("/replica/layers/0/table", 16 + 6, 4);  // of block 1: op 2^50 and more
  runtime::SeededRandom random(3);
  behind.crash(random);
  begin_copy(behind, 2, 2);
  const auto damaged = run(behind.loop, behind.store->damaged_entries(0, kBlocks * kBlockSize, 10));
  EXPECT_EQ(damaged, std::vector<BlockNumber>{1});
  run(behind.loop, behind.store->install(alone(data_version(ahead, 1), content_of(2, 1))));
  finish_copy(behind, 2);
  EXPECT_EQ(behind.store->fingerprint(), ahead.store->fingerprint());
}

TEST(Copying, InstallTakesOnlyWhatIsNewer) {
  StoreWorld ahead(kBlocks);
  ahead.apply_all({write_entry(1, 0, 3), write_entry(2, 1, 1)});
  const BlockVersion older = data_version(ahead, 0);
  StoreWorld behind(kBlocks);
  begin_copy(behind, 5);
  behind.apply_all({write_entry(6, 0, 1), trim_entry(7, 2, 1)});
  run(behind.loop, behind.store->install(alone(older, content_of(1, 0))));
  EXPECT_THAT(behind.op_read(0, 7), Optional(6u));
  run(behind.loop, behind.store->install(alone(data_version(ahead, 1), content_of(2, 1))));
  EXPECT_THAT(behind.op_read(1, 7), Optional(2u));
  // The trim came first; a copy made before it must not bring the block back.
  run(behind.loop, behind.store->install(alone(data_version(ahead, 2), content_of(1, 2))));
  EXPECT_THAT(behind.op_read(2, 7), Optional(0u));
}

// Also where nothing of the whole table page was ever written here.
TEST(Copying, ATrimIsRememberedOfABlockThatIsNotThereYet) {
  StoreWorld ahead(kBlocks);
  ahead.apply(write_entry(1, 500, 1));
  StoreWorld behind(kBlocks);
  begin_copy(behind, 5);
  behind.apply(trim_entry(6, 400, 200));
  run(behind.loop, behind.store->install(alone(data_version(ahead, 500), content_of(1, 500))));
  EXPECT_THAT(behind.op_read(500, 6), Optional(0u));
}

TEST(Copying, AnApplyLeavesABlockThatIsNewer) {
  StoreWorld ahead(kBlocks);
  for (std::uint64_t op = 1; op < 9; ++op) ahead.apply(no_op_entry(op));
  ahead.apply(write_entry(9, 20, 1));
  StoreWorld behind(kBlocks);
  begin_copy(behind, 2);
  run(behind.loop, behind.store->install(alone(data_version(ahead, 20), content_of(9, 20))));
  const std::vector<protocol::Entry> older = {write_entry(3, 18, 5), zero_entry(4, 18, 5),
                                              trim_entry(5, 18, 5), write_entry(6, 18, 5)};
  for (const protocol::Entry& entry : older) {
    behind.apply(entry);
    EXPECT_EQ(data_version(behind, 20).op, Op(9));
    EXPECT_THAT(behind.op_read(20, 9), Optional(9u));
  }
  EXPECT_THAT(behind.op_read(19, 9), Optional(6u));
  EXPECT_THAT(behind.op_read(21, 9), Optional(6u));
}

TEST(Copying, InstallRefusesWhatDoesNotMatchItsVersion) {
  StoreWorld ahead(kBlocks);
  ahead.apply(write_entry(1, 0, 1));
  const BlockVersion good = data_version(ahead, 0);
  StoreWorld behind(kBlocks);
  begin_copy(behind, 5);
  const auto install = [&](BlockVersion version, Buffer content) {
    return code_of([&] { run(behind.loop, behind.store->install(alone(version, content))); });
  };
  BlockVersion outside = good;
  outside.block = kBlocks;
  BlockVersion hole_with_checksum = good;
  hole_with_checksum.kind = BlockKind::hole;
  BlockVersion unknown_kind = good;
  unknown_kind.kind = static_cast<BlockKind>(3);
  BlockVersion endless = good;
  endless.op = Op(~std::uint64_t{0});
  EXPECT_EQ(install(good, content_of(1, 1)), Code::corrupt);
  EXPECT_EQ(install(good, Buffer{}), Code::corrupt);
  EXPECT_EQ(install(outside, content_of(1, 0)), Code::corrupt);
  EXPECT_EQ(install(hole_with_checksum, Buffer{}), Code::corrupt);
  EXPECT_EQ(install(unknown_kind, content_of(1, 0)), Code::corrupt);
  EXPECT_EQ(install(endless, content_of(1, 0)), Code::corrupt);
  EXPECT_EQ(install(good, content_of(1, 0)), std::nullopt);
  EXPECT_THAT(behind.op_read(0, 1), Optional(1u));
}

TEST(Copying, CannotFinishBelowABlockThatWasInstalled) {
  StoreWorld ahead(kBlocks);
  ahead.apply_all({no_op_entry(1), no_op_entry(2), write_entry(3, 0, 1)});
  StoreWorld behind(kBlocks);
  begin_copy(behind, 2);
  run(behind.loop, behind.store->install(alone(data_version(ahead, 0), content_of(3, 0))));
  EXPECT_EQ(code_of([&] { finish_copy(behind, 2); }), Code::conflict);
  behind.apply(write_entry(3, 0, 1));
  finish_copy(behind, 3);
  EXPECT_EQ(behind.store->fingerprint(), ahead.store->fingerprint());
}

// One copy, piece by piece, while both go on; a cut or two on the side that is copied to.
class RandomCopy {
 public:
  explicit RandomCopy(std::uint64_t seed)
      : random_(seed), model_(kBlocks), ahead_(kBlocks), behind_(kBlocks) {}

  void run_it() {
    grow_both(random_.below(30));
    if (random_.below(2) == 0) behind_.checkpoint();
    grow_ahead(random_.below(60));
    const int cuts = static_cast<int>(random_.below(3));
    for (int cut = 0; cut < cuts; ++cut) copy_until_cut();
    ASSERT_TRUE(copy(~std::uint64_t{0}));
    finish_copy(behind_, model_.last_op());
    model_.expect_equal(behind_, true);
    survive_a_cut();
  }

 private:
  void grow_ahead(std::uint64_t ops) {
    for (std::uint64_t i = 0; i < ops; ++i) model_.grow(random_);
    ahead_.apply_all(model_.entries(model_.last_op() - ops + 1, model_.last_op()));
  }
  void grow_both(std::uint64_t ops) {
    grow_ahead(ops);
    behind_.apply_all(model_.entries(model_.last_op() - ops + 1, model_.last_op()));
  }

  void copy_until_cut() {
    copy(random_.below(600));
    behind_.crash(random_);
    if (!behind_.store->state().base_complete) {
      EXPECT_FALSE(behind_.store->fingerprint_known());
    }
  }

  // True when it has come to the end.
  bool copy(std::uint64_t turns) {
    begin_copy(behind_, std::max(model_.last_op(), behind_.store->applied_op().value()));
    return run_until_cut(behind_, copy_pieces(this), turns, random_);
  }

  static runtime::Task<void> copy_pieces(RandomCopy* self) {
    const std::size_t at_once = 1 + self->random_.below(40);
    std::vector<BlockVersion> versions;
    BlockNumber next = 0;
    do {
      versions = run(self->ahead_.loop, self->ahead_.store->newer_blocks(
                                            next, self->behind_.store->state().copy_from, at_once));
      std::vector<PeerBlock> blocks;
      for (const BlockVersion& version : versions) {
        const bool data = version.kind == BlockKind::data;
        blocks.push_back({version, data ? self->ahead_.read(version.block, 1) : Buffer{}});
        next = version.block + 1;
      }
      const std::uint64_t before = self->model_.last_op();
      self->grow_ahead(self->random_.below(4));
      co_await self->behind_.store->install(std::move(blocks));
      co_await self->behind_.store->apply(self->model_.entries(before + 1, self->model_.last_op()));
      if (self->random_.below(4) == 0) {
        co_await self->behind_.store->checkpoint(self->behind_.store->state());
      }
    } while (versions.size() == at_once);
  }

  void survive_a_cut() {
    grow_both(random_.below(20));
    behind_.crash(random_);
    const std::uint64_t checkpoint = behind_.store->checkpoint_op().value();
    behind_.apply_all(model_.entries(checkpoint + 1, model_.last_op()));
    model_.expect_equal(behind_, true);
    EXPECT_EQ(behind_.store->fingerprint(), ahead_.store->fingerprint());
  }

  runtime::SeededRandom random_;
  Model model_;
  StoreWorld ahead_;
  StoreWorld behind_;
};

TEST(Copying, EndsEqualWhateverHappensMeanwhile) {
  for (int seed = 1; seed <= 150 && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomCopy copy(seed);
    copy.run_it();
  }
}

}  // namespace
}  // namespace datom::block_store

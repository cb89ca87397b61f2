#include "block_store/block_store.h"

#include <gmock/gmock.h>

#include "block_store/store_fixture.h"
#include "block_store/table.h"

namespace datom::block_store {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Optional;

constexpr std::uint64_t kBlocks = 1000;

MATCHER_P2(RunOf, blocks, kind, "") {
  return arg.length == blocks * kBlockSize && arg.kind == kind;
}
constexpr BlockKind kHole = BlockKind::hole;
constexpr BlockKind kZero = BlockKind::zero;
constexpr BlockKind kData = BlockKind::data;

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(BlockStore, IsAllHolesAtFirst) {
  StoreWorld world(kBlocks);
  EXPECT_EQ(world.store->size(), kBlocks * kBlockSize);
  EXPECT_EQ(world.store->applied_op(), Op(0));
  EXPECT_EQ(world.store->checkpoint_op(), Op(0));
  EXPECT_EQ(world.store->bytes_used(), 0u);
  EXPECT_TRUE(world.store->fingerprint_known());
  EXPECT_EQ(world.store->fingerprint(), 0u);
  EXPECT_TRUE(all_zero(world.read(0, kBlocks).view()));
  EXPECT_THAT(world.extents(0, kBlocks), ElementsAre(RunOf(kBlocks, kHole)));
  EXPECT_TRUE(world.versions().empty());
}

TEST(BlockStore, ReadsWhatWasApplied) {
  StoreWorld world(kBlocks);
  world.apply_all({write_entry(1, 10, 3), no_op_entry(2), write_entry(3, 11, 1)});
  EXPECT_EQ(world.store->applied_op(), Op(3));
  EXPECT_THAT(world.op_read(9, 3), Optional(0u));
  EXPECT_THAT(world.op_read(10, 3), Optional(1u));
  EXPECT_THAT(world.op_read(11, 3), Optional(3u));
  EXPECT_THAT(world.op_read(12, 3), Optional(1u));
  EXPECT_THAT(world.op_read(13, 3), Optional(0u));
  const Buffer range = world.read(9, 5);
  EXPECT_EQ(as_text(range.slice(2 * kBlockSize, kBlockSize).view()),
            as_text(content_of(3, 11).view()));
  EXPECT_TRUE(all_zero(range.slice(0, kBlockSize).view()));
  EXPECT_TRUE(all_zero(range.slice(4 * kBlockSize, kBlockSize).view()));
  const BlockVersion version = run(world.loop, world.store->version(11));
  EXPECT_EQ(version.op, Op(3));
  EXPECT_EQ(version.kind, kData);
}

TEST(BlockStore, OverlappingEntriesOfOneCallTakeEffectInTheirOrder) {
  StoreWorld world(kBlocks);
  world.apply_all({write_entry(1, 0, 8), trim_entry(2, 2, 4), write_entry(3, 4, 1),
                   zero_entry(4, 7, 2), write_entry(5, 0, 1)});
  const std::vector<std::uint64_t> expected = {5, 1, 0, 0, 3, 0, 1, 0, 0};
  for (BlockNumber block = 0; block < expected.size(); ++block) {
    EXPECT_THAT(world.op_read(block, 5), Optional(expected[block])) << block;
  }
  EXPECT_THAT(world.extents(0, 10),
              ElementsAre(RunOf(2u, kData), RunOf(2u, kHole), RunOf(1u, kData), RunOf(1u, kHole),
                          RunOf(1u, kData), RunOf(2u, kZero), RunOf(1u, kHole)));
  EXPECT_EQ(world.store->bytes_used(), 6 * kBlockSize);
}

TEST(BlockStore, ManySmallNeighboursAndLongRangesComeOutAsTheyWentIn) {
  StoreWorld world(kBlocks);
  std::vector<protocol::Entry> entries;
  for (std::uint64_t op = 1; op <= 200; ++op) entries.push_back(write_entry(op, 300 - op, 1));
  for (std::uint64_t op = 201; op <= 210; ++op)
    entries.push_back(write_entry(op, (op - 200) * 60, 55));
  world.apply_all(std::move(entries));
  const auto expected = [](BlockNumber block) -> std::uint64_t {
    if (block >= 60 && block % 60 < 55 && block / 60 <= 10) return 200 + block / 60;
    return block >= 100 && block < 300 ? 300 - block : 0;
  };
  for (BlockNumber block = 0; block < 700; ++block) {
    const Buffer content = world.read(block, 1);
    const std::uint64_t op = expected(block);
    const Buffer wanted = op == 0 ? Buffer::zeroed(kBlockSize) : content_of(op, block);
    EXPECT_EQ(as_text(content.view()), as_text(wanted.view())) << block;
  }
}

TEST(BlockStore, ZeroKeepsItsSpaceAndTrimGivesItBack) {
  StoreWorld world(kBlocks);
  world.apply_all({write_entry(1, 0, 10), zero_entry(2, 0, 4), zero_entry(3, 20, 2)});
  EXPECT_EQ(world.store->bytes_used(), 12 * kBlockSize);
  world.apply_all({trim_entry(4, 2, 20)});
  EXPECT_EQ(world.store->bytes_used(), 2 * kBlockSize);
  EXPECT_TRUE(all_zero(world.read(0, 30).view()));
  EXPECT_THAT(world.extents(0, kBlocks), ElementsAre(RunOf(2u, kZero), RunOf(kBlocks - 2, kHole)));
}

TEST(BlockStore, ExtentsStopAtTheLimitAndMergeNeighbours) {
  StoreWorld world(kBlocks);
  world.apply_all({write_entry(1, 5, 1), write_entry(2, 6, 1), zero_entry(3, 250, 20)});
  EXPECT_THAT(world.extents(0, kBlocks, 1), ElementsAre(RunOf(5u, kHole)));
  EXPECT_THAT(world.extents(0, kBlocks, 3),
              ElementsAre(RunOf(5u, kHole), RunOf(2u, kData), RunOf(243u, kHole)));
  EXPECT_THAT(world.extents(6, 1), ElementsAre(RunOf(1u, kData)));
  EXPECT_THAT(world.extents(260, 740), ElementsAre(RunOf(10u, kZero), RunOf(730u, kHole)));
}

TEST(BlockStore, ATrimOfABlockNeverWrittenLeavesItSo) {
  StoreWorld world(kBlocks);
  world.apply_all({write_entry(1, 5, 1), trim_entry(2, 0, kBlocks)});
  const std::vector<BlockVersion> versions = world.versions();
  ASSERT_EQ(versions.size(), 1u);
  EXPECT_EQ(versions[0].block, 5u);
  EXPECT_EQ(versions[0].op, Op(2));
  EXPECT_EQ(versions[0].kind, kHole);
}

TEST(BlockStore, DiscardingAnUnusedVolumeCostsNoMemory) {
  constexpr std::uint64_t kLarge = 4 * kMaxRangeBytes / kBlockSize;
  StoreWorld world(kLarge);
  world.apply(write_entry(1, 5, 1));
  for (std::uint64_t op = 2; op < 6; ++op) {
    world.apply(trim_entry(op, (op - 2) * kLarge / 4, kLarge / 4));
  }
  EXPECT_EQ(world.store->dirty_bytes(), kBlockSize);
  EXPECT_EQ(world.store->bytes_used(), 0u);
}

TEST(BlockStore, RefusesEntriesOutsideOfTheVolumeAndChangesNothing) {
  StoreWorld world(kBlocks);
  protocol::Entry unaligned = trim_entry(2, 0, 1);
  unaligned.header.offset = 512;
  protocol::Entry wrapping = trim_entry(2, 0, 1);
  wrapping.header.offset = ~std::uint64_t{0} - kBlockSize + 1;
  protocol::Entry lacking = write_entry(2, 0, 2);
  lacking.payload = lacking.payload.slice(0, kBlockSize);
  for (const protocol::Entry& bad : {unaligned, wrapping, lacking, write_entry(2, kBlocks - 1, 2),
                                     zero_entry(2, kBlocks, 1), trim_entry(2, 0, kBlocks + 1)}) {
    EXPECT_EQ(code_of([&] { world.apply_all({write_entry(1, 3, 1), bad}); }), Code::corrupt);
  }
  EXPECT_EQ(world.store->applied_op(), Op(0));
  EXPECT_THAT(world.op_read(3, 2), Optional(0u));
  world.apply_all({write_entry(1, kBlocks - 1, 1), trim_entry(2, 0, kBlocks)});
  EXPECT_EQ(world.store->applied_op(), Op(2));
}

TEST(BlockStore, RefusesZeroAndTrimBeyondTheLongestRange) {
  constexpr std::uint64_t kLongest = kMaxRangeBytes / kBlockSize;
  StoreWorld world(2 * kLongest);
  EXPECT_EQ(code_of([&] { world.apply(trim_entry(1, 0, kLongest + 1)); }), Code::corrupt);
  EXPECT_EQ(code_of([&] { world.apply(zero_entry(1, 0, kLongest + 1)); }), Code::corrupt);
  world.apply(trim_entry(1, 0, kLongest));
}

TEST(BlockStore, RefusesReadsOutsideOfTheVolume) {
  StoreWorld world(kBlocks);
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges = {
      {kBlocks * kBlockSize, kBlockSize},
      {0, (kBlocks + 1) * kBlockSize},
      {1, kBlockSize},
      {0, 1},
      {~std::uint64_t{0} - kBlockSize + 1, kBlockSize}};
  for (const auto& [offset, length] : ranges) {
    EXPECT_EQ(code_of([&] { run(world.loop, world.store->read(offset, length)); }),
              Code::invalid_argument);
    EXPECT_EQ(code_of([&] { run(world.loop, world.store->extents(offset, length, 1)); }),
              Code::invalid_argument);
  }
  EXPECT_EQ(code_of([&] { run(world.loop, world.store->version(kBlocks)); }),
            Code::invalid_argument);
}

// Opening, format, directory.

TEST(BlockStore, ADirectoryWithoutSuperblockHoldsNoStore) {
  StoreWorld world(kBlocks);
  const auto open_elsewhere = [&] {
    run(world.loop, BlockStore::open(*world.files, world.loop, "/elsewhere", {}));
  };
  EXPECT_EQ(code_of(open_elsewhere), Code::not_found);
}

TEST(BlockStore, FormatRefusesToOverwriteAStore) {
  StoreWorld world(kBlocks);
  const auto again = [&] {
    run(world.loop,
        BlockStore::format(*world.files, StoreWorld::kDirectory, kBlockSize, ReplicaState{}));
  };
  EXPECT_EQ(code_of(again), Code::already_exists);
  const auto odd = [&] {
    run(world.loop, BlockStore::format(*world.files, "/odd", kBlockSize + 1, ReplicaState{}));
  };
  EXPECT_EQ(code_of(odd), Code::invalid_argument);
}

TEST(BlockStore, AMissingOrShortFileIsCorrupt) {
  for (const std::string name : {"data", "table"}) {
    const std::string path = std::string(StoreWorld::kDirectory) + "/layers/0/" + name;
    StoreWorld world(kBlocks);
    world.close();
    {
      std::unique_ptr<runtime::File> file = run(world.loop, world.files->open(path, {}));
      const std::uint64_t size = run(world.loop, file->size());
      run(world.loop, file->resize(size - kBlockSize));
    }
    EXPECT_EQ(code_of([&] { world.open(); }), Code::corrupt) << name;
    run(world.loop, world.files->remove(path));
    EXPECT_EQ(code_of([&] { world.open(); }), Code::corrupt) << name;
  }
}

runtime::Task<void> crash_after(runtime::VirtualLoop* loop, int turns, runtime::MemoryDisk* disk,
                                runtime::Random* random) {
  for (int turn = 0; turn < turns; ++turn) co_await runtime::switch_to(*loop);
  disk->crash(*random);
}

TEST(BlockStore, AnInterruptedFormatLeavesNothingOrAStore) {
  runtime::SeededRandom random(7);
  int formatted_again = 0;
  for (int turns = 0; turns < 120; ++turns) {
    runtime::VirtualLoop loop;
    runtime::MemoryDisk disk;
    std::unique_ptr<runtime::Filesystem> files = runtime::make_memory_filesystem(loop, disk);
    run(loop, files->make_directories("/r"));
    run(loop, files->sync_directory("/"));
    {
      runtime::TaskGroup tasks(loop, [](std::exception_ptr) {});
      tasks.spawn(BlockStore::format(*files, "/r", kBlocks * kBlockSize, ReplicaState{}));
      tasks.spawn(crash_after(&loop, turns, &disk, &random));
      run(loop, tasks.close());
    }
    files = runtime::make_memory_filesystem(loop, disk);
    if (!run(loop, files->exists("/r/superblock"))) {
      run(loop, BlockStore::format(*files, "/r", kBlocks * kBlockSize, ReplicaState{}));
      ++formatted_again;
    }
    std::unique_ptr<BlockStore> store = run(loop, BlockStore::open(*files, loop, "/r", {}));
    EXPECT_EQ(store->size(), kBlocks * kBlockSize);
    run(loop, store->close());
  }
  EXPECT_GT(formatted_again, 10);
  EXPECT_LT(formatted_again, 110);
}

// What is durable.

TEST(BlockStore, KeepsStateSessionsAndBlocksOverACheckpointAndAPowerCut) {
  StoreWorld world(kBlocks);
  runtime::SeededRandom random(1);
  ReplicaState state;
  state.volume = Uuid::from_random(1, 2);
  state.promised = Term(9);
  state.sessions = std::string(kMaxSessionBytes, 'x');
  world.apply_all({write_entry(1, 7, 2), zero_entry(2, 8, 1), trim_entry(3, 7, 1)});
  const std::uint64_t fingerprint = world.store->fingerprint();
  run(world.loop, world.store->checkpoint(state));
  EXPECT_EQ(world.store->checkpoint_op(), Op(3));
  EXPECT_EQ(world.store->dirty_bytes(), 0u);
  world.crash(random);
  EXPECT_EQ(world.store->checkpoint_op(), Op(3));
  EXPECT_EQ(world.store->applied_op(), Op(3));
  EXPECT_EQ(world.store->state().volume, state.volume);
  EXPECT_EQ(world.store->state().promised, Term(9));
  EXPECT_EQ(world.store->state().sessions, state.sessions);
  EXPECT_TRUE(world.store->fingerprint_known());
  EXPECT_EQ(world.store->fingerprint(), fingerprint);
  EXPECT_EQ(world.store->bytes_used(), kBlockSize);
  EXPECT_EQ(world.versions().size(), 2u);
}

TEST(BlockStore, SaveMakesAPromiseDurableAndLeavesTheCheckpoint) {
  StoreWorld world(kBlocks);
  runtime::SeededRandom random(1);
  world.apply(write_entry(1, 7, 2));
  ReplicaState state = world.store->state();
  state.promised = Term(3);
  run(world.loop, world.store->save(state));
  world.crash(random);
  EXPECT_EQ(world.store->state().promised, Term(3));
  EXPECT_EQ(world.store->checkpoint_op(), Op(0));
  EXPECT_TRUE(world.versions().empty()) << "the table is written by checkpoints only";
}

TEST(BlockStore, APromiseBesideACheckpointIsDurableAndNotTakenBackByIt) {
  StoreWorld world(kBlocks);
  runtime::SeededRandom random(1);
  world.apply(write_entry(1, 7, 2));
  runtime::TaskGroup group(world.loop,
                           [](std::exception_ptr error) { std::rethrow_exception(error); });
  group.spawn(world.store->checkpoint(world.store->state()));
  group.spawn(world.store->promise(Term(5)));
  group.spawn(world.store->promise(Term(4)));
  run(world.loop, group.close());
  world.crash(random);
  EXPECT_EQ(world.store->state().promised, Term(5));
  EXPECT_EQ(world.store->checkpoint_op(), Op(1));
}

TEST(BlockStore, RefusesSessionsThatDoNotFitAndGoesOn) {
  StoreWorld world(kBlocks);
  ReplicaState state;
  state.sessions = std::string(kMaxSessionBytes + 1, 'x');
  EXPECT_EQ(code_of([&] { run(world.loop, world.store->save(state)); }), Code::too_large);
  EXPECT_EQ(code_of([&] { run(world.loop, world.store->checkpoint(state)); }), Code::too_large);
  world.checkpoint("fits");
  EXPECT_EQ(world.store->state().sessions, "fits");
}

// Rule S1.
TEST(BlockStore, StopsForGoodWhenASyncFails) {
  StoreWorld world(kBlocks);
  runtime::SeededRandom random(1);
  world.apply(write_entry(1, 7, 2));
  world.checkpoint();
  world.apply(write_entry(2, 7, 2));
  world.disk.fail_next_sync();
  EXPECT_EQ(code_of([&] { world.checkpoint(); }), Code::io_error);
  EXPECT_EQ(code_of([&] { world.checkpoint(); }), Code::closed);
  EXPECT_EQ(code_of([&] { world.apply(write_entry(3, 7, 2)); }), Code::closed);
  EXPECT_EQ(code_of([&] { world.read(0, 1); }), Code::closed);
  world.crash(random);
  EXPECT_EQ(world.store->checkpoint_op(), Op(1));
}

TEST(BlockStore, SaysNoSpaceWhenTheDiskIsFullAndStops) {
  StoreWorld world(kBlocks);
  world.disk.limit(200 * kBlockSize);
  std::uint64_t op = 1;
  std::optional<Code> code;
  for (; !code; ++op) code = code_of([&] { world.apply(write_entry(op, op * 3, 3)); });
  EXPECT_EQ(code, Code::no_space);
  EXPECT_GT(op, 40u);
  EXPECT_EQ(world.store->applied_op(), Op(op - 2));
  EXPECT_EQ(code_of([&] { world.apply(zero_entry(op - 1, 0, 1)); }), Code::closed);
  world.disk.limit(10000 * kBlockSize);
  world.reopen();
  for (std::uint64_t redo = 1; redo < op; ++redo) world.apply(write_entry(redo, redo * 3, 3));
  EXPECT_THAT(world.op_read(op * 3 - 3, op), Optional(op - 1));
}

TEST(BlockStore, SaysClosedAfterClose) {
  StoreWorld world(kBlocks);
  run(world.loop, world.store->close());
  EXPECT_EQ(code_of([&] { world.read(0, 1); }), Code::closed);
  EXPECT_EQ(code_of([&] { world.apply(no_op_entry(1)); }), Code::closed);
}

// Damage.

TEST(BlockStore, ABitFlippedInTheDataIsNeverServed) {
  StoreWorld world(kBlocks);
  world.apply_all({write_entry(1, 40, 3), write_entry(2, 41, 1)});
  world.checkpoint();
  world.disk.flip_bit("/replica/layers/0/data", 41 * kBlockSize + 4095, 7);
  EXPECT_EQ(code_of([&] { world.read(41, 1); }), Code::corrupt);
  EXPECT_THAT(message_of([&] { world.read(40, 3); }), HasSubstr("block 41 as of op 2"));
  EXPECT_THAT(world.op_read(40, 2), Optional(1u));
  EXPECT_THAT(world.op_read(42, 2), Optional(1u));
  world.apply(write_entry(3, 41, 1));
  EXPECT_THAT(world.op_read(41, 3), Optional(3u)) << "written anew, it is good again";
}

TEST(BlockStore, ABitFlippedInTheTableIsNeverServed) {
  StoreWorld world(kBlocks);
  world.apply_all(
      {write_entry(1, 0, 1), zero_entry(2, 1, 1), write_entry(3, 2, 1), trim_entry(4, 2, 1)});
  world.checkpoint();
  for (BlockNumber block = 0; block < 3; ++block) {
    for (int bit = 0; bit < 128; ++bit) {
      const std::uint64_t byte = block * kTableEntryBytes + bit / 8;
      world.disk.flip_bit("/replica/layers/0/table", byte, bit % 8);
      world.reopen();
      EXPECT_EQ(code_of([&] { world.read(block, 1); }), Code::corrupt) << block << " " << bit;
      world.disk.flip_bit("/replica/layers/0/table", byte, bit % 8);
    }
  }
  world.reopen();
  EXPECT_THAT(world.op_read(0, 1), Optional(1u));
}

TEST(BlockStore, SurvivesOneDamagedSuperblockSlot) {
  for (std::uint64_t slot : {0, 1}) {
    StoreWorld world(kBlocks);
    world.apply(write_entry(1, 0, 1));
    world.checkpoint("kept");
    world.close();
    world.disk.flip_bit("/replica/superblock", slot * kBlockSize + 90, 1);
    world.open();
    EXPECT_EQ(world.store->checkpoint_op(), Op(1));
    EXPECT_EQ(world.store->state().sessions, "kept");
  }
}

// The fingerprint.

TEST(BlockStore, FingerprintDependsOnContentAndPlaceOnly) {
  StoreWorld one(kBlocks);
  StoreWorld two(kBlocks);
  one.apply_all({write_entry(1, 1, 1), write_entry(2, 2, 1)});
  two.apply_all({no_op_entry(1), write_entry(2, 2, 1), no_op_entry(3)});
  EXPECT_NE(one.store->fingerprint(), two.store->fingerprint());
  protocol::Entry same = write_entry(1, 1, 1);
  same.header.op = Op(4);
  two.apply(same);
  EXPECT_EQ(one.store->fingerprint(), two.store->fingerprint());
  same.header.op = Op(5);
  same.header.offset = 3 * kBlockSize;
  two.apply_all({same, trim_entry(6, 1, 1)});
  EXPECT_NE(one.store->fingerprint(), two.store->fingerprint());
}

TEST(BlockStore, FingerprintTakesWrittenZerosForAHole) {
  StoreWorld world(kBlocks);
  world.apply(write_entry(1, 1, 4));
  const std::uint64_t before = world.store->fingerprint();
  world.apply_all({write_zeros_entry(2, 10, 2), zero_entry(3, 12, 2)});
  EXPECT_EQ(world.store->fingerprint(), before);
  world.apply_all({write_zeros_entry(4, 1, 1), zero_entry(5, 2, 1), trim_entry(6, 3, 2)});
  EXPECT_EQ(world.store->fingerprint(), 0u);
}

// Wherever the power is cut during a checkpoint, with all sectors surviving or not.
TEST(BlockStore, FingerprintIsUnknownAfterACutCheckpointUntilRedoHasPassedIt) {
  int seen_unknown = 0;
  for (int round = 0; round < 200; ++round) {
    StoreWorld world(kBlocks);
    runtime::SeededRandom some(round);
    AllSurvives all;
    world.apply_all({write_entry(1, 0, 2), write_entry(2, 300, 2)});
    world.checkpoint();
    const std::vector<protocol::Entry> second = {write_entry(3, 1, 2), write_entry(4, 600, 2),
                                                 write_entry(5, 301, 1), trim_entry(6, 1, 1)};
    world.apply_all(second);
    const std::uint64_t fingerprint = world.store->fingerprint();
    {
      runtime::Random& random = round % 2 == 0 ? static_cast<runtime::Random&>(all) : some;
      runtime::TaskGroup tasks(world.loop, [](std::exception_ptr) {});
      tasks.spawn(world.store->checkpoint(world.store->state()));
      tasks.spawn(crash_after(&world.loop, round / 4, &world.disk, &random));
      run(world.loop, tasks.close());
    }
    world.crash(all);
    if (world.store->checkpoint_op() == Op(6)) continue;
    ASSERT_EQ(world.store->checkpoint_op(), Op(2));
    const bool unknown = !world.store->fingerprint_known();
    for (const protocol::Entry& entry : second) {
      EXPECT_EQ(world.store->fingerprint_known(), !unknown);
      world.apply(entry);
    }
    seen_unknown += unknown;
    EXPECT_TRUE(world.store->fingerprint_known());
    EXPECT_EQ(world.store->fingerprint(), fingerprint);
    EXPECT_EQ(world.store->bytes_used(), 7 * kBlockSize - kBlockSize);
    EXPECT_THAT(world.op_read(1, 6), Optional(0u));
    EXPECT_THAT(world.op_read(2, 6), Optional(3u));
    EXPECT_THAT(world.op_read(301, 6), Optional(5u));
  }
  EXPECT_GT(seen_unknown, 20);
}

// Side by side.

runtime::Task<void> keep_applying(StoreWorld* world, std::uint64_t last, bool* done) {
  for (std::uint64_t op = 1; op <= last; ++op) {
    std::vector<protocol::Entry> entries;
    entries.push_back(write_entry(op, 10, 4));
    co_await world->store->apply(std::move(entries));
  }
  *done = true;
}

bool as_of(const Buffer& content, std::uint64_t op) {
  for (std::uint64_t i = 0; i < 4; ++i) {
    const Buffer wanted = op == 0 ? Buffer::zeroed(kBlockSize) : content_of(op, 10 + i);
    const Buffer found = content.slice(i * kBlockSize, kBlockSize);
    if (as_text(found.view()) != as_text(wanted.view())) return false;
  }
  return true;
}

runtime::Task<void> keep_reading(StoreWorld* world, const bool* done, int* reads) {
  std::uint64_t op = 0;
  while (!*done) {
    op = std::max(op, world->store->applied_op().value());
    const Buffer content = co_await world->store->read(10 * kBlockSize, 4 * kBlockSize);
    const std::uint64_t newest = world->store->applied_op().value();
    while (op < newest && !as_of(content, op)) ++op;
    EXPECT_TRUE(as_of(content, op)) << "not as of one op up to " << newest;
    ++*reads;
  }
}

TEST(BlockStore, ReadsBesideAppliesSeeWholeStatesAndAreNotStarved) {
  StoreWorld world(kBlocks);
  bool done = false;
  int reads = 0;
  runtime::TaskGroup tasks(world.loop,
                           [](std::exception_ptr error) { std::rethrow_exception(error); });
  tasks.spawn(keep_applying(&world, 200, &done));
  for (int reader = 0; reader < 5; ++reader) tasks.spawn(keep_reading(&world, &done, &reads));
  run(world.loop, tasks.close());
  EXPECT_GT(reads, 400);
  EXPECT_EQ(world.store->applied_op(), Op(200));
}

runtime::Task<void> apply_after(StoreWorld* world, int turns,
                                std::vector<protocol::Entry> entries) {
  for (int turn = 0; turn < turns; ++turn) co_await runtime::switch_to(world->loop);
  co_await world->store->apply(std::move(entries));
}

TEST(BlockStore, AppliesDuringACheckpointBelongToTheNext) {
  for (int turns = 0; turns < 30; ++turns) {
    StoreWorld world(kBlocks);
    AllSurvives all;
    world.apply_all({write_entry(1, 10, 1), write_entry(2, 11, 1)});
    {
      runtime::TaskGroup tasks(world.loop,
                               [](std::exception_ptr error) { std::rethrow_exception(error); });
      ReplicaState state;
      state.sessions = "as of 2";
      tasks.spawn(world.store->checkpoint(state));
      tasks.spawn(apply_after(&world, turns, {write_entry(3, 11, 2), trim_entry(4, 10, 1)}));
      run(world.loop, tasks.close());
    }
    EXPECT_EQ(world.store->applied_op(), Op(4));
    EXPECT_EQ(world.store->checkpoint_op(), Op(2));
    EXPECT_THAT(world.op_read(11, 4), Optional(3u));
    world.crash(all);
    EXPECT_EQ(world.store->state().sessions, "as of 2");
    EXPECT_EQ(run(world.loop, world.store->version(10)).op, Op(1));
    EXPECT_EQ(run(world.loop, world.store->version(11)).op, Op(2));
    EXPECT_EQ(run(world.loop, world.store->version(12)).op, Op(0));
  }
}

}  // namespace
}  // namespace datom::block_store

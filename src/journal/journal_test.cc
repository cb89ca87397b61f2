#include "journal/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <exception>
#include <functional>
#include <optional>

#include "common/error.h"
#include "journal/segment_header.h"
#include "journal/world_test.h"
#include "runtime/faulty_files.h"
#include "runtime/task_group.h"
#include "runtime/wait.h"

namespace datom::journal::testing {
namespace {

using protocol::EntryBatch;
using protocol::EntryId;
using ::testing::ElementsAre;
using ::testing::SizeIs;

// Where the first write of a segment begins.
const std::uint64_t kFirstWrite = content_begin(kSmall.segment_bytes);

constexpr Spec kWrite{kBlockSize, 0x5a};
constexpr Spec kTrim{0, 0};
constexpr Spec kAttach{333, 0x11};

Code code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "expected an Error";
  return Code::internal;
}

std::vector<Spec> many(std::size_t count, Spec spec) {
  return std::vector<Spec>(count, spec);
}

void fill_segments(World& world, std::size_t count) {
  while (world.segments().size() < count || world.journal().bytes_kept() < (count - 1) * 60000) {
    world.append({{2 * kBlockSize}, kTrim});
  }
}

// So that the segment written to has had an earlier life, as will the next.
void recycle_segments(World& world) {
  fill_segments(world, 5);
  world.trim_through(world.journal().last().op.value());
  while (world.journal().bytes_kept() < 80000) world.append({kWrite, kTrim});
}

// --- what is appended is there ---

TEST(Journal, BeginsBehindItsBase) {
  World world;
  const EntryId base{Term(4), Op(41), 0x1234};
  world.create(base);
  world.open();
  EXPECT_EQ(world.journal().base(), base);
  EXPECT_EQ(world.journal().last(), base);
  EXPECT_EQ(world.journal().first_op(), Op(42));
  EXPECT_EQ(world.journal().id_at(Op(41)), base);
  EXPECT_EQ(world.journal().id_at(Op(42)), std::nullopt);
  EXPECT_EQ(world.journal().id_at(Op(40)), std::nullopt);
  EXPECT_TRUE(world.journal().head_certain());
}

TEST(Journal, HoldsWhatWasAppendedAlsoAfterReopening) {
  World world;
  world.create();
  world.open();
  world.append({kWrite, kTrim, kAttach});
  world.append({{2 * kBlockSize}});
  world.check();
  EXPECT_EQ(world.journal().last().op, Op(4));
  EXPECT_EQ(world.journal().highest_commit_hint(), Op(1));
  world.reopen();
  world.check();
  EXPECT_EQ(world.journal().highest_commit_hint(), Op(1));
  world.append({kWrite});
  world.reopen();
  world.check();
  EXPECT_EQ(world.journal().last().op, Op(5));
}

TEST(Journal, GoesOnInTheNextSegmentWhenABatchDoesNotFit) {
  World world;
  world.create();
  world.open();
  for (int i = 0; i < 60; ++i) world.append(many(1 + i % 6, kWrite));
  EXPECT_GT(world.segments().size(), 10u);
  world.check();
  world.reopen();
  world.check();
}

TEST(Journal, WritesABatchWhoseFramesMeetABlockBoundary) {
  World world;
  world.create();
  world.open();
  world.append(many(32, kTrim));  // one block to the byte
  world.append(many(70, kTrim));
  std::vector<Spec> mixed = many(31, kTrim);
  mixed.push_back(kWrite);
  mixed.push_back(kWrite);
  world.append(mixed);
  world.check();
  world.reopen();
  world.check();
}

TEST(Journal, TakesABatchFromMemoryThatBeginsAnywhere) {
  World world;
  world.create();
  world.open();
  EntryBatch batch = make_batch({}, {kWrite, kWrite});
  Buffer shifted = Buffer::allocate(batch.bytes.size() + 64);
  std::memcpy(shifted.mutable_data() + 64, batch.bytes.data(), batch.bytes.size());
  batch.bytes = shifted.slice(64, batch.bytes.size());
  world.append_batch(batch);
  world.reopen();
  world.check();
}

TEST(Journal, PreparesTheNextSegmentBeforeThisOneIsFull) {
  World world;
  world.create();
  world.open();
  EXPECT_THAT(world.segments(), SizeIs(1));
  while (world.journal().bytes_kept() < kSmall.segment_bytes / 2) world.append({kWrite});
  world.loop().run_ready();
  EXPECT_THAT(world.segments(), SizeIs(2));
  world.append({kWrite});
  world.loop().run_ready();
  EXPECT_THAT(world.segments(), SizeIs(2));
}

// --- reading ---

TEST(Journal, ReadsAsManyEntriesAsFitAndAtLeastOne) {
  World world;
  world.create();
  world.open();
  for (int i = 0; i < 30; ++i) world.append({kWrite});
  EXPECT_THAT(world.read(1, 1).headers, SizeIs(1));
  EXPECT_THAT(world.read(1, 8192).headers, SizeIs(1));
  EXPECT_THAT(world.read(1, 3 * 4096).headers, SizeIs(2));
  EXPECT_THAT(world.read(29, 1 << 20).headers, SizeIs(2));
  // What was read can be appended elsewhere.
  const EntryBatch most = world.read(3, 1 << 20);
  EXPECT_LE(most.bytes.size(), kSmall.max_batch_bytes);
  EXPECT_THAT(most.headers, SizeIs(6));
  EXPECT_EQ(most.bytes.size() % kBlockSize, 0u);
  EXPECT_EQ(most.headers.front().op, Op(3));
}

TEST(Journal, ReadsAcrossSegmentsAndBatches) {
  World world;
  world.create();
  world.open();
  fill_segments(world, 4);
  const Op last = world.journal().last().op;
  for (Op op(1); op <= last; op = op.next()) {
    const EntryBatch batch = world.read(op.value(), 28 << 10);
    ASSERT_EQ(batch.headers.front().id(), world.model().at(op));
    ASSERT_EQ(protocol::parse_batch(batch.bytes, kVolume).headers.size(), batch.headers.size());
  }
}

TEST(Journal, NeverGivesAnEntryThatRotted) {
  World world;
  world.create();
  world.open();
  for (int i = 0; i < 3; ++i) world.append({kWrite});
  world.flip_bit(0, kFirstWrite + 8192 + 1000);
  EXPECT_EQ(code_of([&] { world.read(2, 1); }), Code::corrupt);
  EXPECT_THAT(world.read(1, 1).headers, SizeIs(1));
  EXPECT_THAT(world.read(3, 1).headers, SizeIs(1));
}

TEST(Journal, AReadGoesOnWhileItsSegmentIsTrimmed) {
  World world;
  world.create();
  world.open();
  fill_segments(world, 3);
  std::size_t found = 0;
  const auto read = [](Journal* journal, std::size_t* count) -> runtime::Task<void> {
    const EntryBatch batch = co_await journal->read(Op(1), 8192);
    *count = batch.headers.size();
  };
  runtime::TaskGroup group(world.loop(), [](std::exception_ptr) { FAIL(); });
  group.spawn(read(&world.journal(), &found));
  world.trim_through(world.journal().last().op.value());
  world.run(group.close());
  EXPECT_EQ(found, 1u);
  EXPECT_GT(world.journal().first_op(), Op(1));
}

// --- the tail goes ---

TEST(Journal, TruncatesToAnyEntryAndGoesOnFromThere) {
  for (std::uint64_t keep = 0; keep <= 40; ++keep) {
    World world;
    world.create();
    world.open();
    for (int i = 0; i < 10; ++i) world.append({kWrite, kTrim, kAttach, {2 * kBlockSize}});
    world.truncate_after(keep);
    world.check();
    world.reopen();
    world.check();
    world.append({kWrite, kTrim}, Term(2));
    world.append(many(6, kWrite), Term(2));
    world.check();
    world.reopen();
    world.check();
    ASSERT_EQ(world.journal().last().op, Op(keep + 8));
  }
}

TEST(Journal, TruncationRemovesLaterSegmentsAndForgetsTheirHints) {
  World world;
  world.create();
  world.open();
  fill_segments(world, 4);
  world.truncate_after(2);
  EXPECT_EQ(world.journal().highest_commit_hint(), Op(0));
  EXPECT_LE(world.segments().size(), 2u);
  world.reopen();
  world.check();
}

// The place of the cut entries holds nothing that could come back behind new ones.
TEST(Journal, WhatWasCutDoesNotComeBackBehindNewEntries) {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    World world(seed);
    world.create();
    world.open();
    for (int i = 0; i < 5; ++i) world.append({kWrite});
    world.truncate_after(1);
    // The same shapes at the same places: an old entry would fit in length and op.
    for (std::size_t turns = 0;
         world.cut_power_during([](World& w) { w.append({kWrite}, Term(2)); }, turns); ++turns) {
      ASSERT_LE(world.journal().last().op, Op(2));
      world.truncate_after(1);
    }
    ASSERT_EQ(world.journal().last().op, Op(2));
    world.check();
  }
}

// --- the beginning goes ---

TEST(Journal, TrimDropsOnlyWholeSegmentsBelowTheOp) {
  World world;
  world.create();
  world.open();
  fill_segments(world, 4);
  const std::uint64_t kept = world.journal().bytes_kept();
  world.trim_through(1);
  EXPECT_EQ(world.journal().first_op(), Op(1));
  world.trim_through(world.journal().last().op.value());
  EXPECT_GT(world.journal().first_op(), Op(1));
  EXPECT_LT(world.journal().bytes_kept(), kept / 2);
  world.check();
  world.reopen();
  world.check();
  world.append({kWrite});
  world.check();
}

TEST(Journal, ResetGoesOnBehindTheNewBase) {
  World world;
  world.create();
  world.open();
  fill_segments(world, 3);
  const EntryId base{Term(9), Op(5000), 99};
  world.reset(base);
  world.check();
  EXPECT_EQ(world.journal().last(), base);
  EXPECT_EQ(world.journal().highest_commit_hint(), Op(0));
  world.append({kWrite}, Term(9));
  world.reopen();
  world.check();
  EXPECT_EQ(world.journal().first_op(), Op(5001));
}

// --- segments that have another life ---

TEST(JournalRecycling, WhatWasTrimmedIsWrittenAgainInTheSameFiles) {
  World world;
  world.create();
  world.open();
  fill_segments(world, 5);
  world.trim_through(world.journal().last().op.value());
  const std::vector<std::string> files = world.segments();
  for (int round = 0; round < 200; ++round) {
    world.append(many(5, {kBlockSize, round}));
    if (world.journal().bytes_kept() > 120000) {
      world.trim_through(world.journal().last().op.value());
    }
    world.loop().run_ready();
    ASSERT_EQ(world.segments(), files);
    ASSERT_NO_FATAL_FAILURE(world.check());
  }
  world.reopen();
  world.check();
}

TEST(JournalRecycling, SegmentsOfAnEarlierProcessAreWrittenAgainToo) {
  World world;
  world.create();
  world.open();
  recycle_segments(world);
  fill_segments(world, 5);
  world.reopen();
  world.trim_through(world.journal().last().op.value());
  const std::vector<std::string> files = world.segments();
  EXPECT_GE(files.size(), 4u);
  for (int round = 0; round < 20; ++round) {
    for (std::size_t turns = 0; turns < 4; ++turns) world.append(many(5, {kBlockSize, round}));
    world.trim_through(world.journal().last().op.value());
  }
  EXPECT_EQ(world.segments(), files);
  world.reopen();
  world.check();
}

TEST(JournalRecycling, NoMoreThanSomeSegmentsAreKeptForIt) {
  World world;
  world.create();
  world.open();
  fill_segments(world, 30);
  world.trim_through(world.journal().last().op.value());
  EXPECT_THAT(world.segments(), SizeIs(9));
  world.check();
  world.reopen();
  world.check();
}

TEST(JournalRecycling, SparesThatAreWantedNoMoreGoButForWhatIsPromised) {
  World world;
  world.create();
  world.open();
  fill_segments(world, 6);
  const Op last = world.journal().last().op;
  world.trim_through(last.value());
  const std::uint64_t before = world.journal().bytes_spare();
  constexpr int kPromised = 5;
  for (int i = 0; i < kPromised; ++i) world.reserve(4 * kBlockSize + 200);
  world.run(world.journal().trim_through(world.journal().base().op, 0, 0));
  EXPECT_LT(world.journal().bytes_spare(), before);
  EXPECT_GT(world.journal().bytes_spare(), kSmall.segment_bytes);
  world.disk().limit(1);
  for (int i = 0; i < kPromised; ++i) world.append({{4 * kBlockSize}});
  world.check();
  world.reopen();  // nothing is promised any more
  world.run(world.journal().trim_through(world.journal().base().op, 0, 0));
  EXPECT_LE(world.journal().bytes_spare(), kSmall.segment_bytes);
  world.append({kWrite});
  world.check();
  world.reopen();
  world.check();
}

TEST(JournalRecycling, SparesServeReservationsOnAFullDisk) {
  World world;
  world.create();
  world.open();
  fill_segments(world, 6);
  world.trim_through(world.journal().last().op.value());
  world.disk().limit(1);
  for (int i = 0; i < 6; ++i) {
    world.reserve(4 * kBlockSize + 128);
    world.append({{4 * kBlockSize}});
  }
  world.check();
}

TEST(JournalRecycling, NothingOfASpareComesBackAfterAResetToAnEarlierOp) {
  for (const std::uint64_t op : {1, 20, 100000}) {
    World world;
    world.create();
    world.open();
    fill_segments(world, 6);
    const EntryId base = op < 100 ? world.model().at(Op(op)) : EntryId{Term(9), Op(op), 1};
    world.trim_through(world.journal().last().op.value());
    world.reset(base);
    world.check();
    world.reopen();
    world.check();
    world.append({kWrite}, Term(9));
    world.reopen();
    world.check();
  }
}

// --- power cuts: at every turn of every kind of change, with several fates of what was unsynced
// ---

void expect_safe_at_every_turn(const std::function<void(World&)>& prepare,
                               const std::function<void(World&)>& step) {
  bool cut = true;
  std::size_t turns = 0;
  for (; cut; ++turns) {
    cut = false;
    for (std::uint64_t seed = 0; seed < 16; ++seed) {
      World world(seed * 1000 + turns);
      world.create();
      world.open();
      prepare(world);
      cut |= world.cut_power_during(step, turns);
      ASSERT_FALSE(::testing::Test::HasFatalFailure()) << "turn " << turns << " seed " << seed;
      // And it goes on.
      world.append({kWrite, kTrim}, Term(3));
      world.reopen();
      ASSERT_NO_FATAL_FAILURE(world.check());
    }
  }
  EXPECT_GT(turns, 1u);
}

TEST(JournalPowerCut, DuringAnAppend) {
  expect_safe_at_every_turn(
      [](World& world) { world.append({kWrite, kAttach}); },
      [](World& world) { world.append({kWrite, kTrim, {2 * kBlockSize}, kAttach}); });
}

TEST(JournalPowerCut, DuringAnAppendOfManyWrites) {
  expect_safe_at_every_turn([](World& world) { world.append({kWrite}); },
                            [](World& world) { world.append(many(150, kTrim)); });
}

TEST(JournalPowerCut, DuringAnAppendThatBeginsASegment) {
  expect_safe_at_every_turn(
      [](World& world) {
        while (world.journal().bytes_kept() < 60000) world.append({kWrite, kWrite});
      },
      [](World& world) { world.append(many(5, kWrite)); });
}

TEST(JournalPowerCut, DuringAnAppendOverAnEarlierLife) {
  expect_safe_at_every_turn(recycle_segments, [](World& world) {
    world.append({kWrite, kTrim, {2 * kBlockSize}, kAttach});
  });
}

TEST(JournalPowerCut, DuringAnAppendOfManyWritesOverAnEarlierLife) {
  expect_safe_at_every_turn(recycle_segments, [](World& world) { world.append(many(150, kTrim)); });
}

TEST(JournalPowerCut, DuringAnAppendThatBeginsASegmentWithAnEarlierLife) {
  expect_safe_at_every_turn(
      [](World& world) {
        recycle_segments(world);
        while (world.journal().bytes_kept() < 100000) world.append({kWrite});
      },
      [](World& world) { world.append(many(6, kWrite)); });
}

TEST(JournalPowerCut, DuringAnAppendOfManyWritesThatBeginsASegmentWithAnEarlierLife) {
  expect_safe_at_every_turn(
      [](World& world) {
        recycle_segments(world);
        while (world.journal().bytes_kept() < 105000) world.append({kWrite});
      },
      [](World& world) { world.append(many(150, kTrim)); });
}

TEST(JournalPowerCut, DuringATruncationOverAnEarlierLife) {
  expect_safe_at_every_turn(
      [](World& world) {
        recycle_segments(world);
        world.append({kWrite, kTrim, kAttach});
        world.append({kWrite, kTrim, kAttach});
      },
      [](World& world) { world.truncate_after(world.journal().last().op.value() - 5); });
}

TEST(JournalPowerCut, DuringAnAppendOverALifeOfAnEarlierProcess) {
  const auto prepare = [](World& world) {
    recycle_segments(world);
    fill_segments(world, 4);
    world.reopen();
    world.trim_through(world.journal().last().op.value());
    while (world.journal().bytes_kept() < 120000) world.append({kWrite, kTrim});
  };
  expect_safe_at_every_turn(
      prepare, [](World& world) { world.append({kWrite, kTrim, {2 * kBlockSize}, kAttach}); });
}

// One after another, without anything in between that could tidy up.
TEST(JournalPowerCut, AgainAndAgainAtTheSamePlaceOverAnEarlierLife) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    World world(seed);
    world.create();
    world.open();
    recycle_segments(world);
    for (std::size_t turns = 0; turns < 12; ++turns) {
      const std::size_t frames = 1 + world.random().below(5);
      const Term term(2 + turns);
      world.cut_power_during([&](World& w) { w.append(many(frames, kWrite), term); }, turns % 4);
      ASSERT_FALSE(HasFatalFailure()) << "seed " << seed << " turn " << turns;
    }
    world.check();
  }
}

TEST(JournalPowerCut, DuringATruncationInsideABatch) {
  expect_safe_at_every_turn(
      [](World& world) {
        for (int i = 0; i < 3; ++i) world.append({kWrite, kTrim, kAttach, kWrite, kTrim, kTrim});
      },
      [](World& world) { world.truncate_after(3); });
}

TEST(JournalPowerCut, DuringATruncationInsideASector) {
  expect_safe_at_every_turn([](World& world) { world.append(many(100, kTrim)); },
                            [](World& world) { world.truncate_after(41); });
}

TEST(JournalPowerCut, DuringATruncationOverSegments) {
  expect_safe_at_every_turn([](World& world) { fill_segments(world, 4); },
                            [](World& world) { world.truncate_after(2); });
}

TEST(JournalPowerCut, DuringATruncationToTheBase) {
  expect_safe_at_every_turn([](World& world) { fill_segments(world, 2); },
                            [](World& world) { world.truncate_after(0); });
}

TEST(JournalPowerCut, DuringATrim) {
  expect_safe_at_every_turn(
      [](World& world) { fill_segments(world, 5); },
      [](World& world) { world.trim_through(world.journal().last().op.value()); });
}

TEST(JournalPowerCut, DuringAReset) {
  expect_safe_at_every_turn([](World& world) { fill_segments(world, 3); },
                            [](World& world) { world.reset({Term(2), Op(700), 7}); });
}

TEST(JournalPowerCut, DuringAReservation) {
  expect_safe_at_every_turn([](World& world) { world.append({kWrite}); },
                            [](World& world) {
                              for (int i = 0; i < 20; ++i) world.reserve(8000);
                            });
}

TEST(JournalPowerCut, DuringCreationLeavesNoJournalOrAWholeOne) {
  bool cut = true;
  std::size_t found = 0;
  for (std::size_t turns = 0; cut; ++turns) {
    for (std::uint64_t seed = 0; seed < 12; ++seed) {
      World world(seed);
      cut = world.power_fails_during([&] { world.create({Term(1), Op(8), 3}); }, turns);
      world.begin_process();
      try {
        world.open();
        ++found;
      } catch (const Error& error) {
        ASSERT_EQ(error.code(), Code::not_found) << error.what();
        world.create({Term(1), Op(8), 3});
        world.open();
      }
      ASSERT_EQ(world.journal().base().op, Op(8));
      world.append({kWrite});
      world.reopen();
      ASSERT_EQ(world.journal().last().op, Op(9));
    }
  }
  EXPECT_GT(found, 0u);
}

TEST(JournalPowerCut, DuringRecoveryFromAPowerCut) {
  for (std::size_t first = 1; first < 12; ++first) {
    bool cut = true;
    for (std::size_t second = 0; cut; ++second) {
      World world(first * 100 + second);
      world.create();
      world.open();
      world.append({kWrite, kTrim});
      const EntryBatch batch = make_batch(world.journal().last(), {kWrite, kTrim, kAttach, kWrite});
      Model longest = world.model();
      longest.append(batch);
      world.power_fails_during([&] { world.append_batch(batch); }, first);
      world.begin_process();
      cut = world.power_fails_during([&] { world.open(); }, second);
      world.begin_process();
      world.open();
      ASSERT_NO_FATAL_FAILURE(expect_part_of(longest, world.journal(), Op(2), Op(6)));
    }
  }
}

// --- damage ---

// Opens what is damaged: the entries before the damage are there, the head is not to be trusted.
void expect_uncertain_behind(World& world, std::uint64_t op) {
  world.open();
  EXPECT_FALSE(world.journal().head_certain());
  EXPECT_EQ(world.journal().last().op, Op(op));
  EXPECT_EQ(world.journal().last(), world.model().at(Op(op)));
}

TEST(JournalDamage, AFlippedBitInTheMiddleMakesTheHeadUncertain) {
  World world;
  world.create();
  world.open();
  for (int i = 0; i < 5; ++i) world.append({kWrite});
  world.close();
  world.flip_bit(0, kFirstWrite + 2 * 8192 + 700);
  expect_uncertain_behind(world, 2);
}

TEST(JournalDamage, AFlippedBitInTheLastBatchMakesTheHeadUncertain) {
  for (const std::uint64_t byte : {0, 20, 127, 128, 2000, 4223}) {
    World world;
    world.create();
    world.open();
    for (int i = 0; i < 5; ++i) world.append({kWrite});
    world.close();
    world.flip_bit(0, kFirstWrite + 4 * 8192 + byte);
    expect_uncertain_behind(world, 4);
  }
}

TEST(JournalDamage, ALostSectorOfTheLastBatchIsCutAndOfAnEarlierOneIsNot) {
  for (std::uint64_t sector = 0; sector < 9; ++sector) {
    World world;
    world.create();
    world.open();
    for (int i = 0; i < 5; ++i) world.append({kWrite});
    world.close();
    world.clear_sector(0, kFirstWrite + 4 * 8192 + sector * 512);
    world.open();
    EXPECT_TRUE(world.journal().head_certain());
    EXPECT_EQ(world.journal().last().op, Op(4));
    world.close();
    world.clear_sector(0, kFirstWrite + 2 * 8192 + sector * 512);
    expect_uncertain_behind(world, 2);
  }
}

// The disk says that it wrote, and did not: the place is as it was in an earlier life.
TEST(JournalDamage, AWriteThatWasNotMadeOverAnEarlierLifeIsNoticed) {
  for (const std::size_t writes_lost : {0, 1, 2, 3}) {
    World world;
    world.create();
    world.open();
    recycle_segments(world);
    const Op kept = world.journal().last().op;
    const std::string name = world.newest_segment();
    const Buffer before = world.contents(name);
    for (int i = 0; i < 4; ++i) world.append({kWrite, kTrim});
    ASSERT_EQ(world.newest_segment(), name);
    const Buffer after = world.contents(name);
    std::size_t at = 0;
    while (std::memcmp(before.data() + at, after.data() + at, 512) == 0) at += 512;
    world.close();
    world.overwrite(name, at + writes_lost * 8192, before.view().subspan(at, 8192));
    world.open();
    // The last one is the limit: nothing shows that it was ever there.
    EXPECT_EQ(world.journal().head_certain(), writes_lost == 3);
    EXPECT_EQ(world.journal().last().op, Op(kept.value() + 2 * writes_lost));
  }
}

TEST(JournalDamage, ALaterSegmentThatDoesNotFollowMakesTheHeadUncertain) {
  World world;
  world.create();
  world.open();
  fill_segments(world, 4);
  const std::uint64_t last_of_first = [&] {
    std::uint64_t op = 0;
    std::uint64_t bytes = 0;
    for (; bytes + 12288 <= kSmall.segment_bytes - kFirstWrite; bytes += 12288) op += 2;
    return op;
  }();
  world.close();
  world.flip_bit(1, 60);  // its header
  expect_uncertain_behind(world, last_of_first);
}

TEST(JournalDamage, ALostSegmentFileMakesTheHeadUncertain) {
  World world;
  world.create();
  world.open();
  fill_segments(world, 4);
  const std::string path = kDirectory + "/" + world.segments().at(1);
  world.close();
  world.run(world.files().remove(path));
  world.open();
  EXPECT_FALSE(world.journal().head_certain());
  EXPECT_EQ(world.journal().last(), world.model().at(world.journal().last().op));
  EXPECT_LT(world.journal().last().op, world.model().last().op);
}

TEST(JournalDamage, ASegmentFileOfTheWrongSizeIsNotTakenForOneOfOurs) {
  for (const std::uint64_t size : {0, 100, 5000, 65536 - 4096, 65536 + 4096}) {
    World world;
    world.create();
    world.open();
    fill_segments(world, 4);
    world.close();
    const std::string path = kDirectory + "/" + world.segments().at(1);
    const auto resize = [](runtime::Filesystem* files, std::string name,
                           std::uint64_t bytes) -> runtime::Task<void> {
      const std::unique_ptr<runtime::File> file = co_await files->open(name, {});
      co_await file->resize(bytes);
      co_await file->sync();
    };
    world.run(resize(&world.files(), path, size));
    world.open();
    EXPECT_FALSE(world.journal().head_certain());
    EXPECT_EQ(world.journal().last(), world.model().at(world.journal().last().op));
  }
}

// Cutting the damage destroys the evidence of it: a restart must not take the head for certain.
TEST(JournalDamage, StaysUncertainOverPowerCutsUntilDeclaredCertain) {
  bool cut = true;
  for (std::size_t turns = 0; cut; ++turns) {
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
      World world(seed);
      world.create();
      world.open();
      fill_segments(world, 3);
      const Model all = world.model();
      world.close();
      world.flip_bit(0, kFirstWrite + 12288 * 2 + 700);
      world.open();
      ASSERT_FALSE(world.journal().head_certain());
      const EntryBatch tail = make_batch(all.at(Op(4)), {kWrite, kWrite}, Term(2));
      cut = world.power_fails_during([&] { world.run(world.journal().append(tail)); }, turns);
      world.begin_process();
      world.open();
      ASSERT_FALSE(world.journal().head_certain());
      ASSERT_GE(world.journal().last().op, Op(4));
      ASSERT_LE(world.journal().last().op, Op(6));
    }
  }
}

TEST(JournalDamage, IsOverOnceALeaderSuppliedTheTail) {
  World world;
  world.create();
  world.open();
  fill_segments(world, 3);
  const EntryId kept = world.model().at(Op(4));
  world.close();
  world.flip_bit(0, kFirstWrite + 12288 * 2 + 700);
  world.open();
  world.run(world.journal().append(make_batch(kept, {kWrite, kWrite}, Term(2))));
  EXPECT_FALSE(world.journal().head_certain());
  world.journal().declare_head_certain();
  EXPECT_TRUE(world.journal().head_certain());
  world.reopen();
  EXPECT_TRUE(world.journal().head_certain());
  EXPECT_EQ(world.journal().last().op, Op(6));
  EXPECT_EQ(world.journal().last().term, Term(2));
}

TEST(JournalDamage, ATruncationCutsItToo) {
  World world;
  world.create();
  world.open();
  for (int i = 0; i < 5; ++i) world.append({kWrite});
  world.close();
  world.flip_bit(0, kFirstWrite + 3 * 8192 + 700);
  world.open();
  world.run(world.journal().truncate_after(Op(2)));
  world.journal().declare_head_certain();
  world.reopen();
  EXPECT_TRUE(world.journal().head_certain());
  EXPECT_EQ(world.journal().last().op, Op(2));
}

TEST(JournalDamage, OfTheBeginningIsRefused) {
  World world;
  world.create();
  world.open();
  world.append({kWrite});
  world.close();
  world.flip_bit(0, 20);
  EXPECT_EQ(code_of([&] { world.open(); }), Code::corrupt);
}

TEST(JournalDamage, NoJournalIsNotFound) {
  World world;
  EXPECT_EQ(code_of([&] { world.open(); }), Code::not_found);
  world.run(world.files().make_directories(kDirectory));
  EXPECT_EQ(code_of([&] { world.open(); }), Code::not_found);
}

TEST(Journal, IsNotMadeWhereOneIs) {
  World world;
  world.create();
  EXPECT_EQ(code_of([&] { world.create(); }), Code::already_exists);
}

runtime::Task<void> open_other(World* world, Uuid volume) {
  const std::unique_ptr<Journal> journal =
      co_await Journal::open(world->files(), world->loop(), kDirectory, volume, kSmall);
  co_await journal->close();
}

TEST(Journal, OfAnotherVolumeIsRefused) {
  World world;
  world.create();
  world.open();
  world.append({kWrite});
  world.close();
  EXPECT_EQ(code_of([&] { world.run(open_other(&world, Uuid::from_random(1, 1))); }),
            Code::corrupt);
}

TEST(Journal, RefusesOptionsThatCannotWork) {
  World world;
  const auto create = [&](JournalOptions options) {
    return code_of(
        [&] { world.run(Journal::create(world.files(), kDirectory, kVolume, {}, options)); });
  };
  EXPECT_EQ(create({.segment_bytes = 65000, .max_batch_bytes = 8192}), Code::invalid_argument);
  EXPECT_EQ(create({.segment_bytes = 65536, .max_batch_bytes = 65536}), Code::invalid_argument);
  EXPECT_EQ(create({.segment_bytes = 65536, .max_batch_bytes = 0}), Code::invalid_argument);
  EXPECT_EQ(create({.segment_bytes = 8192, .max_batch_bytes = 4096}), Code::invalid_argument);
}

// --- full and failing disks ---

TEST(JournalSpace, AFullDiskRefusesAReservationAndTheJournalGoesOnWhenThereIsSpace) {
  World world;
  world.create();
  world.open();
  world.disk().limit(3 * kSmall.segment_bytes);
  std::uint64_t appended = 0;
  Code code{};
  for (int i = 0; i < 1000 && code != Code::no_space; ++i) {
    try {
      world.reserve(kBlockSize + 128);
      world.append({kWrite});
      ++appended;
    } catch (const Error& error) {
      code = error.code();
    }
  }
  EXPECT_EQ(code, Code::no_space);
  EXPECT_GT(appended, 8u);
  world.check();
  world.disk().limit(20 * kSmall.segment_bytes);
  for (int i = 0; i < 20; ++i) {
    world.reserve(kBlockSize + 128);
    world.append({kWrite});
  }
  world.check();
  world.reopen();
  world.check();
}

// However the entries are batched, padded and spread over segment ends.
TEST(JournalSpace, WhatWasReservedCanBeAppendedOnAFullDisk) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    World world(seed);
    world.create();
    world.open();
    std::vector<Spec> waiting;
    const auto append_some = [&](std::size_t most) {
      std::vector<Spec> batch;
      std::size_t bytes = 0;
      while (!waiting.empty() && batch.size() < most) {
        bytes += protocol::frame_bytes(waiting.back().payload);
        if (bytes > kSmall.max_batch_bytes) break;
        batch.push_back(waiting.back());
        waiting.pop_back();
      }
      world.append(batch);
    };
    for (int round = 0; round < 20; ++round) {
      const std::uint64_t count = 1 + world.random().below(30);
      world.disk().limit(UINT64_MAX);
      for (std::uint64_t i = 0; i < count; ++i) {
        const Spec spec{world.random().below(4) * kBlockSize, 0x33};
        world.reserve(protocol::frame_bytes(spec.payload));
        waiting.push_back(spec);
      }
      world.disk().limit(1);  // from here nothing new can be had
      while (!waiting.empty()) append_some(1 + world.random().below(12));
    }
    world.disk().limit(UINT64_MAX);
    world.check();
  }
}

// One batch each: the padding is as large as the content, or a fifth of every segment stays unused.
TEST(JournalSpace, PaddingAndSegmentEndsAreReservedToo) {
  const auto reserve_then_append = [](std::size_t count, std::size_t payload) {
    World world;
    world.create();
    world.open();
    for (std::size_t i = 0; i < count; ++i) world.reserve(protocol::frame_bytes(payload));
    world.disk().limit(1);
    for (std::size_t i = 0; i < count; ++i) world.append({{payload, 0x33}});
    world.check();
  };
  reserve_then_append(50, kBlockSize);
  reserve_then_append(16, 5 * kBlockSize);
}

TEST(JournalSpace, AReservationOfTooMuchIsRefused) {
  World world;
  world.create();
  world.open();
  EXPECT_EQ(code_of([&] { world.reserve(std::uint64_t{1} << 40); }), Code::too_large);
}

TEST(JournalSpace, ReservationsThatAreNotUsedTakeABoundedAmountOfDisk) {
  World world;
  world.create();
  world.open();
  for (int i = 0; i < 2000; ++i) world.reserve(8192);
  EXPECT_LE(world.segments().size(), 16u);
  world.append({kWrite});
  world.check();
}

TEST(Journal, AFailedSyncSurfacesAndNothingIsTakenAfterwards) {
  World world;
  world.create();
  world.open();
  world.append({kWrite});
  world.disk().fail_next_sync();
  EXPECT_EQ(code_of([&] { world.append({kWrite}); }), Code::io_error);
  EXPECT_EQ(code_of([&] { world.append({kWrite}); }), Code::io_error);
  EXPECT_EQ(code_of([&] { world.truncate_after(0); }), Code::io_error);
  EXPECT_EQ(code_of([&] { world.reserve(1); }), Code::io_error);
}

TEST(Journal, AFailedSyncOfAReservationSurfacesAndNothingIsTakenAfterwards) {
  World world;
  world.create();
  world.open();
  world.disk().fail_next_sync();
  EXPECT_EQ(code_of([&] { world.reserve(200 << 10); }), Code::io_error);
  EXPECT_EQ(code_of([&] { world.append({kWrite}); }), Code::io_error);
}

// The segment that is made ahead cannot be synced.
runtime::Task<void> fill_beside_a_failing_spare(World* world, std::optional<Code>* heard,
                                                std::optional<Code>* outcome) {
  const auto files = runtime::make_faulty_filesystem(
      runtime::make_memory_filesystem(world->loop(), world->disk()),
      [](const runtime::FileOperation& operation) { return operation.name == "sync" ? EIO : 0; });
  const std::unique_ptr<Journal> journal =
      co_await Journal::open(*files, world->loop(), kDirectory, kVolume, kSmall);
  journal->on_failure([heard](std::exception_ptr error) {
    *heard = code_of([&] { std::rethrow_exception(error); });
  });
  while (journal->bytes_kept() < kSmall.segment_bytes / 2) {
    co_await journal->append(make_batch(journal->last(), {kWrite}));
  }
  runtime::Timer timer(world->loop());
  co_await timer.sleep_for(std::chrono::seconds(1));
  try {
    co_await journal->append(make_batch(journal->last(), {kWrite}));
  } catch (const Error& error) {
    *outcome = error.code();
  }
  co_await journal->close();
}

TEST(Journal, AFailedSyncInTheBackgroundSurfaces) {
  World world;
  world.create();
  std::optional<Code> heard;
  std::optional<Code> outcome;
  world.run(fill_beside_a_failing_spare(&world, &heard, &outcome));
  EXPECT_EQ(heard, Code::io_error);
  EXPECT_EQ(outcome, Code::io_error);
}

// The header of the second segment is refused, the entries beside it are never answered for.
runtime::Task<void> append_beside_a_refused_header(World* world, std::optional<Code>* outcome) {
  bool refuses = false;
  runtime::Event answers(world->loop());
  const auto files = runtime::make_faulty_filesystem(
      runtime::make_memory_filesystem(world->loop(), world->disk()),
      [&](const runtime::FileOperation& operation) {
        return refuses && operation.name == "write" && operation.offset == 0 ? EIO : 0;
      },
      [&](runtime::FileOperation) -> runtime::Task<void> {
        if (refuses) co_await answers.wait();
      });
  const std::unique_ptr<Journal> journal =
      co_await Journal::open(*files, world->loop(), kDirectory, kVolume, kSmall);
  while (journal->bytes_kept() + 2 * kBlockSize <= kSmall.segment_bytes) {
    co_await journal->append(make_batch(journal->last(), {kWrite}));
  }
  refuses = true;
  try {
    co_await journal->append(make_batch(journal->last(), {kWrite}));
  } catch (const Error& error) {
    *outcome = error.code();
  }
  answers.set();
  co_await journal->close();
}

TEST(Journal, AnAppendFailsAtOnceThoughItsOtherWriteHangs) {
  World world;
  world.create();
  std::optional<Code> outcome;
  world.run(append_beside_a_refused_header(&world, &outcome));
  EXPECT_EQ(outcome, Code::io_error);
}

// --- a life of everything ---

Spec random_spec(World& world) {
  const std::uint64_t kind = world.random().below(10);
  if (kind < 3) return kTrim;
  if (kind < 4) return {1 + world.random().below(600), 0x21};
  const int fill = world.random().below(3) == 0 ? 0 : 0x77;
  return {(1 + world.random().below(2)) * kBlockSize, fill};
}

std::vector<Spec> random_batch(World& world) {
  std::vector<Spec> specs;
  std::size_t bytes = 0;
  const std::uint64_t count = 1 + world.random().below(world.random().below(4) == 0 ? 60 : 5);
  for (std::uint64_t i = 0; i < count; ++i) {
    const Spec spec = random_spec(world);
    bytes += protocol::frame_bytes(spec.payload);
    if (bytes > kSmall.max_batch_bytes) break;
    specs.push_back(spec);
  }
  return specs;
}

std::function<void(World&)> random_step(World& world) {
  const std::uint64_t first = world.journal().base().op.value();
  const std::uint64_t last = world.journal().last().op.value();
  const std::uint64_t some = first + world.random().below(last - first + 1);
  const Term term = world.journal().last().term;
  switch (world.random().below(16)) {
    case 0:
      return [some](World& w) { w.truncate_after(some); };
    case 1:
      return [last, first](World& w) {
        w.truncate_after(std::max(first, last - std::min<std::uint64_t>(last, 3)));
      };
    case 2:
      return [some](World& w) { w.trim_through(some); };
    case 3:
      if (world.random().below(4) != 0) return [](World& w) { w.check(); };
      return [last, term](World& w) { w.reset({term, Op(last + 10), 5}); };
    case 4:
      return [](World& w) { w.reserve(5000); };
    case 5:
      return [last](World& w) { w.trim_through(last); };
    default: {
      const std::vector<Spec> specs = random_batch(world);
      const Term next(term.value() + world.random().below(2));
      return [specs, next](World& w) { w.append(specs, next); };
    }
  }
}

TEST(JournalLife, HoldsWhatItAcknowledgedWhateverHappens) {
  std::size_t cuts = 0;
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    World world(seed);
    world.create({Term(1), Op(world.random().below(100)), 17});
    world.open();
    for (int round = 0; round < 60; ++round) {
      const auto step = random_step(world);
      if (world.random().below(6) == 0) {
        const std::uint64_t turns = world.random().below(world.random().below(2) == 0 ? 3 : 20);
        if (world.cut_power_during(step, turns)) ++cuts;
      } else {
        step(world);
      }
      if (world.random().below(12) == 0) world.reopen();
      ASSERT_FALSE(HasFatalFailure()) << "seed " << seed << " round " << round;
    }
    ASSERT_NO_FATAL_FAILURE(world.check()) << "seed " << seed;
  }
  EXPECT_GT(cuts, 1000u);
}

}  // namespace
}  // namespace datom::journal::testing

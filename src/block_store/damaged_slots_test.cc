// A superblock slot that is lost, at every moment of a sequence of promises and checkpoints.
#include <gmock/gmock.h>

#include <cerrno>

#include "block_store/model_fixture.h"
#include "block_store/superblock.h"
#include "runtime/faulty_files.h"

namespace datom::block_store {
namespace {

constexpr std::uint64_t kBlocks = 300;
const std::string kPath = std::string(StoreWorld::kDirectory) + "/superblock";

enum class Loss { flipped, zeroed, unreadable };

// What had been confirmed when the power was cut, and what had been asked for.
struct Progress {
  std::uint64_t promised = 0;
  std::uint64_t asked = 0;
  Op checkpoint;
};

runtime::Task<void> promise(StoreWorld& world, Progress& progress, std::uint64_t term) {
  progress.asked = term;
  co_await world.store->promise(Term(term));
  progress.promised = term;
}

runtime::Task<void> apply_and_checkpoint(StoreWorld& world, Progress& progress, std::uint64_t op) {
  std::vector<protocol::Entry> entries;
  entries.push_back(write_entry(op, op * 10, 3));
  co_await world.store->apply(std::move(entries));
  ReplicaState state = world.store->state();
  co_await world.store->checkpoint(std::move(state));
  progress.checkpoint = Op(op);
}

runtime::Task<void> history(StoreWorld& world, Progress& progress) {
  co_await promise(world, progress, 3);
  co_await apply_and_checkpoint(world, progress, 1);
  co_await promise(world, progress, 4);
  co_await promise(world, progress, 7);
  co_await apply_and_checkpoint(world, progress, 2);
  co_await promise(world, progress, 9);
}

runtime::Task<void> zero_slot(runtime::Filesystem& files, std::size_t slot) {
  const std::unique_ptr<runtime::File> file = co_await files.open(kPath, runtime::OpenOptions{});
  const Buffer zeros = Buffer::zeroed(kSuperblockSlotBytes);
  co_await file->write(slot * kSuperblockSlotBytes, zeros.view());
  co_await file->sync();
}

void lose(StoreWorld& world, std::size_t slot, Loss loss) {
  const std::uint64_t at = slot * kSuperblockSlotBytes;
  if (loss == Loss::flipped) world.disk.flip_bit(kPath, at + 65, 2);  // of the promise
  if (loss == Loss::zeroed) run(world.loop, zero_slot(*world.files, slot));
  if (loss != Loss::unreadable) return;
  auto lost = std::make_shared<bool>(true);
  world.files =
      runtime::make_faulty_filesystem(runtime::make_memory_filesystem(world.loop, world.disk),
                                      [lost, at](const runtime::FileOperation& operation) {
                                        if (operation.path != kPath || !operation.covers(at))
                                          return 0;
                                        if (operation.name == "write") *lost = false;
                                        return operation.name == "read" && *lost ? EIO : 0;
                                      });
}

class DamagedSlot : public ::testing::TestWithParam<std::tuple<std::size_t, Loss>> {};

// The kill leaves what was written, whole: one slot that is lost then never takes back a promise.
TEST_P(DamagedSlot, TakesBackNothingThatWasConfirmedWheneverItHappens) {
  const auto [slot, loss] = GetParam();
  bool finished = false;
  for (std::uint64_t turns = 1; !finished; ++turns) {
    SCOPED_TRACE(turns);
    StoreWorld world(kBlocks);
    Progress progress;
    AllSurvives survives;
    finished = run_until_cut(world, history(world, progress), turns, survives);
    world.close();
    world.files = runtime::make_memory_filesystem(world.loop, world.disk);
    lose(world, slot, loss);
    world.open();
    EXPECT_GE(world.store->state().promised, Term(progress.promised));
    EXPECT_LE(world.store->state().promised, Term(progress.asked));
    EXPECT_GE(world.store->checkpoint_op(), progress.checkpoint);
    // Opening has made it good: now the other one may go.
    const Term promised = world.store->state().promised;
    world.close();
    world.files = runtime::make_memory_filesystem(world.loop, world.disk);
    lose(world, 1 - slot, loss);
    world.open();
    EXPECT_EQ(world.store->state().promised, promised);
    if (turns > 2000) FAIL() << "the history does not end";
  }
}

INSTANTIATE_TEST_SUITE_P(Each, DamagedSlot,
                         ::testing::Combine(::testing::Values(0, 1),
                                            ::testing::Values(Loss::flipped, Loss::zeroed,
                                                              Loss::unreadable)));

// A power cut tears the slot being written, and the other one is lost as well: too much.
TEST(DamagedSlots, BothLostAreNeverAnOlderPromise) {
  runtime::SeededRandom random(7);
  std::size_t refused = 0;
  bool finished = false;
  for (std::uint64_t turns = 1; !finished && turns < 2000; ++turns) {
    for (const std::size_t slot : {0, 1}) {
      SCOPED_TRACE(turns);
      StoreWorld world(kBlocks);
      Progress progress;
      finished = run_until_cut(world, history(world, progress), turns, random);
      world.close();
      world.files = runtime::make_memory_filesystem(world.loop, world.disk);
      lose(world, slot, Loss::flipped);
      try {
        world.open();
        EXPECT_GE(world.store->state().promised, Term(progress.promised));
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::corrupt);
        EXPECT_THAT(error.what(), ::testing::HasSubstr("has to be replaced"));
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 0u) << "no cut tore a slot";
}

}  // namespace
}  // namespace datom::block_store

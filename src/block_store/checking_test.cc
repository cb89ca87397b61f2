// Damage is found, mended, and told from what is sound.
#include <gmock/gmock.h>

#include "block_store/model_fixture.h"
#include "block_store/table.h"

namespace datom::block_store {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::uint64_t kBlocks = 3000;
const std::string kData = std::string(StoreWorld::kDirectory) + "/layers/0/data";
const std::string kTable = std::string(StoreWorld::kDirectory) + "/layers/0/table";

std::vector<BlockNumber> damaged(StoreWorld& world, std::size_t most = 64) {
  std::vector<BlockNumber> found;
  for (BlockNumber from = 0; from < kBlocks;) {
    const CheckResult result = run(world.loop, world.store->check(from, kBlocks, most));
    EXPECT_GT(result.next, from);
    for (const Damage& damage : result.damaged) found.push_back(damage.version.block);
    from = result.next;
  }
  return found;
}

void damage_block(StoreWorld& world, BlockNumber block) {
  world.disk.flip_bit(kData, block * kBlockSize + 99, 3);
}

TEST(Checking, FindsWhatIsDamagedAndNothingElse) {
  StoreWorld world(kBlocks);
  world.apply_all({write_entry(1, 0, 700), zero_entry(2, 100, 50), trim_entry(3, 200, 20),
                   write_entry(4, 2999, 1)});
  EXPECT_THAT(damaged(world), IsEmpty());
  for (const BlockNumber block : {0, 120, 205, 300, 301, 2999}) damage_block(world, block);
  EXPECT_THAT(damaged(world), ElementsAre(0, 300, 301, 2999)) << "120 and 205 hold no data";
  EXPECT_THAT(damaged(world, 1), ElementsAre(0, 300, 301, 2999));
}

TEST(Checking, ReadsNoMoreThanItIsTold) {
  StoreWorld world(kBlocks);
  world.apply(write_entry(1, 0, 250));
  const CheckResult first = run(world.loop, world.store->check(0, kBlocks, 64));
  EXPECT_EQ(first.next, 64u);
  EXPECT_EQ(first.bytes, 64 * kBlockSize);
  const CheckResult last = run(world.loop, world.store->check(192, kBlocks, 64));
  EXPECT_EQ(last.next, kBlocks);
  EXPECT_EQ(last.bytes, 58 * kBlockSize);
}

TEST(Checking, ARepairedBlockReadsAsItWas) {
  StoreWorld world(kBlocks);
  world.apply(write_entry(1, 10, 4));
  const BlockVersion version = run(world.loop, world.store->version(11));
  const std::uint64_t fingerprint = world.store->fingerprint();
  damage_block(world, 11);
  run(world.loop, world.store->repair(version, content_of(1, 11)));
  EXPECT_EQ(world.op_read(11, 1), 1u);
  EXPECT_EQ(world.store->fingerprint(), fingerprint);
  EXPECT_THAT(damaged(world), IsEmpty());
}

TEST(Checking, ARepairTakesNoOtherContentAndNoOlderVersion) {
  StoreWorld world(kBlocks);
  world.apply(write_entry(1, 10, 4));
  const BlockVersion version = run(world.loop, world.store->version(11));
  EXPECT_EQ(code_of([&] { run(world.loop, world.store->repair(version, content_of(1, 12))); }),
            Code::corrupt);
  world.apply(write_entry(2, 11, 1));
  run(world.loop, world.store->repair(version, content_of(1, 11)));
  EXPECT_EQ(world.op_read(11, 2), 2u) << "the newer write wins";
}

TEST(Checking, ADamagedEntryIsReplaced) {
  StoreWorld world(kBlocks);
  world.apply_all({write_entry(1, 10, 4), zero_entry(2, 20, 1)});
  world.checkpoint();
  const BlockVersion data = run(world.loop, world.store->version(11));
  const BlockVersion zero = run(world.loop, world.store->version(20));
  const std::uint64_t fingerprint = world.store->fingerprint();
  world.close();
  world.disk.flip_bit(kTable, 11 * kTableEntryBytes + 9, 1);   // its checksum
  world.disk.flip_bit(kTable, 20 * kTableEntryBytes + 1, 4);   // its op
  world.disk.flip_bit(kTable, 900 * kTableEntryBytes + 7, 6);  // of a block never written
  world.open();
  EXPECT_THAT(damaged(world), ElementsAre(11, 20, 900));
  EXPECT_THAT(run(world.loop, world.store->damaged_entries(0, kBlocks * kBlockSize, 10)),
              ElementsAre(20, 900));
  BlockVersion none;
  none.block = 900;
  run(world.loop, world.store->replace_damaged(data, content_of(1, 11)));
  run(world.loop, world.store->replace_damaged(zero, Buffer()));
  run(world.loop, world.store->replace_damaged(none, Buffer()));
  EXPECT_THAT(damaged(world), IsEmpty());
  EXPECT_EQ(world.op_read(11, 1), 1u);
  EXPECT_EQ(world.store->fingerprint(), fingerprint);
  EXPECT_TRUE(run(world.loop, world.store->recount()));
  world.checkpoint();
  world.reopen();
  EXPECT_THAT(damaged(world), IsEmpty());
}

TEST(Checking, ADamagedEntryIsNotReplacedByWhatIsNotAppliedYet) {
  StoreWorld world(kBlocks);
  world.apply(write_entry(1, 10, 4));
  BlockVersion newer = run(world.loop, world.store->version(11));
  newer.op = Op(2);
  EXPECT_EQ(
      code_of([&] { run(world.loop, world.store->replace_damaged(newer, content_of(1, 11))); }),
      Code::conflict);
}

TEST(Checking, AnEntryThatSeemsNewerThanPossibleDoesNotKeepAWriteOut) {
  StoreWorld world(kBlocks);
  world.apply(write_entry(1, 10, 4));
  world.checkpoint();
  world.close();
  world.disk.flip_bit(kTable, 11 * kTableEntryBytes + 6, 0);
  world.open();
  world.apply(write_entry(2, 11, 1));
  EXPECT_EQ(world.op_read(11, 2), 2u);
}

TEST(Checking, ARecountMakesTheFingerprintThatOfTheTable) {
  StoreWorld world(kBlocks);
  StoreWorld other(kBlocks);
  for (StoreWorld* each : {&world, &other}) {
    each->apply(write_entry(1, 10, 4));
    each->checkpoint();
  }
  EXPECT_TRUE(run(world.loop, world.store->recount()));
  world.close();
  world.disk.flip_bit(kTable, 11 * kTableEntryBytes + 9, 1);
  world.open();
  // Overwriting the damaged entry takes away what never was counted.
  for (StoreWorld* each : {&world, &other}) each->apply(write_entry(2, 11, 1));
  EXPECT_NE(world.store->fingerprint(), other.store->fingerprint());
  EXPECT_FALSE(run(world.loop, world.store->recount()));
  EXPECT_EQ(world.store->fingerprint(), other.store->fingerprint());
  EXPECT_EQ(world.store->bytes_used(), other.store->bytes_used());
}

runtime::Task<void> apply_many(StoreWorld& world, Model& model, std::uint64_t last) {
  for (std::uint64_t op = 1; op <= last; ++op) {
    std::vector<protocol::Entry> one = model.entries(op, op);
    co_await world.store->apply(std::move(one));
  }
}
runtime::Task<void> recount_often(StoreWorld& world, Model& model, std::uint64_t last) {
  while (world.store->applied_op() < Op(last)) {
    const bool as_counted = co_await world.store->recount();
    EXPECT_TRUE(as_counted);
    EXPECT_EQ(world.store->fingerprint(), model.fingerprint(world.store->applied_op().value()));
  }
}

TEST(Checking, ARecountBesideAppliesIsExact) {
  constexpr std::uint64_t kMany = 100'000;  // pages enough for several steps
  StoreWorld world(kMany);
  Model model(kMany);
  runtime::SeededRandom random(5);
  constexpr std::uint64_t kOps = 60;
  for (std::uint64_t op = 0; op < kOps; ++op) model.grow(random);
  runtime::TaskGroup tasks(world.loop,
                           [](std::exception_ptr error) { std::rethrow_exception(error); });
  tasks.spawn(apply_many(world, model, kOps));
  tasks.spawn(recount_often(world, model, kOps));
  run(world.loop, tasks.close());
}

TEST(Checking, FingerprintsOfOpsALittleWhileAgoAreKnown) {
  StoreWorld world(kBlocks);
  std::vector<std::uint64_t> fingerprints = {world.store->fingerprint()};
  for (std::uint64_t op = 1; op <= 20; ++op) {
    world.apply(write_entry(op, op, 3));
    fingerprints.push_back(world.store->fingerprint());
  }
  for (std::uint64_t op = 0; op <= 20; ++op) {
    EXPECT_EQ(world.store->fingerprint_at(Op(op)), fingerprints[op]) << op;
  }
  EXPECT_EQ(world.store->fingerprint_at(Op(21)), std::nullopt);
  world.reopen();
  EXPECT_EQ(world.store->fingerprint_at(Op(3)), std::nullopt);
}

TEST(Checking, DigestsTellPagesApartThatHoldOtherVersions) {
  StoreWorld a(kBlocks);
  StoreWorld b(kBlocks);
  for (StoreWorld* each : {&a, &b}) each->apply(write_entry(1, 100, 400));
  const auto digests = [](StoreWorld& world) {
    return run(world.loop, world.store->digests(0, 100));
  };
  EXPECT_EQ(digests(a), digests(b));
  EXPECT_EQ(digests(a).size(), 12u);
  EXPECT_EQ(digests(a)[5], 0u);
  a.apply(trim_entry(2, 2000, 10));
  EXPECT_EQ(digests(a), digests(b)) << "holes are holes";
  a.apply(write_entry(3, 300, 1));
  b.apply_all({no_op_entry(2), write_entry(3, 300, 1), write_entry(4, 600, 1)});
  const std::vector<std::uint64_t> one = digests(a);
  const std::vector<std::uint64_t> other = digests(b);
  for (std::size_t page = 0; page < 12; ++page) {
    EXPECT_EQ(one[page] == other[page], page != 2) << page;
  }
}

}  // namespace
}  // namespace datom::block_store

#include "block_store/model_fixture.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "common/checksum.h"

namespace datom::block_store {

using protocol::Entry;
using protocol::EntryKind;

Model::Model(std::uint64_t blocks)
    : zeros_(checksum(Buffer::zeroed(kBlockSize).view())), past_(blocks) {
  for (std::vector<Past>& past : past_) past.push_back({0, BlockKind::hole, zeros_});
  fingerprints_.push_back(0);
  used_.push_back(0);
}

void Model::grow(runtime::Random& random) {
  const std::uint64_t op = last_op() + 1;
  const std::uint64_t blocks = past_.size();
  const std::uint64_t span = random.below(3) == 0 ? blocks : std::min<std::uint64_t>(blocks, 60);
  const BlockNumber first = random.below(span);
  const std::uint64_t most = std::min<std::uint64_t>(blocks - first, 12);
  const std::uint64_t count = 1 + random.below(most);
  const std::uint64_t long_count = 1 + random.below(std::min<std::uint64_t>(blocks - first, 900));
  switch (random.below(16)) {
    case 0:
      entries_.push_back(no_op_entry(op));
      break;
    case 1:
      entries_.push_back(zero_entry(op, first, long_count));
      break;
    case 2:
      entries_.push_back(trim_entry(op, first, long_count));
      break;
    case 3:
      entries_.push_back(zero_entry(op, first, count));
      break;
    case 4:
    case 5:
      entries_.push_back(trim_entry(op, first, count));
      break;
    case 6:
      entries_.push_back(write_zeros_entry(op, first, count));
      break;
    default:
      entries_.push_back(write_entry(op, first, count));
      break;
  }
  fold(entries_.back());
}

std::uint64_t Model::weight(BlockNumber block, const Past& past) const {
  if (past.checksum == zeros_) return 0;
  const std::uint64_t words[2] = {block, past.checksum};
  return checksum(std::as_bytes(std::span(words)));
}

void Model::fold(const Entry& entry) {
  const std::uint64_t op = entry.header.op.value();
  std::uint64_t fingerprint = fingerprints_.back();
  std::uint64_t used = used_.back();
  const BlockNumber first = entry.header.offset / kBlockSize;
  for (BlockNumber block = first; block < first + entry.header.length / kBlockSize; ++block) {
    const Past old = past_[block].back();
    Past next{op, BlockKind::hole, zeros_};
    if (entry.header.kind == EntryKind::write) {
      const std::size_t at = (block - first) * kBlockSize;
      next = {op, BlockKind::data, checksum(entry.payload.view().subspan(at, kBlockSize))};
    }
    if (entry.header.kind == EntryKind::zero) next.kind = BlockKind::zero;
    if (entry.header.kind == EntryKind::trim && old.op == 0) continue;
    fingerprint += weight(block, next) - weight(block, old);
    used += (next.kind != BlockKind::hole) - (old.kind != BlockKind::hole);
    past_[block].push_back(next);
  }
  fingerprints_.push_back(fingerprint);
  used_.push_back(used);
}

std::vector<Entry> Model::entries(std::uint64_t first, std::uint64_t last) const {
  if (first > last) return {};
  return {entries_.begin() + static_cast<std::ptrdiff_t>(first - 1),
          entries_.begin() + static_cast<std::ptrdiff_t>(last)};
}

const Model::Past& Model::at(BlockNumber block, std::uint64_t op) const {
  const std::vector<Past>& past = past_.at(block);
  return *std::prev(
      std::upper_bound(past.begin(), past.end(), op,
                       [](std::uint64_t wanted, const Past& known) { return wanted < known.op; }));
}

void Model::expect_equal(StoreWorld& world, bool trims_may_be_recorded) const {
  BlockStore& store = *world.store;
  ASSERT_EQ(store.applied_op(), Op(last_op()));
  EXPECT_TRUE(store.fingerprint_known());
  EXPECT_EQ(store.fingerprint(), fingerprint(last_op()));
  EXPECT_EQ(store.bytes_used(), bytes_used(last_op()));
  std::vector<BlockVersion> found(past_.size());
  for (const BlockVersion& version : world.versions()) found.at(version.block) = version;
  for (BlockNumber block = 0; block < past_.size(); ++block) {
    const Past& expected = past_[block].back();
    EXPECT_EQ(found[block].kind, expected.kind) << "block " << block;
    if (trims_may_be_recorded && expected.op == 0) continue;
    EXPECT_EQ(found[block].op, Op(expected.op)) << "block " << block;
  }
  constexpr std::uint64_t kAtOnce = 200;
  for (BlockNumber first = 0; first < past_.size(); first += kAtOnce) {
    const std::uint64_t count = std::min<std::uint64_t>(kAtOnce, past_.size() - first);
    const Buffer range = world.read(first, count);
    for (std::uint64_t i = 0; i < count; ++i) {
      const Buffer block = range.slice(i * kBlockSize, kBlockSize);
      EXPECT_EQ(checksum(block.view()), past_[first + i].back().checksum) << "block " << first + i;
    }
  }
}

namespace {

runtime::Task<void> cut_after(StoreWorld* world, std::uint64_t turns, const bool* done,
                              runtime::Random* survives, bool* cut) {
  for (std::uint64_t turn = 0; turn < turns && !*done; ++turn) {
    co_await runtime::switch_to(world->loop);
  }
  if (*done) co_return;
  *cut = true;
  world->disk.crash(*survives);
}

runtime::Task<void> finish(runtime::Task<void> task, bool* done) {
  co_await std::move(task);
  *done = true;
}

}  // namespace

bool run_until_cut(StoreWorld& world, runtime::Task<void> task, std::uint64_t turns,
                   runtime::Random& survives) {
  bool done = false;
  bool cut = false;
  std::exception_ptr error;
  runtime::TaskGroup tasks(world.loop, [&](std::exception_ptr thrown) {
    if (!error && !cut) error = thrown;
  });
  tasks.spawn(finish(std::move(task), &done));
  tasks.spawn(cut_after(&world, turns, &done, &survives, &cut));
  run(world.loop, tasks.close());
  if (error) std::rethrow_exception(error);
  return done;
}

}  // namespace datom::block_store

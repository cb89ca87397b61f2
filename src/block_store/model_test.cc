// Random histories, with the power cut anywhere, against the model: after redo the store is the
// fold of its journal (invariant DbIsFold), whatever it went through.
#include <gmock/gmock.h>

#include <algorithm>
#include <string>

#include "block_store/block_cache.h"
#include "block_store/model_fixture.h"
#include "common/checksum.h"

namespace datom::block_store {
namespace {

constexpr int kSeeds = 500;

class History {
 public:
  History(std::uint64_t seed, std::uint64_t blocks)
      : random_(seed),
        model_(blocks),
        cache_(random_.below(40) * kBlockSize),
        world_(blocks, {.table_cache_bytes = 0, .cache = &cache_}),
        blocks_(blocks) {}

  // Applies, takes checkpoints and reads side by side until the power is cut; then opens again.
  void live_until_cut() {
    stop_ = false;
    const std::uint64_t turns = random_.below(random_.below(4) == 0 ? 3000 : 300);
    AllSurvives all;
    const bool killed = random_.below(3) == 0;
    runtime::Random& survives = killed ? static_cast<runtime::Random&>(all) : random_;
    run_until_cut(world_, live(this), turns, survives);
    world_.crash(all);
    expect_as_of_a_checkpoint();
    redo_until_ = model_.last_op();
  }

  void redo_and_compare() {
    stop_ = false;
    run(world_.loop, apply_until(this, redo_until_));
    model_.expect_equal(world_);
  }

 private:
  void expect_as_of_a_checkpoint() {
    const BlockStore& store = *world_.store;
    EXPECT_GE(store.checkpoint_op(), acknowledged_);
    EXPECT_LE(store.checkpoint_op(), Op(model_.last_op()));
    EXPECT_EQ(store.state().sessions, sessions_as_of(store.checkpoint_op()));
    EXPECT_GE(store.state().config_epoch, saved_epoch_);
    acknowledged_ = store.checkpoint_op();
    epoch_ = saved_epoch_ = store.state().config_epoch;
    expect_fingerprint();
  }
  void expect_fingerprint() const {
    if (!world_.store->fingerprint_known()) return;
    const std::uint64_t op = world_.store->applied_op().value();
    EXPECT_EQ(world_.store->fingerprint(), model_.fingerprint(op)) << "op " << op;
    EXPECT_EQ(world_.store->bytes_used(), model_.bytes_used(op)) << "op " << op;
  }
  static std::string sessions_as_of(Op op) {
    return op == Op(0) ? "" : "as of " + std::to_string(op.value());
  }

  static runtime::Task<void> live(History* self) {
    runtime::TaskGroup tasks(self->world_.loop, [self](std::exception_ptr error) {
      self->stop_ = true;
      if (!self->error_) self->error_ = error;
    });
    self->error_ = nullptr;
    tasks.spawn(apply_until(self, self->model_.last_op() + 40));
    tasks.spawn(keep_checkpointing(self));
    for (int reader = 0; reader < 2; ++reader) tasks.spawn(keep_reading(self));
    co_await tasks.close();
    if (self->error_) std::rethrow_exception(self->error_);
  }

  static runtime::Task<void> apply_until(History* self, std::uint64_t last) {
    while (!self->stop_ && self->world_.store->applied_op() < Op(last)) {
      const std::uint64_t applied = self->world_.store->applied_op().value();
      const std::uint64_t end = std::min(last, applied + 1 + self->random_.below(8));
      while (self->model_.last_op() < end) self->model_.grow(self->random_);
      self->world_.store->cache_writes(self->random_.below(2) == 0);
      co_await self->world_.store->apply(self->model_.entries(applied + 1, end));
      self->expect_fingerprint();
    }
    self->stop_ = true;
  }

  static runtime::Task<void> keep_checkpointing(History* self) {
    while (!self->stop_) {
      const std::uint64_t pause = self->random_.below(60);
      for (std::uint64_t turn = 0; turn < pause; ++turn) {
        co_await runtime::switch_to(self->world_.loop);
      }
      BlockStore& store = *self->world_.store;
      ReplicaState state = store.state();
      state.config_epoch = ++self->epoch_;
      if (self->random_.below(4) == 0) {
        co_await store.save(state);
      } else {
        const Op op = store.applied_op();
        state.sessions = sessions_as_of(op);
        co_await store.checkpoint(state);
        EXPECT_EQ(store.checkpoint_op(), op);
        self->acknowledged_ = op;
      }
      self->saved_epoch_ = state.config_epoch;
    }
  }

  // Blocks are not read before redo is through.
  static runtime::Task<void> keep_reading(History* self) {
    while (!self->stop_) {
      co_await runtime::switch_to(self->world_.loop);
      BlockStore& store = *self->world_.store;
      if (store.applied_op() < Op(self->redo_until_)) continue;
      const BlockNumber first = self->random_.below(self->blocks_);
      const std::uint64_t count =
          1 + self->random_.below(std::min<std::uint64_t>(self->blocks_ - first, 40));
      const std::uint64_t oldest = store.applied_op().value();
      const Buffer content = co_await store.read(first * kBlockSize, count * kBlockSize);
      const std::uint64_t newest = store.applied_op().value();
      for (std::uint64_t i = 0; i < count; ++i) {
        self->expect_read(first + i, content.slice(i * kBlockSize, kBlockSize), oldest, newest);
      }
    }
  }
  void expect_read(BlockNumber block, const Buffer& found, std::uint64_t oldest,
                   std::uint64_t newest) const {
    const std::uint64_t checksum_found = checksum(found.view());
    bool matches = false;
    for (std::uint64_t op = oldest; op <= newest && !matches; ++op) {
      matches = model_.at(block, op).checksum == checksum_found;
    }
    EXPECT_TRUE(matches) << "block " << block << " is not as of any op from " << oldest << " to "
                         << newest;
  }

  runtime::SeededRandom random_;
  Model model_;
  BlockCache cache_;
  StoreWorld world_;
  const std::uint64_t blocks_;
  std::uint64_t redo_until_ = 0;
  Op acknowledged_;  // checkpoint that has returned
  std::uint64_t epoch_ = 0;
  std::uint64_t saved_epoch_ = 0;
  bool stop_ = false;
  std::exception_ptr error_;
};

TEST(BlockStoreModel, IsTheFoldOfItsJournalAfterAnySequenceOfPowerCuts) {
  for (int seed = 1; seed <= kSeeds && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    // Every tenth is larger than the table cache.
    History history(seed, seed % 10 == 0 ? 9000 : 700);
    const int cuts = 1 + seed % 5;
    for (int cut = 0; cut < cuts; ++cut) {
      history.live_until_cut();
      if (seed % 3 == 0) history.redo_and_compare();
    }
    history.redo_and_compare();
  }
}

}  // namespace
}  // namespace datom::block_store

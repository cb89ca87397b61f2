// Checkpoints: data, table and superblock reach the disk in an order that redo can always repair.
#include <algorithm>
#include <utility>

#include "block_store/block_store_impl.h"
#include "common/check.h"

namespace datom::block_store {
namespace {

void check_state(const ReplicaState& state, Op checkpoint) {
  // Blocks up to copy_from are not fetched again: a crash must not lose them.
  DATOM_CHECK(state.base_complete || state.copy_from <= checkpoint);
  if (state.sessions.size() <= kMaxSessionBytes) return;
  throw Error(Code::too_large, "{} bytes of sessions, at most {}", state.sessions.size(),
              kMaxSessionBytes);
}

}  // namespace

runtime::Task<void> BlockStore::Impl::checkpoint(ReplicaState state) {
  const UnderWay counted(*this);
  const Only only(saving);
  check_state(state, applied);
  DATOM_CHECK(!(copying && state.base_complete));
  Superblock next = superblock->current();
  next.state = std::move(state);
  next.checkpoint = applied;
  // Not known and not copying: redo is still below the horizon, which stays as it is.
  if (known || copying) {
    next.horizon = applied;
    next.fingerprint = fingerprint.value();
    next.blocks_used = blocks_used;
  }
  co_await or_stop(write_checkpoint(std::move(next), table.freeze()));
}

runtime::Task<void> BlockStore::Impl::write_checkpoint(Superblock next, Table::Snapshot snapshot) {
  const Superblock& durable = superblock->current();
  if (durable.state.base_complete && next.horizon > durable.horizon) {
    // From now on the table on disk may hold ops up to the new horizon. After a crash before the
    // end it is a mixture that redo makes exact at the horizon, and this fingerprint is that of it.
    Superblock begun = durable;
    begun.horizon = next.horizon;
    begun.fingerprint = next.fingerprint;
    begun.blocks_used = next.blocks_used;
    co_await write_superblock(std::move(begun));
  }
  co_await data->sync();  // before the table pages: they must not promise what is not there
  co_await table.write(std::move(snapshot));
  co_await write_superblock(std::move(next));
}

// A promise may have been made since `next` was taken from the superblock: it stays.
runtime::Task<void> BlockStore::Impl::write_superblock(Superblock next) {
  const runtime::Mutex::Holder turn = co_await superblock_writes.lock();
  next.state.promised = std::max(next.state.promised, superblock->current().state.promised);
  co_await superblock->write(std::move(next));
}

runtime::Task<void> BlockStore::Impl::promise(Term term) {
  const UnderWay counted(*this);
  co_await or_stop(write_promise(term));
}

runtime::Task<void> BlockStore::Impl::write_promise(Term term) {
  const runtime::Mutex::Holder turn = co_await superblock_writes.lock();
  Superblock next = superblock->current();
  if (next.state.promised >= term) co_return;
  next.state.promised = term;
  co_await superblock->write(std::move(next));
}

runtime::Task<void> BlockStore::Impl::save(ReplicaState state) {
  const UnderWay counted(*this);
  const Only only(saving);
  check_state(state, superblock->current().checkpoint);
  Superblock next = superblock->current();
  DATOM_CHECK(!state.base_complete || next.state.base_complete);
  next.state = std::move(state);
  co_await or_stop(write_superblock(std::move(next)));
}

}  // namespace datom::block_store

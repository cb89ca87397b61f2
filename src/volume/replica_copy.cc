// A follower whose missing entries the leader no longer has copies blocks: those newer than the op
// that it had applied, never the whole volume for the sake of a part. New entries stream in
// meanwhile; the op of each block decides which content is the newer one. Why that is right, and
// why it goes on where it was after any interruption: docs/replication.md, "Sync".
#include <algorithm>
#include <utility>

#include "block_store/concurrently.h"
#include "common/error.h"
#include "protocol/methods.h"
#include "volume/replica_impl.h"

namespace datom::volume {
namespace {

constexpr runtime::Duration kCallTimeout = std::chrono::seconds(5);
constexpr int kAttempts = 5;  // of a call, while its leadership lasts
constexpr runtime::Duration kBetweenAttempts = std::chrono::milliseconds(200);
constexpr runtime::Duration kPoll = std::chrono::milliseconds(20);
constexpr runtime::Duration kLongestPause = std::chrono::seconds(5);
constexpr runtime::Duration kPatience = std::chrono::seconds(30);  // without an entry that is due
constexpr std::uint32_t kVersionsAtOnce = 4096;
constexpr std::size_t kBlocksAtOnce = 256;

using block_store::BlockNumber;
using block_store::BlockVersion;
using WireVersion = protocol::NewerBlocksReply::Version;

BlockVersion version_of(const WireVersion& wire) {
  if (wire.kind() > static_cast<std::uint32_t>(block_store::BlockKind::data)) {
    throw Error(Code::corrupt, "block {} of kind {}", wire.block(), wire.kind());
  }
  return {wire.block(), Op(wire.op()), static_cast<block_store::BlockKind>(wire.kind()),
          wire.checksum()};
}

template <typename Message>
Message parsed(const rpc::Message& from) {
  Message message;
  if (!message.ParseFromString(from.header)) {
    throw Error(Code::corrupt, "a reply of {} bytes does not parse", from.header.size());
  }
  return message;
}

// The part of the volume that a page covers is its end's to say.
std::uint64_t next_block(const protocol::NewerBlocksReply& page, std::uint64_t from) {
  if (!page.end() && page.next_block() <= from) {
    throw Error(Code::corrupt, "a page from block {} on that goes on at block {}", from,
                page.next_block());
  }
  return page.next_block();
}

// The first ones of those that were asked for.
std::vector<block_store::PeerBlock> blocks_in(const protocol::ReadBlocksRequest& request,
                                              const protocol::ReadBlocksReply& reply,
                                              const Buffer& payload) {
  if (reply.versions_size() == 0 || reply.versions_size() > request.blocks_size()) {
    throw Error(Code::corrupt, "{} blocks in a reply to a request for {}", reply.versions_size(),
                request.blocks_size());
  }
  std::vector<block_store::PeerBlock> blocks;
  std::size_t at = 0;
  for (int i = 0; i < reply.versions_size(); ++i) {
    const BlockVersion version = version_of(reply.versions(i));
    const std::size_t size = version.kind == block_store::BlockKind::data ? kBlockSize : 0;
    if (at + size > payload.size() || version.block != request.blocks(i)) {
      throw Error(Code::corrupt, "block {} with {} bytes of payload left, asked for block {}",
                  version.block, payload.size() - at, request.blocks(i));
    }
    blocks.push_back({version, payload.slice(at, size)});
    at += size;
  }
  return blocks;
}

bool worth_another_try(Code code) {
  return code == Code::timeout || code == Code::unavailable || code == Code::outcome_unknown;
}

}  // namespace

Task<void> Replica::Impl::copy_from(std::string leader) {
  copying = true;
  sync_done = sync_total = 0;
  std::exception_ptr error;
  try {
    co_await copy_everything(leader);
  } catch (...) {
    error = std::current_exception();
  }
  copying = false;
  if (error) {
    std::string why = "?";
    Code code = Code::internal;
    try {
      std::rethrow_exception(error);
    } catch (const Error& e) {
      code = e.code();
      why = e.what();
    } catch (const std::exception& e) {
      why = e.what();
    }
    if (code == Code::io_error || code == Code::no_space || code == Code::internal) {
      fail("copying blocks", error);
    } else {
      log.info("replica.copy_interrupted", {{"leader", leader}}, why);
    }
  }
  apply_work.set();
  if (!stopping && trouble.empty()) perform(group->copy_ended(now(), !error));
}

Task<void> Replica::Impl::copy_everything(std::string leader) {
  CopySource source{leader, group->promised(), Op(0), Op(0)};
  protocol::CopyBeginRequest request;
  request.set_volume(volume.id.bytes.data(), volume.id.bytes.size());
  request.set_replica(self.replica.bytes.data(), self.replica.bytes.size());
  const rpc::Message answer =
      co_await ask_source(source, protocol::method::kBeginCopy, request.SerializeAsString());
  const auto begin = parsed<protocol::CopyBeginReply>(answer);
  if (Term(begin.leader_term()) != source.term) {
    throw Error(Code::unavailable, "{} answers for term {}, expected {}", leader,
                begin.leader_term(), source.term.value());
  }
  source.base = Op(begin.op());
  source.last = Op(begin.last_op());
  co_await adopt_base(source, begin);
  log.info("replica.copy",
           {{"leader", leader}, {"newer_than", store->state().copy_from}, {"up_to", source.base}});
  co_await count_blocks(source);
  const Op newest = co_await copy_blocks(source);
  co_await finish_copy(source, newest);
  log.info("replica.copied", {{"leader", leader}, {"op", store->applied_op()}});
}

void Replica::Impl::check_copy(const CopySource& source) const {
  if (stopping || !trouble.empty()) throw Error(Code::closed, "this replica stops");
  if (group->leader() != source.leader || group->promised() != source.term) {
    throw Error(Code::unavailable, "{} leads no more in term {}", source.leader,
                source.term.value());
  }
}

// What is asked can be asked again: a lost message does not end the copy.
Task<rpc::Message> Replica::Impl::ask_source(const CopySource& source, rpc::Method method,
                                             std::string request) {
  for (int attempt = 1;; ++attempt) {
    check_copy(source);
    try {
      rpc::Message question{request, {}};
      rpc::Message answer =
          co_await seams.caller->call(source.leader, method, std::move(question), kCallTimeout);
      check_copy(source);
      co_return answer;
    } catch (const Error& error) {
      if (!worth_another_try(error.code()) || attempt == kAttempts) throw;
    }
    co_await copy_pause(kBetweenAttempts);
  }
}

// Ends early when this replica stops.
Task<void> Replica::Impl::copy_pause(runtime::Duration pause) {
  if (stopping || !trouble.empty()) co_return;
  copy_timer.reset();
  co_await copy_timer.sleep_for(pause);
}

// From now on this replica is no base for anybody until the copy is complete: that is durable
// first. Its journal goes on behind the leader's applied op.
Task<void> Replica::Impl::adopt_base(CopySource source, protocol::CopyBeginReply begin) {
  const protocol::EntryId base{Term(begin.term()), Op(begin.op()), begin.checksum()};
  replication::Sessions taken(volume.access);
  taken.decode(begin.sessions());
  for (;;) {
    while (log_busy || !log_queue.empty()) {
      if (stopping || !trouble.empty()) throw Error(Code::closed, "this replica stops");
      co_await copy_pause(kPoll);
    }
    const runtime::Mutex::Holder journal_turn = co_await journal_access.lock();
    const runtime::Mutex::Holder apply_turn = co_await apply_access.lock();
    const runtime::Mutex::Holder store_turn = co_await superblock.lock();
    if (log_busy || !log_queue.empty()) continue;
    // The locks may have taken long. A replica that has sealed a later term meanwhile said what it
    // has: it must not give that up for a leader of the past.
    check_copy(source);
    if (base.op < store->applied_op()) {
      throw Error(Code::unavailable, "the leader has applied op {}, this replica op {}",
                  base.op.value(), store->applied_op().value());
    }
    if (!group->copy_wanted(base)) {
      throw Error(Code::unavailable, "the journal reaches beyond op {} by now", base.op.value());
    }
    apply_blocked = true;
    block_store::ReplicaState state = store->state();
    // What was applied since the checkpoint may be lost with the journal that is emptied now.
    if (state.base_complete) state.copy_from = store->checkpoint_op();
    state.base_complete = false;
    state.sessions = begin.sessions();
    perform(group->copy_started(now(), base));
    co_await store->save(std::move(state));
    co_await journal->reset(base);
    store->begin_copy(base.op, source.last);
    sessions = std::move(taken);
    recent_batches.clear();
    recent_bytes = 0;
    unapplied_bytes = 0;
    for (const auto& queued : log_queue) {
      const auto* write = std::get_if<replication::WriteLog>(&queued);
      if (write != nullptr) keep_recent(write->batch);
    }
    leader_fingerprint_op = Op(0);
    apply_goal = base.op;  // what was known to be committed behind it comes again
    apply_blocked = false;
    applied.reach(base.op);
    apply_work.set();
    co_return;
  }
}

protocol::NewerBlocksRequest Replica::Impl::newer_request(std::uint64_t from) const {
  protocol::NewerBlocksRequest request;
  request.set_volume(volume.id.bytes.data(), volume.id.bytes.size());
  request.set_replica(self.replica.bytes.data(), self.replica.bytes.size());
  request.set_from_block(from);
  request.set_newer_than(store->state().copy_from.value());
  request.set_limit(kVersionsAtOnce);
  return request;
}

// For the progress that is shown.
Task<void> Replica::Impl::count_blocks(const CopySource& source) {
  std::uint64_t total = 0;
  std::uint64_t from = 0;
  for (bool end = false; !end;) {
    protocol::NewerBlocksRequest request = newer_request(from);
    request.set_count_only(true);
    const rpc::Message answer =
        co_await ask_source(source, protocol::method::kNewerBlocks, request.SerializeAsString());
    const auto page = parsed<protocol::NewerBlocksReply>(answer);
    total += page.count();
    from = next_block(page, from);
    end = page.end();
  }
  sync_total = total;
}

// Gives the newest op that a copied block may be as of.
Task<Op> Replica::Impl::copy_blocks(const CopySource& source) {
  Op newest = source.base;
  std::uint64_t from = 0;
  for (bool end = false; !end;) {
    const rpc::Message answer = co_await ask_source(source, protocol::method::kNewerBlocks,
                                                    newer_request(from).SerializeAsString());
    const auto page = parsed<protocol::NewerBlocksReply>(answer);
    sync_bytes += answer.header.size();
    sync_bytes_total->add(static_cast<double>(answer.header.size()));
    newest = std::max(newest, Op(page.applied_op()));
    std::vector<BlockNumber> blocks = co_await missing(source, page);
    sync_done += static_cast<std::uint64_t>(page.versions_size()) - blocks.size();
    if (!blocks.empty()) co_await copy_listed(source, std::move(blocks), newest);
    from = next_block(page, from);
    end = page.end();
  }
  // Entries of the own table that the disk lost, of blocks that did not change meanwhile.
  std::vector<BlockNumber> damaged =
      co_await store->damaged_entries(0, volume.size, kVersionsAtOnce);
  while (!damaged.empty()) {
    const BlockNumber first = damaged.front();
    co_await copy_listed(source, std::move(damaged), newest);
    damaged = co_await store->damaged_entries(0, volume.size, kVersionsAtOnce);
    if (damaged.empty() || damaged.front() > first) continue;
    throw Error(Code::corrupt, "the table entry of block {} stays damaged", first);
  }
  co_return newest;
}

// Blocks of the page that are older here, but for those whose newest content comes with an entry.
Task<std::vector<BlockNumber>> Replica::Impl::missing(const CopySource& source,
                                                      const protocol::NewerBlocksReply& page) {
  std::vector<BlockNumber> blocks;
  for (const WireVersion& wire : page.versions()) {
    const BlockVersion there = version_of(wire);
    if (there.block >= volume.size / kBlockSize) {
      throw Error(Code::corrupt, "block {} of a volume of {} bytes", there.block, volume.size);
    }
    if (there.op > source.base) continue;
    Op here;
    try {
      here = (co_await store->version(there.block)).op;
    } catch (const Error& error) {
      if (error.code() != Code::corrupt) throw;  // a damaged table entry: the copy heals it
    }
    if (here < there.op) blocks.push_back(there.block);
  }
  co_return blocks;
}

// While one piece is installed, the next one is on its way.
Task<void> Replica::Impl::copy_listed(const CopySource& source, std::vector<BlockNumber> blocks,
                                      Op& newest) {
  CopyPiece piece;
  co_await ask_piece(source, blocks, 0, piece);
  for (std::size_t at = 0; at < blocks.size();) {
    newest = std::max(newest, piece.applied);
    const std::size_t count = piece.blocks.size();
    at += count;
    CopyPiece next;
    const auto work = [&](std::size_t which) {
      return which == 0 ? store->install(std::move(piece.blocks))
                        : ask_piece(source, blocks, at, next, piece.pause);
    };
    co_await block_store::run_concurrently(loop(), at < blocks.size() ? 2 : 1, 2, work);
    sync_done += count;
    apply_work.set();  // a checkpoint may be due
    piece = std::move(next);
  }
}

// As many of the blocks from `at` on as the leader gives at once.
Task<void> Replica::Impl::ask_piece(const CopySource& source,
                                    const std::vector<BlockNumber>& blocks, std::size_t at,
                                    CopyPiece& piece, runtime::Duration pause) {
  if (pause > runtime::Duration::zero()) co_await copy_pause(pause);
  const std::size_t until = std::min(blocks.size(), at + kBlocksAtOnce);
  protocol::ReadBlocksRequest request;
  request.set_volume(volume.id.bytes.data(), volume.id.bytes.size());
  request.set_replica(self.replica.bytes.data(), self.replica.bytes.size());
  for (std::size_t i = at; i < until; ++i) request.add_blocks(blocks[i]);
  const rpc::Message answer =
      co_await ask_source(source, protocol::method::kReadBlocks, request.SerializeAsString());
  const auto reply = parsed<protocol::ReadBlocksReply>(answer);
  const std::size_t bytes = answer.header.size() + answer.payload.size();
  sync_bytes += bytes;
  sync_bytes_total->add(static_cast<double>(bytes));
  bytes_since_checkpoint += bytes;
  piece.applied = Op(reply.applied_op());
  piece.pause = std::chrono::microseconds(
      std::min<std::uint64_t>(reply.pause_us(), kLongestPause / std::chrono::microseconds(1)));
  piece.blocks = blocks_in(request, reply, answer.payload);
}

// Once everything up to the newest copied op is applied here too, the blocks are as of one op. And
// all that the leader's journal held when this one was emptied is there again: some of it this
// replica may have acknowledged before.
Task<void> Replica::Impl::finish_copy(const CopySource& source, Op newest) {
  Op reached = store->applied_op();
  runtime::Time reached_at = loop().now();
  while (store->applied_op() < newest || journal->last().op < source.last) {
    check_copy(source);
    if (journal->last().op > reached) {
      reached = journal->last().op;
      reached_at = loop().now();
    }
    if (loop().now() - reached_at > kPatience) {
      throw Error(Code::unavailable, "no entries come behind op {}", reached.value());
    }
    co_await copy_pause(kPoll);
  }
  const runtime::Mutex::Holder apply_turn = co_await apply_access.lock();
  const runtime::Mutex::Holder store_turn = co_await superblock.lock();
  check_copy(source);
  co_await store->finish_copy(store->applied_op());
  block_store::ReplicaState state = store->state();
  state.base_complete = true;
  state.copy_from = Op(0);
  state.sessions = sessions.encode();
  co_await store->checkpoint(std::move(state));
  bytes_since_checkpoint = 0;
  last_checkpoint = loop().now();
}

}  // namespace datom::volume

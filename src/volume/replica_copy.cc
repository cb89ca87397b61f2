// Copying blocks to a follower whose missing entries the leader no longer has: what is newer than
// the op that the follower had applied moves, never the whole volume for the sake of a part. New
// entries stream in meanwhile; the op of each block decides which content is the newer one.
#include <algorithm>
#include <cstring>

#include "common/error.h"
#include "protocol/methods.h"
#include "volume/replica_impl.h"

namespace datom::volume {
namespace {

constexpr runtime::Duration kCallTimeout = std::chrono::seconds(10);
constexpr runtime::Duration kPoll = std::chrono::milliseconds(20);
constexpr runtime::Duration kPinFor = std::chrono::seconds(60);
constexpr std::uint32_t kVersionsAtOnce = 4096;
constexpr int kBlocksAtOnce = 256;

using block_store::BlockVersion;
using WireVersion = protocol::NewerBlocksReply::Version;

BlockVersion version_of(const WireVersion& wire) {
  if (wire.kind() > static_cast<std::uint32_t>(block_store::BlockKind::data)) {
    throw Error(Code::corrupt, "block {} of kind {}", wire.block(), wire.kind());
  }
  return {wire.block(), Op(wire.op()), static_cast<block_store::BlockKind>(wire.kind()),
          wire.checksum()};
}

void put(const BlockVersion& version, WireVersion* wire) {
  wire->set_block(version.block);
  wire->set_op(version.op.value());
  wire->set_kind(static_cast<std::uint32_t>(version.kind));
  wire->set_checksum(version.checksum);
}

template <typename Message>
Message parsed(const rpc::Message& from) {
  Message message;
  if (!message.ParseFromString(from.header)) {
    throw Error(Code::corrupt, "a reply of {} bytes does not parse", from.header.size());
  }
  return message;
}

}  // namespace

// ---- the follower
// ---------------------------------------------------------------------------------

Task<void> Replica::Impl::copy_from(std::string leader) {
  copying = true;
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
  rpc::Message question;
  protocol::CopyBeginRequest request;
  request.set_volume(volume.id.bytes.data(), volume.id.bytes.size());
  question.header = request.SerializeAsString();
  const rpc::Message answer = co_await seams.caller->call(leader, protocol::method::kBeginCopy,
                                                          std::move(question), kCallTimeout);
  check_copy(leader);
  co_await adopt_base(parsed<protocol::CopyBeginReply>(answer));
  log.info("replica.copy", {{"leader", leader}, {"newer_than", store->state().copy_from}});
  const Op newest = co_await copy_blocks(leader);
  co_await finish_copy(leader, newest);
  log.info("replica.copied", {{"leader", leader}, {"op", store->applied_op()}});
}

void Replica::Impl::check_copy(const std::string& leader) const {
  if (stopping || !trouble.empty()) throw Error(Code::closed, "this replica stops");
  if (group->leader() != leader) {
    throw Error(Code::unavailable, "{} leads no more", leader);
  }
}

// From now on this replica is no base for anybody until the copy is complete: that is durable
// first. Its journal goes on behind the leader's applied op.
Task<void> Replica::Impl::adopt_base(protocol::CopyBeginReply begin) {
  const protocol::EntryId base{Term(begin.term()), Op(begin.op()), begin.checksum()};
  replication::Sessions taken(volume.access);
  taken.decode(begin.sessions());
  for (;;) {
    while (log_busy || !log_queue.empty()) {
      if (stopping || !trouble.empty()) throw Error(Code::closed, "this replica stops");
      copy_timer.reset();
      co_await copy_timer.sleep_for(kPoll);
    }
    const runtime::Mutex::Holder journal_turn = co_await journal_access.lock();
    const runtime::Mutex::Holder apply_turn = co_await apply_access.lock();
    const runtime::Mutex::Holder store_turn = co_await superblock.lock();
    if (log_busy || !log_queue.empty()) continue;
    if (base.op < store->applied_op()) {
      throw Error(Code::unavailable, "the leader has applied op {}, this replica op {}",
                  base.op.value(), store->applied_op().value());
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
    store->begin_copy(base.op);
    sessions = std::move(taken);
    recent_batches.clear();
    recent_bytes = 0;
    for (const auto& queued : log_queue) {
      const auto* write = std::get_if<replication::WriteLog>(&queued);
      if (write == nullptr) continue;
      recent_batches.push_back(write->batch);
      recent_bytes += write->batch->bytes.size();
    }
    fingerprints.clear();
    apply_goal = std::max(apply_goal, base.op);
    apply_blocked = false;
    applied.reach(base.op);
    apply_work.set();
    co_return;
  }
}

// Gives the newest op that a copied block may be as of.
Task<Op> Replica::Impl::copy_blocks(std::string leader) {
  Op newest;
  std::uint64_t from = 0;
  for (bool end = false; !end;) {
    check_copy(leader);
    protocol::NewerBlocksRequest request;
    request.set_volume(volume.id.bytes.data(), volume.id.bytes.size());
    request.set_from_block(from);
    request.set_newer_than(store->state().copy_from.value());
    request.set_limit(kVersionsAtOnce);
    rpc::Message question;
    question.header = request.SerializeAsString();
    const rpc::Message answer = co_await seams.caller->call(leader, protocol::method::kNewerBlocks,
                                                            std::move(question), kCallTimeout);
    const auto page = parsed<protocol::NewerBlocksReply>(answer);
    end = page.end() || page.versions().empty();
    if (!end) from = page.versions(page.versions_size() - 1).block() + 1;
    newest = std::max(newest, Op(page.applied_op()));
    std::vector<block_store::BlockNumber> blocks = co_await missing(page);
    for (std::size_t i = 0; i < blocks.size(); i += kBlocksAtOnce) {
      check_copy(leader);
      const std::size_t until = std::min(blocks.size(), i + kBlocksAtOnce);
      const Op as_of =
          co_await fetch_blocks(leader, {blocks.begin() + static_cast<std::ptrdiff_t>(i),
                                         blocks.begin() + static_cast<std::ptrdiff_t>(until)});
      newest = std::max(newest, as_of);
    }
  }
  co_return newest;
}

// Blocks of the page that are older here.
Task<std::vector<block_store::BlockNumber>> Replica::Impl::missing(
    const protocol::NewerBlocksReply& page) {
  std::vector<block_store::BlockNumber> blocks;
  for (const WireVersion& wire : page.versions()) {
    const BlockVersion there = version_of(wire);
    if (there.block >= volume.size / kBlockSize) {
      throw Error(Code::corrupt, "block {} of a volume of {} bytes", there.block, volume.size);
    }
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

Task<Op> Replica::Impl::fetch_blocks(std::string leader,
                                     std::vector<block_store::BlockNumber> blocks) {
  protocol::ReadBlocksRequest request;
  request.set_volume(volume.id.bytes.data(), volume.id.bytes.size());
  for (const block_store::BlockNumber block : blocks) request.add_blocks(block);
  rpc::Message question;
  question.header = request.SerializeAsString();
  const rpc::Message answer = co_await seams.caller->call(leader, protocol::method::kReadBlocks,
                                                          std::move(question), kCallTimeout);
  const auto reply = parsed<protocol::ReadBlocksReply>(answer);
  std::size_t at = 0;
  for (const WireVersion& wire : reply.versions()) {
    const BlockVersion version = version_of(wire);
    const std::size_t size = version.kind == block_store::BlockKind::data ? kBlockSize : 0;
    if (at + size > answer.payload.size() || version.block >= volume.size / kBlockSize) {
      throw Error(Code::corrupt, "block {} with {} bytes of payload left", version.block,
                  answer.payload.size() - at);
    }
    co_await store->install(version, answer.payload.slice(at, size));
    at += size;
  }
  co_return Op(reply.applied_op());
}

// Once everything up to the newest copied op is applied here too, the blocks are as of one op.
Task<void> Replica::Impl::finish_copy(std::string leader, Op newest) {
  while (store->applied_op() < newest) {
    check_copy(leader);
    copy_timer.reset();
    co_await copy_timer.sleep_for(kPoll);
  }
  const runtime::Mutex::Holder apply_turn = co_await apply_access.lock();
  const runtime::Mutex::Holder store_turn = co_await superblock.lock();
  check_copy(leader);
  co_await store->finish_copy(store->applied_op());
  block_store::ReplicaState state = store->state();
  state.base_complete = true;
  state.copy_from = Op(0);
  state.sessions = sessions.encode();
  co_await store->checkpoint(std::move(state));
  bytes_since_checkpoint = 0;
  last_checkpoint = loop().now();
}

// ---- the leader
// -----------------------------------------------------------------------------------

// While a follower copies, the entries that it will need afterwards stay.
void Replica::Impl::pin_journal(Op op) {
  const bool pinned = copy_pin && loop().now() < copy_pin_until;
  copy_pin = pinned ? std::min(*copy_pin, op) : op;
  copy_pin_until = loop().now() + kPinFor;
}

Task<rpc::Message> Replica::Impl::begin_copy() {
  const Serving counted(serving, served);
  check_serves();
  const runtime::Mutex::Holder turn = co_await apply_access.lock();
  check_serves();
  const std::optional<protocol::EntryId> id = journal->id_at(store->applied_op());
  if (!id)
    throw Error(Code::unavailable, "op {} is not in the journal", store->applied_op().value());
  pin_journal(id->op);
  protocol::CopyBeginReply reply;
  reply.set_term(id->term.value());
  reply.set_op(id->op.value());
  reply.set_checksum(id->checksum);
  reply.set_sessions(sessions.encode());
  co_return rpc::Message{reply.SerializeAsString(), {}};
}

Task<rpc::Message> Replica::Impl::newer_blocks(protocol::NewerBlocksRequest request) {
  const Serving counted(serving, served);
  check_serves();
  if (copy_pin) pin_journal(*copy_pin);
  const std::size_t limit = std::clamp<std::size_t>(request.limit(), 1, kVersionsAtOnce);
  const auto versions =
      co_await store->newer_blocks(request.from_block(), Op(request.newer_than()), limit);
  protocol::NewerBlocksReply reply;
  for (const BlockVersion& version : versions) put(version, reply.add_versions());
  reply.set_end(versions.size() < limit);
  reply.set_applied_op(store->applied_op().value());
  co_return rpc::Message{reply.SerializeAsString(), {}};
}

Task<rpc::Message> Replica::Impl::read_blocks(protocol::ReadBlocksRequest request) {
  const Serving counted(serving, served);
  check_serves();
  if (copy_pin) pin_journal(*copy_pin);
  if (request.blocks_size() > kBlocksAtOnce) {
    throw Error(Code::too_large, "{} blocks at once, at most {}", request.blocks_size(),
                kBlocksAtOnce);
  }
  protocol::ReadBlocksReply reply;
  Buffer payload = Buffer::allocate(static_cast<std::size_t>(request.blocks_size()) * kBlockSize);
  std::size_t used = 0;
  // Version and content of a block belong together: nothing is applied between the two.
  const runtime::Mutex::Holder turn = co_await apply_access.lock();
  for (const std::uint64_t block : request.blocks()) {
    if (block >= volume.size / kBlockSize) {
      throw Error(Code::invalid_argument, "block {} of a volume of {} bytes", block, volume.size);
    }
    const BlockVersion version = co_await store->version(block);
    put(version, reply.add_versions());
    if (version.kind != block_store::BlockKind::data) continue;
    const Buffer content = co_await store->read(block * kBlockSize, kBlockSize);
    std::memcpy(payload.mutable_data() + used, content.data(), kBlockSize);
    used += kBlockSize;
  }
  reply.set_applied_op(store->applied_op().value());
  co_return rpc::Message{reply.SerializeAsString(), payload.slice(0, used)};
}

}  // namespace datom::volume

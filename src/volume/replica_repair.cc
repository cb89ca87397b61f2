// Blocks that this replica's disk lost come back from a peer. Rules S5, NoCorruptServed.
//
// A block whose content does not match: any peer's content will do that has the checksum of our own
// table entry for the same op. Nobody has to be trusted.
//
// A block whose table entry is damaged, or may be: no content matches it. What a block is as of an
// op A follows from the history up to A, which all replicas share. Take a peer with a complete base
// that has applied A' >= A and says: the last op that changed the block is p. If p <= A, nothing in
// (p, A'] changed it, hence nothing in (p, A]: the peer's version is the one that belongs here too.
// If p > A, it is not known what the block was as of A, and not needed either: this replica applies
// p first. A stays what it is because nothing is applied meanwhile (apply_access). The peer's own
// entry is sealed, and its content was compared with it; all peers that answer must agree. Only an
// entry of zeros (never written) bears no seal: it counts if nobody is missing.
#include <algorithm>
#include <set>

#include "common/checksum.h"
#include "common/error.h"
#include "protocol/methods.h"
#include "volume/block_care.h"
#include "volume/replica_impl.h"

namespace datom::volume {
namespace {

using block_store::BlockKind;
using block_store::BlockNumber;
using block_store::BlockVersion;
using block_store::Damage;

constexpr runtime::Duration kCallTimeout = std::chrono::seconds(1);
constexpr runtime::Duration kPatience = std::chrono::milliseconds(700);  // below the call's timeout
constexpr runtime::Duration kPoll = std::chrono::milliseconds(5);
constexpr int kMaxBlocks = 256;  // of one request
constexpr int kRounds = 4;
constexpr std::size_t kCheckAtOnce = 256;

bool same(const BlockVersion& a, const BlockVersion& b) {
  // A replica that was copied to may know of trims of blocks that were never written.
  if (a.kind == BlockKind::hole && b.kind == BlockKind::hole) return true;
  return a.op == b.op && a.kind == b.kind && a.checksum == b.checksum;
}

bool is_damage(Code code) {
  return code == Code::corrupt || code == Code::io_error;
}

}  // namespace

BlockCare::BlockCare(Replica::Impl& replica)
    : replica_(replica),
      repairing_(replica.loop()),
      whole_from_(replica.journal->last().op),
      timer_(replica.loop()),
      recounting_(replica.loop()),
      count_timer_(replica.loop()) {
  telemetry::Metrics& metrics = *replica.seams.metrics;
  const telemetry::Labels labels = {{"service", replica.options.service},
                                    {"volume", replica.volume.name}};
  repaired_total_ = metrics.counter("datom_repaired_blocks_total",
                                    "Blocks that the disk lost, repaired from a peer.", labels);
  unrepaired_total_ =
      metrics.counter("datom_unrepaired_blocks_total",
                      "Attempts to repair a block that no peer could help with.", labels);
  scrubbed_bytes_total_ = metrics.counter("datom_scrubbed_bytes_total",
                                          "Bytes read and verified in the background.", labels);
  scrubbed_at_gauge_ =
      metrics.gauge("datom_scrub_completed_timestamp_seconds",
                    "When the background last verified all blocks; 0: never.", labels);
}

// A crash may have torn blocks that ops behind the checkpoint had changed: until redo has been
// there, a mismatch is no damage, and the table no version of one op.
void BlockCare::check_whole() const {
  const Replica::Impl& replica = replica_;
  const bool whole =
      replica.trouble.empty() && !replica.stopping && replica.store->state().base_complete &&
      replica.store->applied_op() >= std::min(whole_from_, replica.journal->last().op);
  if (whole) return;
  throw Error(Code::unavailable, "the replica of volume {} at {} is not whole", replica.volume.name,
              replica.options.service);
}

// S1: a table that cannot be read, a block that cannot be written. Another one may lead.
void BlockCare::failed(std::exception_ptr error) {
  replica_.fail("reading or repairing blocks", std::move(error));
  throw Error(Code::not_leader, "{}", "");
}

// ---- reading ------------------------------------------------------------------------------------

Task<Buffer> BlockCare::read(std::uint64_t offset, std::uint64_t length) {
  for (int left = kRounds;; --left) {
    try {
      Buffer content = co_await replica_.store->read(offset, length);
      co_return content;
    } catch (const Error& error) {
      if (!is_damage(error.code()) || left == 0) throw;
    }
    co_await repair_range(offset, length);
  }
}

Task<std::vector<block_store::Extent>> BlockCare::extents(std::uint64_t offset,
                                                          std::uint64_t length, std::size_t most) {
  for (int left = kRounds;; --left) {
    try {
      std::vector<block_store::Extent> found =
          co_await replica_.store->extents(offset, length, most);
      co_return found;
    } catch (const Error& error) {
      if (error.code() != Code::corrupt || left == 0) throw;
    }
    co_await repair_entries(offset, length);
  }
}

Task<rpc::Message> BlockCare::newer_blocks(protocol::NewerBlocksRequest request) {
  const Serving counted(replica_.serving, replica_.served);
  for (int left = kRounds;; --left) {
    try {
      rpc::Message reply = co_await replica_.newer_blocks(request);
      co_return reply;
    } catch (const Error& error) {
      if (error.code() != Code::corrupt || left == 0) throw;
    }
    const std::uint64_t from = std::min(request.from_block() * kBlockSize, replica_.volume.size);
    co_await repair_entries(from, replica_.volume.size - from);
  }
}

Task<rpc::Message> BlockCare::read_blocks(protocol::ReadBlocksRequest request) {
  const Serving counted(replica_.serving, replica_.served);
  for (int left = kRounds;; --left) {
    try {
      rpc::Message reply = co_await replica_.read_blocks(request);
      co_return reply;
    } catch (const Error& error) {
      if (!is_damage(error.code()) || left == 0) throw;
    }
    for (const std::uint64_t block : request.blocks()) {
      co_await repair_range(block * kBlockSize, kBlockSize);
    }
  }
}

// ---- what peers are told ------------------------------------------------------------------------

Task<bool> BlockCare::reached(Op op, runtime::Duration patience) {
  replica_.want_applied(op);
  const runtime::Time until = replica_.loop().now() + patience;
  runtime::Timer timer(replica_.loop());
  while (replica_.store->applied_op() < op) {
    if (replica_.stopping || !replica_.trouble.empty() || replica_.loop().now() >= until) {
      co_return false;
    }
    co_await timer.sleep_for(kPoll);
  }
  co_return true;
}

// No lock is held: version and applied op are of one moment, and a content that does not match is
// looked at again if an apply has come in between.
Task<rpc::Message> BlockCare::blocks(protocol::BlocksRequest request) {
  const Serving counted(replica_.serving, replica_.served);
  check_whole();
  if (request.blocks_size() > kMaxBlocks) {
    throw Error(Code::too_large, "{} blocks at once, at most {}", request.blocks_size(),
                kMaxBlocks);
  }
  const bool there = co_await reached(Op(request.applied_at_least()), kPatience);
  if (!there) {
    throw Error(Code::unavailable, "{} has applied op {}, not op {} yet", replica_.options.service,
                replica_.store->applied_op().value(), request.applied_at_least());
  }
  check_whole();
  protocol::BlocksReply reply;
  std::vector<Buffer> contents;
  for (const std::uint64_t block : request.blocks()) {
    bool damaged = false;
    BlockVersion version;
    Buffer content;
    bool again = true;
    for (int left = kRounds; again && left > 0; --left) {
      again = false;
      damaged = false;
      try {
        version = co_await replica_.store->version(block);
        if (reply.blocks().empty()) reply.set_applied_op(replica_.store->applied_op().value());
        if (request.contents() && version.kind == BlockKind::data) {
          content = co_await replica_.store->read(block * kBlockSize, kBlockSize);
          again = checksum(content.view()) != version.checksum;
        }
      } catch (const Error& error) {
        if (!is_damage(error.code())) throw;
        damaged = true;
      }
    }
    if (again) throw Error(Code::unavailable, "block {} changes all the time", block);
    protocol::BlocksReply::Block* out = reply.add_blocks();
    version.block = block;
    out->mutable_version()->set_block(block);
    out->mutable_version()->set_op(version.op.value());
    out->mutable_version()->set_kind(static_cast<std::uint32_t>(version.kind));
    out->mutable_version()->set_checksum(version.checksum);
    out->set_damaged(damaged);
    if (request.contents() && !damaged && version.kind == BlockKind::data) {
      contents.push_back(std::move(content));
    }
  }
  rpc::Message message;
  message.header = reply.SerializeAsString();
  message.payload = Buffer::allocate(contents.size() * kBlockSize);
  for (std::size_t i = 0; i < contents.size(); ++i) {
    std::memcpy(message.payload.mutable_data() + i * kBlockSize, contents[i].data(), kBlockSize);
  }
  co_return message;
}

// ---- asking peers -------------------------------------------------------------------------------

// Every other member of the group.
std::vector<protocol::ReplicaRecord> BlockCare::peers() const {
  std::vector<protocol::ReplicaRecord> all;
  const auto& record = replica_.group->record();
  if (!record) {
    throw Error(Code::unavailable, "the members of volume {} are not known yet",
                replica_.volume.name);
  }
  const auto add = [&](const protocol::ReplicaRecord& one) {
    if (one.replica == replica_.self.replica) return;
    if (std::find(all.begin(), all.end(), one) == all.end()) all.push_back(one);
  };
  for (const protocol::ReplicaRecord& one : record->voters) add(one);
  for (const protocol::ReplicaRecord& one : record->next_voters) add(one);
  return all;
}

Task<BlockCare::Asked> BlockCare::ask_peers(std::vector<BlockNumber> blocks, Op applied_at_least) {
  protocol::BlocksRequest request;
  request.set_volume(replica_.volume.id.bytes.data(), replica_.volume.id.bytes.size());
  for (const BlockNumber block : blocks) request.add_blocks(block);
  request.set_applied_at_least(applied_at_least.value());
  request.set_contents(true);
  Asked asked;
  runtime::TaskGroup asking(replica_.loop(), [](std::exception_ptr) {});
  for (const protocol::ReplicaRecord& peer : peers()) {
    asking.spawn(ask_peer(peer.service, request, asked));
  }
  co_await asking.close();
  co_return asked;
}

Task<void> BlockCare::ask_peer(std::string service, const protocol::BlocksRequest& request,
                               Asked& asked) {
  Told told;
  told.service = service;
  bool answered = false;
  try {
    rpc::Message question;
    question.header = request.SerializeAsString();
    rpc::Message answer = co_await replica_.seams.caller->call(service, protocol::method::kBlocks,
                                                               std::move(question), kCallTimeout);
    answered = told.reply.ParseFromString(answer.header) &&
               told.reply.blocks_size() == request.blocks_size();
    told.payload = std::move(answer.payload);
  } catch (const Error& error) {
    replica_.log.debug("replica.repair_unanswered", {{"service", service}}, error.what());
  }
  if (answered) {
    asked.told.push_back(std::move(told));
  } else {
    asked.missing += (asked.missing.empty() ? "" : ", ") + service;
  }
}

// What a peer said of the one block it was asked about; what it says is verified.
BlockCare::Candidate BlockCare::candidate(const Told& told) const {
  const protocol::BlocksReply::Block& block = told.reply.blocks(0);
  Candidate out;
  out.service = told.service;
  out.damaged = block.damaged() || block.version().kind() > 2;
  if (out.damaged) return out;
  out.version = {block.version().block(), Op(block.version().op()),
                 static_cast<BlockKind>(block.version().kind()), block.version().checksum()};
  if (out.version.kind != BlockKind::data) {
    out.damaged = out.version.checksum != 0;
    return out;
  }
  out.content = told.payload;
  out.damaged =
      out.content.size() != kBlockSize || checksum(out.content.view()) != out.version.checksum;
  return out;
}

// ---- repairing ----------------------------------------------------------------------------------

Task<void> BlockCare::repair_range(std::uint64_t offset, std::uint64_t length) {
  check_whole();
  const BlockNumber end = (offset + length) / kBlockSize;
  for (BlockNumber from = offset / kBlockSize; from < end;) {
    const block_store::CheckResult result =
        co_await guarded(replica_.store->check(from, end, kCheckAtOnce));
    for (const Damage& damage : result.damaged) co_await repair(damage.version.block);
    from = result.next;
  }
}

Task<void> BlockCare::repair_entries(std::uint64_t offset, std::uint64_t length) {
  check_whole();
  const std::vector<BlockNumber> damaged =
      co_await guarded(replica_.store->damaged_entries(offset, length, kCheckAtOnce));
  for (const BlockNumber block : damaged) co_await repair(block);
}

Task<std::optional<Damage>> BlockCare::damage_of(BlockNumber block) {
  const block_store::CheckResult result =
      co_await guarded(replica_.store->check(block, block + 1, 1));
  std::optional<Damage> damage;
  if (!result.damaged.empty()) damage = result.damaged.front();
  co_return damage;
}

Task<void> BlockCare::repair(BlockNumber block) {
  const runtime::Mutex::Holder turn = co_await repairing_.lock();
  std::exception_ptr error;
  try {
    for (int left = kRounds;; --left) {
      check_whole();
      const std::optional<Damage> damage = co_await damage_of(block);
      if (!damage) co_return;
      if (left == 0) throw Error(Code::unavailable, "block {} is still being repaired", block);
      if (!damage->entry_damaged) {
        const bool done = co_await repair_content(*damage);
        if (done) continue;  // looked at again
      }
      co_await repair_entry(*damage);
    }
  } catch (const Error&) {
    error = std::current_exception();
  }
  unrepaired_total_->add();
  std::rethrow_exception(error);
}

// The same op, the same checksum: the same content.
Task<bool> BlockCare::repair_content(const Damage& damage) {
  const BlockVersion version = damage.version;
  std::vector<BlockNumber> blocks(1, version.block);
  const Asked asked = co_await ask_peers(std::move(blocks), version.op);
  for (const Told& told : asked.told) {
    Candidate from = candidate(told);
    if (from.damaged || from.version.kind != BlockKind::data || from.version.op != version.op ||
        from.version.checksum != version.checksum) {
      continue;
    }
    co_await guarded(replica_.store->repair(version, std::move(from.content)));
    repaired(version, from.service);
    co_return true;
  }
  co_return false;
}

// See the argument above.
Task<void> BlockCare::repair_entry(const Damage& damage) {
  const BlockNumber block = damage.version.block;
  Op newer;
  {
    const runtime::Mutex::Holder turn = co_await replica_.apply_access.lock();
    check_whole();
    const std::optional<Damage> still = co_await damage_of(block);
    if (!still) co_return;
    const Op applied = replica_.store->applied_op();
    std::vector<BlockNumber> blocks(1, block);
    const Asked asked = co_await ask_peers(std::move(blocks), applied);
    std::vector<Candidate> sound;
    for (const Told& told : asked.told) {
      Candidate one = candidate(told);
      if (one.damaged || told.reply.applied_op() < applied.value()) continue;
      newer = std::max(newer, one.version.op);
      sound.push_back(std::move(one));
    }
    const bool alone = sound.empty();
    if ((alone || newer == Op(0)) && !asked.missing.empty()) {
      throw Error(Code::unavailable, "block {} of volume {} is damaged; {} cannot be asked for it",
                  block, replica_.volume.name, asked.missing);
    }
    if (alone) {
      replica_.log.error("replica.block_lost", {{"block", block}},
                         "it is damaged, and no member has it");
      throw Error(Code::corrupt, "block {} of volume {} is damaged, and no member has it", block,
                  replica_.volume.name);
    }
    if (newer <= applied) {
      for (const Candidate& other : sound) {
        if (same(other.version, sound.front().version)) continue;
        replica_.log.error("replica.block_disputed", {{"block", block}},
                           "it is damaged, and the other members have different ones");
        throw Error(Code::corrupt,
                    "block {} of volume {} is damaged, and {} and {} have different ones", block,
                    replica_.volume.name, sound.front().service, other.service);
      }
      Candidate& from = sound.front();
      const BlockVersion version = from.version;
      co_await guarded(replica_.store->replace_damaged(version, std::move(from.content)));
      repaired(version, from.service);
      co_return;
    }
  }
  co_await reached(newer, kPatience);
}

void BlockCare::repaired(const BlockVersion& version, const std::string& from) {
  ++repaired_blocks_;
  repaired_total_->add();
  replica_.log.warn("replica.block_repaired",
                    {{"block", version.block}, {"op", version.op}, {"from", from}},
                    "the disk had lost it");
}

// ---- the journal --------------------------------------------------------------------------------

// As if the journal began behind the entry: the blocks have it. One that is not applied yet may be
// all that is left of what this replica acknowledged: it stops (S1), and another one leads.
Task<void> BlockCare::journal_unreadable(Op first) {
  journal::Journal& journal = *replica_.journal;
  std::exception_ptr lost;
  Op op = std::max(first, journal.first_op());
  while (!lost && op <= journal.last().op) {
    try {
      const protocol::EntryBatch batch = co_await journal.read(op, 1);
      op = std::max(batch.headers.back().op.next(), journal.first_op());
    } catch (const Error& error) {
      if (error.code() == Code::unavailable) co_return;  // cut meanwhile
      if (!is_damage(error.code())) throw;
      lost = std::current_exception();
    }
  }
  if (!lost) co_return;
  if (op > replica_.store->applied_op()) {
    replica_.fail("reading the journal", lost);
  } else if (op > replica_.group->base()) {
    replica_.group->log_trimmed(op);
  }
}

}  // namespace datom::volume

// The leader's side of copying blocks: what it tells and gives, how it keeps the journal that the
// copies will need, and how it leaves the disk and the network to its clients.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "block_store/concurrently.h"
#include "common/checksum.h"
#include "common/error.h"
#include "volume/replica_impl.h"

namespace datom::volume {
namespace {

constexpr runtime::Duration kPinFor = std::chrono::seconds(60);
constexpr std::size_t kMaxPins = 16;
constexpr std::size_t kVersionsAtOnce = 4096;
constexpr std::size_t kCountsAtOnce = 65536;
constexpr int kPatience = 4;                    // with blocks that change while they are read
constexpr std::uint64_t kScanAtOnce = 1 << 22;  // blocks of the table: 64 MiB of it
constexpr std::size_t kBlocksAtOnce = 256;
constexpr std::size_t kReadsAtOnce = 16;
// While clients are at work: smaller pieces, so that a client waits less behind one, and four times
// as long as it took to read a piece before the next. A disk that the clients keep busy makes that
// take longer, so a copy has a fifth of what there is, and goes on, slowly, however little that is.
// What was written lately is in memory and takes next to nothing: a replica that was away for a
// while is soon back.
constexpr std::size_t kBlocksBesideClients = 192;
constexpr int kYield = 4;
constexpr runtime::Duration kLongestYield = std::chrono::milliseconds(500);
constexpr runtime::Duration kClientsFor = std::chrono::milliseconds(200);
constexpr runtime::Duration kLongestGap = std::chrono::seconds(5);
constexpr runtime::Duration kPiece = std::chrono::milliseconds(250);  // of a bounded rate

using block_store::BlockKind;
using block_store::BlockVersion;
using WireVersion = protocol::NewerBlocksReply::Version;

void put(const BlockVersion& version, WireVersion* wire) {
  wire->set_block(version.block);
  wire->set_op(version.op.value());
  wire->set_kind(static_cast<std::uint32_t>(version.kind));
  wire->set_checksum(version.checksum);
}

}  // namespace

// ---- the journal that copies need ---------------------------------------------------------------

// While a replica copies, the entries that it will need afterwards stay. An `op` begins a copy;
// without one the copy goes on.
void Replica::Impl::pin_journal(const std::string& replica, std::optional<Op> op) {
  Uuid who;
  if (replica.size() != who.bytes.size()) {
    throw Error(Code::invalid_argument, "a uuid of {} bytes, expected 16", replica.size());
  }
  std::copy(replica.begin(), replica.end(), who.bytes.begin());
  const runtime::Time time = loop().now();
  std::erase_if(copy_pins, [time](const auto& pin) { return pin.second.until <= time; });
  const auto found = copy_pins.find(who);
  if (found == copy_pins.end() && !op) return;
  if (found == copy_pins.end() && copy_pins.size() >= kMaxPins) {
    throw Error(Code::unavailable, "{} replicas copy, no more are possible", kMaxPins);
  }
  CopyPin& pin = found == copy_pins.end() ? copy_pins[who] : found->second;
  if (op) pin.op = *op;
  pin.until = time + kPinFor;
}

// How far the journal may be trimmed. What a follower has acknowledged it needs no more, so that a
// long copy beside busy clients does not keep all that they write.
Op Replica::Impl::pinned(Op limit) const {
  const replication::Followers* followers = group->followers();
  for (const auto& [replica, pin] : copy_pins) {
    Op needed = pin.op;
    runtime::Time until = pin.until;
    if (followers != nullptr) {
      const auto found = followers->all().find(replica);
      if (found != followers->all().end()) {
        needed = std::max(needed, found->second.acked);
        // It waits for entries and asks for nothing.
        if (found->second.copying) {
          until = std::max(until, runtime::Time(found->second.heard) + kPinFor);
        }
      }
    }
    if (loop().now() < until) limit = std::min(limit, needed);
  }
  return limit;
}

// ---- its pace
// -----------------------------------------------------------------------------------

bool Replica::Impl::clients_active() const {
  return client_seen && loop().now() - *client_seen < kClientsFor;
}

// Blocks of one answer.
std::size_t Replica::Impl::copy_chunk() const {
  const std::uint64_t rate = seams.properties->get(properties::kSyncRate);
  std::size_t blocks = clients_active() ? kBlocksBesideClients : kBlocksAtOnce;
  if (rate > 0) {
    const std::uint64_t piece = rate / (std::chrono::seconds(1) / kPiece);
    blocks = std::min<std::size_t>(blocks, piece / kBlockSize);
  }
  return std::max<std::size_t>(blocks, 1);
}

// How long whoever copies shall wait for the next piece, of all that copy.
runtime::Duration Replica::Impl::pace_copy(std::size_t bytes, runtime::Duration took) {
  const std::uint64_t rate = seams.properties->get(properties::kSyncRate);
  runtime::Duration gap = runtime::Duration::zero();
  if (rate > 0) {
    const double seconds = static_cast<double>(bytes) / static_cast<double>(rate);
    gap = std::chrono::duration_cast<runtime::Duration>(std::chrono::duration<double>(seconds));
  } else if (clients_active()) {
    gap = std::min<runtime::Duration>(took * kYield, kLongestYield);
  }
  const runtime::Time time = loop().now();
  copy_free_at = std::clamp(copy_free_at, time, time + kLongestGap) +
                 std::min<runtime::Duration>(gap, kLongestGap);
  return copy_free_at - time;
}

// ---- answers
// ------------------------------------------------------------------------------------

Task<rpc::Message> Replica::Impl::begin_copy(protocol::CopyBeginRequest request) {
  const Serving counted(serving, served);
  check_leads();
  const runtime::Mutex::Holder turn = co_await apply_access.lock();
  check_leads();
  const std::optional<protocol::EntryId> id = journal->id_at(store->applied_op());
  if (!id)
    throw Error(Code::unavailable, "op {} is not in the journal", store->applied_op().value());
  pin_journal(request.replica(), id->op);
  protocol::CopyBeginReply reply;
  reply.set_term(id->term.value());
  reply.set_op(id->op.value());
  reply.set_checksum(id->checksum);
  reply.set_sessions(sessions.encode());
  reply.set_last_op(group->last().op.value());
  reply.set_leader_term(group->term().value());
  co_return rpc::Message{reply.SerializeAsString(), {}};
}

// Looks at a bounded part of the table.
Task<rpc::Message> Replica::Impl::newer_blocks(protocol::NewerBlocksRequest request) {
  const Serving counted(serving, served);
  check_leads();
  pin_journal(request.replica(), std::nullopt);
  const std::uint64_t blocks = volume.size / kBlockSize;
  const std::uint64_t from = std::min<std::uint64_t>(request.from_block(), blocks);
  const std::uint64_t until = std::min(blocks, from + kScanAtOnce);
  const std::size_t limit = request.count_only()
                                ? kCountsAtOnce
                                : std::clamp<std::size_t>(request.limit(), 1, kVersionsAtOnce);
  protocol::NewerBlocksReply reply;
  {
    const runtime::Mutex::Holder turn = co_await copy_reads.lock();
    check_leads();
    const auto versions =
        co_await store->newer_blocks(from, Op(request.newer_than()), limit, until);
    const bool all = versions.size() < limit;
    reply.set_next_block(all ? until : versions.back().block + 1);
    reply.set_end(reply.next_block() >= blocks);
    if (request.count_only()) {
      reply.set_count(versions.size());
    } else {
      for (const BlockVersion& version : versions) put(version, reply.add_versions());
    }
  }
  reply.set_applied_op(store->applied_op().value());
  co_return rpc::Message{reply.SerializeAsString(), {}};
}

// Reads neighbouring blocks, versions[first] to versions[end - 1], block i to its place `into` + i
// * kBlockSize. `changed`: those that are not as of their version any more.
Task<void> Replica::Impl::read_run(const std::vector<BlockVersion>& versions, std::size_t first,
                                   std::size_t end, std::byte* into,
                                   std::vector<std::size_t>& changed) {
  const Buffer content =
      co_await store->read(versions[first].block * kBlockSize, (end - first) * kBlockSize);
  for (std::size_t i = first; i < end; ++i) {
    const ByteView block = content.view().subspan((i - first) * kBlockSize, kBlockSize);
    if (checksum(block) != versions[i].checksum) changed.push_back(i);
  }
  std::memcpy(into + first * kBlockSize, content.data(), content.size());
}

// The contents of blocks, block i to `into` + i * kBlockSize; their versions are of the same moment
// afterwards. Applies go on meanwhile: the checksum tells whether version and content belong
// together.
Task<void> Replica::Impl::read_versions(std::vector<BlockVersion>& versions, std::byte* into) {
  std::optional<runtime::Mutex::Holder> applies_wait;
  std::vector<std::size_t> wanted(versions.size());
  std::iota(wanted.begin(), wanted.end(), 0);
  for (int round = 1; !wanted.empty(); ++round) {
    // Clients change these blocks all the time.
    if (round == kPatience) applies_wait = co_await apply_access.lock();
    if (round > kPatience) {
      throw Error(Code::internal, "block {} does not read as its version says",
                  versions[wanted.front()].block);
    }
    std::vector<std::pair<std::size_t, std::size_t>> runs;
    for (const std::size_t i : wanted) {
      if (round > 1) versions[i] = co_await store->version(versions[i].block);
      if (versions[i].kind != BlockKind::data) continue;
      const bool follows = !runs.empty() && runs.back().second == i &&
                           versions[i].block == versions[i - 1].block + 1;
      if (!follows) runs.emplace_back(i, i);
      runs.back().second = i + 1;
    }
    std::vector<std::size_t> changed;
    co_await block_store::run_concurrently(loop(), runs.size(), kReadsAtOnce, [&](std::size_t run) {
      return read_run(versions, runs[run].first, runs[run].second, into, changed);
    });
    std::sort(changed.begin(), changed.end());
    wanted = std::move(changed);
  }
}

Task<rpc::Message> Replica::Impl::read_blocks(protocol::ReadBlocksRequest request) {
  const Serving counted(serving, served);
  check_leads();
  pin_journal(request.replica(), std::nullopt);
  const auto asked = static_cast<std::size_t>(request.blocks_size());
  if (asked == 0 || asked > kBlocksAtOnce) {
    throw Error(Code::invalid_argument, "{} blocks at once, expected 1 to {}", asked,
                kBlocksAtOnce);
  }
  const runtime::Mutex::Holder turn = co_await copy_reads.lock();
  check_leads();
  const runtime::Time begun = loop().now();
  std::vector<BlockVersion> versions;
  for (std::size_t i = 0; i < std::min(asked, copy_chunk()); ++i) {
    const std::uint64_t block = request.blocks(static_cast<int>(i));
    if (block >= volume.size / kBlockSize) {
      throw Error(Code::invalid_argument, "block {} of a volume of {} bytes", block, volume.size);
    }
    versions.push_back(co_await store->version(block));
  }
  Buffer payload = Buffer::allocate(versions.size() * kBlockSize);
  co_await read_versions(versions, payload.mutable_data());
  std::size_t used = 0;
  for (std::size_t i = 0; i < versions.size(); ++i) {
    if (versions[i].kind != BlockKind::data) continue;
    if (used != i * kBlockSize) {
      std::memcpy(payload.mutable_data() + used, payload.data() + i * kBlockSize, kBlockSize);
    }
    used += kBlockSize;
  }
  protocol::ReadBlocksReply reply;
  for (const BlockVersion& version : versions) put(version, reply.add_versions());
  reply.set_applied_op(store->applied_op().value());
  const runtime::Duration pause = pace_copy(used, loop().now() - begun);
  reply.set_pause_us(static_cast<std::uint64_t>(pause / std::chrono::microseconds(1)));
  co_return rpc::Message{reply.SerializeAsString(), payload.slice(0, used)};
}

}  // namespace datom::volume

// Whether the members of a volume hold the same: the leader asks them and compares.
//
// Fingerprints are compared as of one op. The block tables change meanwhile: pages of them are
// compared by digests, and blocks of pages that differ one by one. Two versions of a block differ
// for certain if they are of one op and yet unequal, or if a member that has applied the op of the
// newer one still has the older; otherwise the one that lags is asked again.
#include <algorithm>
#include <set>

#include "common/error.h"
#include "protocol/methods.h"
#include "volume/block_care.h"
#include "volume/replica_impl.h"

namespace datom::volume {
namespace {

using block_store::BlockKind;
using block_store::BlockNumber;

constexpr runtime::Duration kCallTimeout = std::chrono::seconds(2);
constexpr runtime::Duration kCheckTimeout = std::chrono::seconds(20);
constexpr runtime::Duration kPatience = std::chrono::milliseconds(1500);
constexpr std::size_t kPagesAtOnce = 256;    // of the table, in one part: 256 MiB of volume
constexpr std::uint64_t kDeepPages = 32;     // of one part that reads: 32 MiB of volume
constexpr std::size_t kMostPages = 4096;     // of one DigestsRequest
constexpr std::size_t kMostPagesApart = 16;  // of one part that are looked at block by block
constexpr int kMostDifferences = 100;        // listed, of one part
constexpr std::size_t kCheckBlocks = 256;    // read at once
constexpr int kFingerprintTries = 5;
constexpr int kBlockTries = 20;
constexpr int kLateDifferences = 5;
constexpr int kCountTries = 40;                           // a minute
constexpr std::uint64_t kTableBytesPerSecond = 50 << 20;  // that a recount reads at least

template <typename Message>
Message parsed(const rpc::Message& from) {
  Message message;
  if (!message.ParseFromString(from.header)) {
    throw Error(Code::corrupt, "a reply of {} bytes does not parse", from.header.size());
  }
  return message;
}

rpc::Message message_of(const google::protobuf::MessageLite& reply) {
  return {reply.SerializeAsString(), {}};
}

using Copy = protocol::VerifyReply::Copy;

bool is_hole(const Copy& copy) {
  return copy.kind() == static_cast<std::uint32_t>(BlockKind::hole);
}

bool equal(const Copy& a, const Copy& b) {
  if (a.damaged() || b.damaged()) return false;
  if (is_hole(a) && is_hole(b)) return true;
  return a.op() == b.op() && a.kind() == b.kind() && a.checksum() == b.checksum();
}

}  // namespace

// The members that answer, the leader first, and what was found.
struct BlockCare::Comparison {
  struct Member {
    std::string service;
    bool own = false;
    std::string trouble;
  };
  std::vector<Member> members;
  std::map<BlockNumber, std::map<std::string, Copy>> differences;
  std::uint64_t count = 0;

  void add(BlockNumber block, const Copy& copy) {
    const auto found = differences.find(block);
    if (found == differences.end()) {
      ++count;
      if (differences.size() >= kMostDifferences) return;
    }
    Copy& known = differences[block][copy.service()];
    const bool repaired = known.repaired() || copy.repaired();
    const bool damaged = known.damaged() || copy.damaged();
    known = copy;
    known.set_repaired(repaired);
    known.set_damaged(damaged);
  }
};

// ---- what any member answers --------------------------------------------------------------------

Task<rpc::Message> BlockCare::fingerprint(protocol::FingerprintRequest request) {
  const Serving counted(replica_.serving, replica_.served);
  check_whole();
  const bool there = co_await reached(Op(request.op()), kPatience);
  if (!there) {
    throw Error(Code::unavailable, "{} has applied op {}, not op {} yet", replica_.options.service,
                replica_.store->applied_op().value(), request.op());
  }
  if (request.recount()) co_await recount();
  const auto value = replica_.store->fingerprint_at(Op(request.op()));
  protocol::FingerprintReply reply;
  reply.set_known(value.has_value());
  reply.set_fingerprint(value.value_or(0));
  co_return message_of(reply);
}

Task<rpc::Message> BlockCare::digests(protocol::DigestsRequest request) {
  const Serving counted(replica_.serving, replica_.served);
  check_whole();
  const std::size_t pages = std::min<std::size_t>(request.pages(), kMostPages);
  const std::vector<std::uint64_t> found =
      co_await guarded(replica_.store->digests(request.page(), pages));
  protocol::DigestsReply reply;
  for (const std::uint64_t digest : found) reply.add_digests(digest);
  co_return message_of(reply);
}

Task<rpc::Message> BlockCare::check_blocks(protocol::CheckBlocksRequest request) {
  const Serving counted(replica_.serving, replica_.served);
  check_whole();
  const block_store::CheckResult result = co_await guarded(
      replica_.store->check(request.from_block(), request.end_block(), kCheckBlocks));
  protocol::CheckBlocksReply reply;
  reply.set_next_block(result.next);
  for (const block_store::Damage& damage : result.damaged) {
    bool repaired = true;
    try {
      co_await repair(damage.version.block);
    } catch (const Error&) {
      repaired = false;
    }
    protocol::CheckBlocksReply::Damage* out = reply.add_damaged();
    out->set_block(damage.version.block);
    out->set_repaired(repaired);
  }
  co_return message_of(reply);
}

// ---- the leader ---------------------------------------------------------------------------------

Task<rpc::Message> BlockCare::verify(protocol::VerifyRequest request) {
  const Serving counted(replica_.serving, replica_.served);
  replica_.check_serves();
  check_whole();
  protocol::VerifyReply reply;
  reply.set_blocks(replica_.volume.size / kBlockSize);
  if (request.fingerprints()) {
    co_await compare_fingerprints(reply);
  } else {
    co_await compare_tables(request, reply);
  }
  co_return message_of(reply);
}

// As of the op that the leader has applied now. A member that has forgotten it by the time it is
// asked makes us begin again.
Task<void> BlockCare::compare_fingerprints(protocol::VerifyReply& reply) {
  for (int left = kFingerprintTries; left > 0; --left) {
    const Op op = replica_.store->applied_op();
    const auto own = replica_.store->fingerprint_at(op);
    reply.clear_members();
    reply.set_op(op.value());
    bool all_known = own.has_value();
    bool all_equal = true;
    protocol::VerifyReply::Member* self = reply.add_members();
    self->set_service(replica_.options.service);
    self->set_replica(replica_.self.replica.bytes.data(), replica_.self.replica.bytes.size());
    self->set_fingerprint(own.value_or(0));
    for (const protocol::ReplicaRecord& peer : peers()) {
      protocol::VerifyReply::Member* member = reply.add_members();
      member->set_service(peer.service);
      member->set_replica(peer.replica.bytes.data(), peer.replica.bytes.size());
      protocol::FingerprintRequest request;
      request.set_volume(replica_.volume.id.bytes.data(), replica_.volume.id.bytes.size());
      request.set_op(op.value());
      try {
        const rpc::Message answer = co_await replica_.seams.caller->call(
            peer.service, protocol::method::kFingerprint, message_of(request), kCallTimeout);
        const auto told = parsed<protocol::FingerprintReply>(answer);
        if (!told.known()) all_known = false;
        member->set_fingerprint(told.fingerprint());
        if (told.fingerprint() != own) all_equal = false;
      } catch (const Error& error) {
        member->set_trouble(error.what());
        all_equal = false;
      }
    }
    reply.set_equal(all_equal && all_known);
    if (all_known) co_return;
  }
  throw Error(Code::unavailable,
              "volume {}: the members could not be asked about one op, {} times; try again",
              replica_.volume.name, kFingerprintTries);
}

Task<void> BlockCare::compare_tables(const protocol::VerifyRequest& request,
                                     protocol::VerifyReply& reply) {
  Comparison comparison;
  comparison.members.push_back({replica_.options.service, true, ""});
  for (const protocol::ReplicaRecord& peer : peers()) {
    comparison.members.push_back({peer.service, false, ""});
  }
  const std::uint64_t blocks = replica_.volume.size / kBlockSize;
  const std::uint64_t first = request.from_block() / block_store::kBlocksPerDigest;
  const std::size_t wanted = request.deep() ? kDeepPages : kPagesAtOnce;
  std::uint64_t end_page = first;
  if (request.deep()) {
    const std::uint64_t end = std::min(blocks, (first + wanted) * block_store::kBlocksPerDigest);
    co_await check_everywhere(request, end, comparison);
  }
  const std::vector<std::uint64_t> own = co_await guarded(replica_.store->digests(first, wanted));
  std::set<std::uint64_t> apart;
  for (Comparison::Member& member : comparison.members) {
    if (member.own || !member.trouble.empty()) continue;
    protocol::DigestsRequest question;
    question.set_volume(replica_.volume.id.bytes.data(), replica_.volume.id.bytes.size());
    question.set_page(first);
    question.set_pages(static_cast<std::uint32_t>(wanted));
    try {
      const rpc::Message answer = co_await replica_.seams.caller->call(
          member.service, protocol::method::kDigests, message_of(question), kCallTimeout);
      const auto theirs = parsed<protocol::DigestsReply>(answer);
      if (theirs.digests_size() != static_cast<int>(own.size())) {
        throw Error(Code::corrupt, "{} digests, expected {}", theirs.digests_size(), own.size());
      }
      for (std::size_t i = 0; i < own.size(); ++i) {
        if (theirs.digests(static_cast<int>(i)) != own[i]) apart.insert(first + i);
      }
    } catch (const Error& error) {
      member.trouble = error.what();
    }
  }
  end_page = first + own.size();
  while (apart.size() > kMostPagesApart) apart.erase(std::prev(apart.end()));
  if (apart.size() == kMostPagesApart) end_page = *apart.rbegin() + 1;
  for (const std::uint64_t page : apart) co_await compare_page(page, comparison);
  const std::uint64_t next = end_page * block_store::kBlocksPerDigest;
  reply.set_next_block(next < blocks ? next : 0);
  reply.set_difference_count(comparison.count);
  bool all_answered = true;
  for (const Comparison::Member& member : comparison.members) {
    protocol::VerifyReply::Member* out = reply.add_members();
    out->set_service(member.service);
    out->set_trouble(member.trouble);
    if (!member.trouble.empty()) all_answered = false;
  }
  for (const auto& [block, copies] : comparison.differences) {
    protocol::VerifyReply::Difference* out = reply.add_differences();
    out->set_block(block);
    for (const auto& [service, copy] : copies) *out->add_copies() = copy;
  }
  reply.set_equal(all_answered && comparison.count == 0);
}

// Block by block. Each member is asked for all blocks that are not decided.
Task<void> BlockCare::compare_page(std::uint64_t page, Comparison& comparison) {
  const std::uint64_t all = replica_.volume.size / kBlockSize;
  std::set<BlockNumber> open;
  const BlockNumber begin = page * block_store::kBlocksPerDigest;
  for (BlockNumber block = begin; block < std::min(all, begin + block_store::kBlocksPerDigest);
       ++block) {
    open.insert(block);
  }
  Op at_least;
  for (int left = kBlockTries; left > 0 && !open.empty(); --left) {
    // By block: each member's copy, and the op it had applied then.
    std::map<BlockNumber, std::vector<std::pair<Copy, Op>>> copies;
    for (Comparison::Member& member : comparison.members) {
      if (!member.trouble.empty()) continue;
      protocol::BlocksRequest request;
      request.set_volume(replica_.volume.id.bytes.data(), replica_.volume.id.bytes.size());
      request.set_applied_at_least(at_least.value());
      for (const BlockNumber block : open) request.add_blocks(block);
      try {
        rpc::Message answer;
        if (member.own) {
          answer = co_await blocks(request);
        } else {
          answer = co_await replica_.seams.caller->call(member.service, protocol::method::kBlocks,
                                                        message_of(request), kCallTimeout);
        }
        const auto told = parsed<protocol::BlocksReply>(answer);
        for (const protocol::BlocksReply::Block& block : told.blocks()) {
          Copy copy;
          copy.set_service(member.service);
          copy.set_op(block.version().op());
          copy.set_kind(block.version().kind());
          copy.set_checksum(block.version().checksum());
          copy.set_damaged(block.damaged());
          copies[block.version().block()].emplace_back(std::move(copy), Op(told.applied_op()));
        }
      } catch (const Error& error) {
        if (member.own) throw;
        member.trouble = error.what();
      }
    }
    for (const auto& [block, versions] : copies) {
      bool all_equal = true;
      bool differ = false;
      for (const auto& [a, a_applied] : versions) {
        for (const auto& [b, b_applied] : versions) {
          at_least = std::max({at_least, Op(a.op()), Op(b.op())});
          if (&a == &b || equal(a, b)) continue;
          all_equal = false;
          const bool older = a.op() < b.op() && Op(b.op()) <= a_applied;
          differ |= a.damaged() || a.op() == b.op() || older;
        }
        differ |= a.damaged();
      }
      if (!all_equal && !differ) continue;  // one of them lags
      open.erase(block);
      if (!differ) continue;
      for (const auto& [copy, applied] : versions) comparison.add(block, copy);
    }
    if (copies.empty()) co_return;
  }
}

// Members read side by side; each repairs what it finds damaged.
Task<void> BlockCare::check_everywhere(const protocol::VerifyRequest& request, std::uint64_t end,
                                       Comparison& comparison) {
  struct Check {
    static Task<void> run(BlockCare& care, Comparison::Member& member,
                          protocol::CheckBlocksRequest question, Comparison& found) {
      try {
        while (question.from_block() < question.end_block()) {
          rpc::Message answer;
          if (member.own) {
            answer = co_await care.check_blocks(question);
          } else {
            answer = co_await care.replica_.seams.caller->call(member.service,
                                                               protocol::method::kCheckBlocks,
                                                               message_of(question), kCheckTimeout);
          }
          const auto told = parsed<protocol::CheckBlocksReply>(answer);
          for (const protocol::CheckBlocksReply::Damage& damage : told.damaged()) {
            Copy copy;
            copy.set_service(member.service);
            copy.set_damaged(true);
            copy.set_repaired(damage.repaired());
            found.add(damage.block(), copy);
          }
          if (told.next_block() <= question.from_block()) {
            throw Error(Code::corrupt, "a check of blocks that goes on at block {}",
                        told.next_block());
          }
          question.set_from_block(told.next_block());
        }
      } catch (const Error& error) {
        member.trouble = error.what();
      }
    }
  };
  protocol::CheckBlocksRequest question;
  question.set_volume(replica_.volume.id.bytes.data(), replica_.volume.id.bytes.size());
  question.set_from_block(request.from_block());
  question.set_end_block(end);
  runtime::TaskGroup checking(replica_.loop(), [](std::exception_ptr) {});
  for (Comparison::Member& member : comparison.members) {
    checking.spawn(Check::run(*this, member, question, comparison));
  }
  co_await checking.close();
}

// ---- when fingerprints differ -------------------------------------------------------------------

bool BlockCare::count_anew() {
  // What the leader said before it counted may still be on its way.
  if (counted_anew_) return ++differences_ < kLateDifferences;
  if (stopping_ || replica_.stopping) return true;
  if (!std::exchange(counting_, true)) replica_.tasks.spawn(settle_count());
  return true;
}

void BlockCare::fingerprint_agrees() {
  counted_anew_ = false;
  differences_ = 0;
}

// Tried again while a member cannot be asked or a block cannot be repaired, but not for ever: what
// keeps differing is to be heard of.
Task<void> BlockCare::settle_count() {
  const auto over = [this] { return stopping_ || replica_.stopping || !replica_.trouble.empty(); };
  for (int left = kCountTries; left > 0 && !over() && !counted_anew_; --left) {
    std::string trouble;
    try {
      co_await count_with(replica_.group->leader());
      counted_anew_ = true;
    } catch (const Error& error) {
      trouble = error.what();
    }
    if (trouble.empty() || over()) break;
    replica_.log.debug("replica.count_waits", {}, trouble);
    count_timer_.reset();
    co_await count_timer_.sleep_for(kPatience);
  }
  counted_anew_ = true;
  counting_ = false;
}

// Where the tables differ one of them may be damaged, which only the blocks show; then the sums of
// both are those of their tables.
Task<void> BlockCare::count_with(std::string leader) {
  if (leader.empty() || leader == replica_.options.service) {
    throw Error(Code::unavailable, "no other replica leads volume {}", replica_.volume.name);
  }
  co_await repair_apart(leader);
  co_await recount();
  protocol::FingerprintRequest request;
  request.set_volume(replica_.volume.id.bytes.data(), replica_.volume.id.bytes.size());
  request.set_recount(true);
  const std::uint64_t table = replica_.volume.size / kBlockSize * kTableEntryBytes;
  const auto reads = std::chrono::seconds(table / kTableBytesPerSecond);
  co_await replica_.seams.caller->call(std::move(leader), protocol::method::kFingerprint,
                                       message_of(request), kCheckTimeout + reads);
}

Task<void> BlockCare::repair_apart(std::string leader) {
  const BlockNumber blocks = replica_.volume.size / kBlockSize;
  for (BlockNumber from = 0; from < blocks; from += kPagesAtOnce * block_store::kBlocksPerDigest) {
    protocol::DigestsRequest question;
    question.set_volume(replica_.volume.id.bytes.data(), replica_.volume.id.bytes.size());
    question.set_page(from / block_store::kBlocksPerDigest);
    question.set_pages(static_cast<std::uint32_t>(kPagesAtOnce));
    const rpc::Message answer = co_await replica_.seams.caller->call(
        leader, protocol::method::kDigests, message_of(question), kCallTimeout);
    const auto theirs = parsed<protocol::DigestsReply>(answer);
    const std::vector<std::uint64_t> own =
        co_await guarded(replica_.store->digests(question.page(), kPagesAtOnce));
    for (std::size_t i = 0; i < own.size(); ++i) {
      if (static_cast<int>(i) < theirs.digests_size() &&
          theirs.digests(static_cast<int>(i)) == own[i]) {
        continue;
      }
      const BlockNumber first = from + i * block_store::kBlocksPerDigest;
      const BlockNumber end = std::min(blocks, first + block_store::kBlocksPerDigest);
      co_await repair_range(first * kBlockSize, (end - first) * kBlockSize);
      co_await repair_at(leader, first, end);
    }
  }
}

Task<void> BlockCare::repair_at(std::string service, BlockNumber from, BlockNumber end) {
  protocol::CheckBlocksRequest question;
  question.set_volume(replica_.volume.id.bytes.data(), replica_.volume.id.bytes.size());
  question.set_from_block(from);
  question.set_end_block(end);
  while (question.from_block() < end) {
    const rpc::Message answer = co_await replica_.seams.caller->call(
        service, protocol::method::kCheckBlocks, message_of(question), kCheckTimeout);
    const auto told = parsed<protocol::CheckBlocksReply>(answer);
    for (const protocol::CheckBlocksReply::Damage& damage : told.damaged()) {
      if (damage.repaired()) continue;
      throw Error(Code::unavailable, "block {} of {} is damaged", damage.block(), service);
    }
    if (told.next_block() <= question.from_block()) {
      throw Error(Code::corrupt, "a check of blocks that goes on at block {}", told.next_block());
    }
    question.set_from_block(told.next_block());
  }
}

}  // namespace datom::volume

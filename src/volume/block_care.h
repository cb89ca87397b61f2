// What a replica does so that its blocks stay what they were: repairs those that its disk lost from
// a peer, looks for such in the background, and compares itself with the other members. For
// replica*.cc only; belongs to the replica's loop.
//
//   replica_repair.cc   reads that repair, what peers are told
//   replica_scrub.cc    the background
//   replica_verify.cc   `datom volume verify`
#pragma once

#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "block_store/block_store.h"
#include "common/error.h"
#include "protocol/volume.pb.h"
#include "runtime/task_group.h"
#include "runtime/wait.h"
#include "telemetry/metrics.h"
#include "volume/replica.h"

namespace datom::volume {

using runtime::Task;

inline constexpr std::uint64_t kTableEntryBytes = 16;  // of a block

class BlockCare {
 public:
  // After the replica's files were opened.
  explicit BlockCare(Replica::Impl& replica);

  // As those of the block store, but what is damaged is repaired first. Throws Error{corrupt} where
  // no peer has what was lost, Error{unavailable} while one that may have it cannot be asked.
  Task<Buffer> read(std::uint64_t offset, std::uint64_t length);
  Task<std::vector<block_store::Extent>> extents(std::uint64_t offset, std::uint64_t length,
                                                 std::size_t most);
  // For a follower that copies: as those of the replica, repairing what is damaged first.
  Task<rpc::Message> newer_blocks(protocol::NewerBlocksRequest request);
  Task<rpc::Message> read_blocks(protocol::ReadBlocksRequest request);

  // The methods 110 to 114 of volume.proto.
  Task<rpc::Message> blocks(protocol::BlocksRequest request);
  Task<rpc::Message> verify(protocol::VerifyRequest request);
  Task<rpc::Message> fingerprint(protocol::FingerprintRequest request);
  Task<rpc::Message> digests(protocol::DigestsRequest request);
  Task<rpc::Message> check_blocks(protocol::CheckBlocksRequest request);

  // The fingerprint is another one than the leader's. A damaged table entry that was overwritten
  // makes a count wrong, though the blocks are right: both count anew. False if that was done since
  // the two last agreed, and they differ still: the blocks do.
  bool count_anew();
  void fingerprint_agrees();

  // Until stop().
  Task<void> scrub();
  void stop();
  void fill(protocol::ReplicaStatus& status) const;

  // The journal has an entry, from `first` on, that cannot be read: a follower that needs it copies
  // blocks instead.
  Task<void> journal_unreadable(Op first);

 private:
  // What a peer told of blocks.
  struct Told {
    std::string service;
    protocol::BlocksReply reply;
    Buffer payload;
  };
  struct Asked {
    std::vector<Told> told;
    std::string missing;  // services that gave no answer
  };
  // A block as a peer has it.
  struct Candidate {
    block_store::BlockVersion version;
    Buffer content;
    std::string service;
    bool damaged = false;
  };

  // replica_repair.cc
  void check_whole() const;
  std::vector<protocol::ReplicaRecord> peers() const;
  Task<Asked> ask_peers(std::vector<block_store::BlockNumber> blocks, Op applied_at_least);
  Task<void> ask_peer(std::string service, const protocol::BlocksRequest& request, Asked& asked);
  Candidate candidate(const Told& told) const;
  Task<void> repair_range(std::uint64_t offset, std::uint64_t length);
  Task<void> repair_entries(std::uint64_t offset, std::uint64_t length);
  Task<void> repair(block_store::BlockNumber block);
  Task<bool> repair_content(const block_store::Damage& damage);
  Task<void> repair_entry(const block_store::Damage& damage);
  Task<std::optional<block_store::Damage>> damage_of(block_store::BlockNumber block);
  void repaired(const block_store::BlockVersion& version, const std::string& from);
  Task<bool> reached(Op op, runtime::Duration patience);
  // What `work` gives; stops this replica where the disk refused it.
  template <typename Value>
  Task<Value> guarded(Task<Value> work);
  [[noreturn]] void failed(std::exception_ptr error);

  // replica_scrub.cc
  bool may_scrub();
  Task<void> scrub_some();
  Task<void> end_pass();
  Task<void> pause(runtime::Duration duration);
  Task<bool> recount();

  // replica_verify.cc
  struct Comparison;
  Task<void> compare_fingerprints(protocol::VerifyReply& reply);
  Task<void> compare_tables(const protocol::VerifyRequest& request, protocol::VerifyReply& reply);
  Task<void> compare_page(std::uint64_t page, Comparison& comparison);
  Task<void> check_everywhere(const protocol::VerifyRequest& request, std::uint64_t end,
                              Comparison& comparison);
  Task<void> settle_count();
  Task<void> count_with(std::string leader);
  Task<void> repair_apart(std::string leader);
  Task<void> repair_at(std::string service, block_store::BlockNumber from,
                       block_store::BlockNumber end);

  Replica::Impl& replica_;
  runtime::Mutex repairing_;
  Op whole_from_;  // below it, redo after a crash may still rewrite torn blocks

  bool stopping_ = false;
  runtime::Timer timer_;
  block_store::BlockNumber scrub_next_ = 0;
  bool pass_under_way_ = false;
  std::optional<runtime::Time> pass_begun_;
  bool all_sound_ = true;  // in this pass, as far as it has come
  int scrub_retries_ = 0;
  runtime::Mutex recounting_;
  runtime::Timer count_timer_;
  bool counting_ = false;
  bool counted_anew_ = false;
  int differences_ = 0;  // since then
  std::uint64_t scrubbed_at_ = 0;
  std::uint64_t repaired_blocks_ = 0;

  std::unique_ptr<telemetry::Counter> repaired_total_;
  std::unique_ptr<telemetry::Counter> unrepaired_total_;
  std::unique_ptr<telemetry::Counter> scrubbed_bytes_total_;
  std::unique_ptr<telemetry::Gauge> scrubbed_at_gauge_;
};

template <typename Value>
Task<Value> BlockCare::guarded(Task<Value> work) {
  std::exception_ptr error;
  try {
    if constexpr (std::is_void_v<Value>) {
      co_await std::move(work);
      co_return;
    } else {
      Value value = co_await std::move(work);
      co_return value;
    }
  } catch (const Error& refused) {
    if (refused.code() != Code::io_error && refused.code() != Code::no_space) throw;
    error = std::current_exception();
  }
  failed(std::move(error));
}

}  // namespace datom::volume

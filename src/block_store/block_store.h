// The block store: a replica's database. Blocks of 4 KiB, each with the op that last wrote it and a
// checksum, a superblock, and checkpoints. Only committed ops reach it. Format: docs/formats.md.
//
//   superblock      two 4 KiB slots; the newer valid one counts
//   layers/0/data   sparse; block b at b * 4096
//   layers/0/table  16 bytes a block
//
// Belongs to one loop. What survives a crash: everything up to the last checkpoint, in blocks,
// table and superblock; of what was applied later, any part. Redo from the checkpoint makes it
// whole, since an op is applied to a block only if it is newer than the block.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/strong.h"
#include "common/uuid.h"
#include "protocol/entry.h"
#include "runtime/file.h"
#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::block_store {

using BlockNumber = std::uint64_t;

// What the superblock keeps for the replica beside the store's own fields. All of it is durable
// once save() or checkpoint() has returned.
struct ReplicaState {
  Uuid volume;
  Uuid replica;
  Term promised;
  std::uint64_t config_epoch = 0;
  bool base_complete = true;  // false while blocks are being copied from a peer: never electable
  // While not base_complete: blocks newer than this op are being fetched. Stays the same until the
  // copy is complete. REQUIRES: at most the checkpoint that it is saved with.
  Op copy_from;
  std::string sessions;  // the session table as of the checkpoint; at most kMaxSessionBytes
};
inline constexpr std::size_t kMaxSessionBytes = 3072;
// Longest range of a zero or trim entry: its table pages (16 bytes a block) are in memory at once.
inline constexpr std::uint64_t kMaxRangeBytes = 1 << 30;

enum class BlockKind : std::uint8_t {
  hole = 0,  // never written or trimmed: reads as zeros, takes no space
  zero = 1,  // zeros, space reserved
  data = 2,
};

struct BlockVersion {
  BlockNumber block = 0;
  Op op;  // that last wrote or trimmed it; 0: never written (a trim of such a block leaves it so)
  BlockKind kind = BlockKind::hole;
  std::uint64_t checksum = 0;  // XXH3-64 of the content; 0 unless data
};

// A block that comes from a peer.
struct PeerBlock {
  BlockVersion version;
  Buffer content;  // 4 KiB for data, else empty
};

// A run of blocks of one kind, in bytes.
struct Extent {
  std::uint64_t length = 0;
  BlockKind kind = BlockKind::hole;
};

// A block that is not what it should be.
struct Damage {
  BlockVersion version;        // as the table has it
  bool entry_damaged = false;  // it is the table's entry: of `version` only the block is known
};
struct CheckResult {
  BlockNumber next = 0;     // where to go on; the end of the range: all of it was checked
  std::uint64_t bytes = 0;  // of content that was read
  std::vector<Damage> damaged;
};

// Blocks that one digest covers: a page of the table.
inline constexpr std::uint64_t kBlocksPerDigest = 256;

class BlockCache;

struct BlockStoreOptions {
  // Clean table pages kept in memory beyond the dirty ones.
  std::size_t table_cache_bytes = 64 << 20;
  // Keeps blocks that were read or written, of all stores that are given it. It outlives them.
  // nullptr: nothing is kept.
  BlockCache* cache = nullptr;
};

class BlockStore {
 public:
  // Makes a store of `size` bytes (multiple of 4 KiB), all holes, durably. The directory exists and
  // has no superblock, else Error{already_exists}. Interrupted, it can be done again.
  static runtime::Task<void> format(runtime::Filesystem& files, std::string directory,
                                    std::uint64_t size, ReplicaState state);

  // Reads the superblock; one damaged slot is made good from the other. Throws Error{not_found}
  // where there is none, Error{corrupt} where no slot is valid, or a file is missing or of another
  // size than it says, Error{unsupported} where a newer datom wrote it. `files` and `loop` must
  // outlive the store.
  static runtime::Task<std::unique_ptr<BlockStore>> open(runtime::Filesystem& files,
                                                         runtime::Loop& loop, std::string directory,
                                                         BlockStoreOptions options);
  // close() must have returned.
  ~BlockStore();

  std::uint64_t size() const;         // bytes
  const ReplicaState& state() const;  // as last saved
  Op checkpoint_op() const;           // durable: redo begins behind it
  Op applied_op() const;              // highest op applied since open, or checkpoint_op()
  // Of blocks of kind data and zero. Exact when fingerprint_known(), else about.
  std::uint64_t bytes_used() const;
  // Of blocks that read() took from the disk, since open.
  std::uint64_t bytes_from_disk() const;
  // Memory held by changed table pages until the next checkpoint. The caller bounds it: it takes a
  // checkpoint when this has grown large.
  std::size_t dirty_bytes() const;

  // Order-free sum of a hash of (block number, content checksum) over all blocks of kind data whose
  // content is not all zeros: equal on replicas that applied the same ops, and after a redo. Valid
  // when fingerprint_known(): after a crash in the middle of a checkpoint only once redo has
  // reached the op of that checkpoint, during a copy (since begin_copy, or opened with
  // base_complete false) only once finish_copy has returned.
  std::uint64_t fingerprint() const;
  bool fingerprint_known() const;
  // As of an op a little while ago: kept for some thousand ops. nullopt where it is not.
  std::optional<std::uint64_t> fingerprint_at(Op op) const;

  // Applies committed entries, op after op without gap behind applied_op() (no-ops, attach and
  // config entries only advance it). One at a time. Not durable before checkpoint(). A block is
  // changed only by an op newer than its own. In memory all entries take effect in one step,
  // applied_op() included, right before it returns: a checkpoint() beside it sees all of them or
  // none. Throws Error{corrupt}, nothing changed, where an entry is outside of the volume or its
  // bounds. Any other Error (io_error, no_space): the caller stops this replica; everything after
  // it throws.
  runtime::Task<void> apply(std::vector<protocol::Entry> entries);

  // Blocks [offset, offset + length), multiples of 4 KiB, inside the volume, else
  // Error{invalid_argument} (as for extents). Each block is as some
  // apply left it, never half of one, and at least as new as what had been applied when read() was
  // called. Throws Error{corrupt} naming the block that fails its checksum on the disk. Waits for
  // nothing where the cache has the whole range.
  runtime::Task<Buffer> read(std::uint64_t offset, std::uint64_t length);

  // Whether blocks are kept in the cache when they are written, as they are when they are read: for
  // the replica that serves reads. At first they are not. What is in the cache is up to date in any
  // case.
  void cache_writes(bool whether);

  // Verifies the next blocks of [from, end) that hold data, at most `most`, on the disk, not in the
  // cache; and their table entries. What fails,
  // also by an error of reading, is in the result. Throws Error{io_error} where the table cannot be
  // read. REQUIRES: most > 0.
  runtime::Task<CheckResult> check(BlockNumber from, BlockNumber end, std::size_t most);
  // Blocks of the range whose table entry is damaged, at most `most`.
  runtime::Task<std::vector<BlockNumber>> damaged_entries(std::uint64_t offset,
                                                          std::uint64_t length, std::size_t most);
  // Puts the content of a block in its place again, syncs it and reads it back. Nothing happens if
  // the block no longer has this version: newer writes win. Throws Error{corrupt} where content and
  // checksum differ; after any other Error everything throws. REQUIRES: kind data.
  runtime::Task<void> repair(BlockVersion version, Buffer content);
  // Replaces a block whose table entry is damaged, with its content (4 KiB for data, else empty).
  // Throws Error{corrupt} where they do not fit each other or the volume, Error{conflict} for an op
  // that is not applied here yet, or during a copy. REQUIRES: no apply() under way meanwhile.
  runtime::Task<void> replace_damaged(BlockVersion version, Buffer content);
  // Computes fingerprint and bytes_used anew from the table, beside applies. False: they were not
  // what the table says, and are now. Throws Error{corrupt} for a damaged entry, Error{conflict}
  // unless fingerprint_known(), all the while. One at a time.
  runtime::Task<bool> recount();
  // For the comparison of replicas: of each page of kBlocksPerDigest blocks, `pages` of them from
  // block page * kBlocksPerDigest on, a hash of the versions of blocks that are no holes; 0 where
  // all are. Shorter at the volume's end.
  runtime::Task<std::vector<std::uint64_t>> digests(std::uint64_t page, std::size_t pages);

  // What the range holds, neighbours of one kind merged, at most `max_extents`; the extents cover
  // the range from its start, perhaps not all of it. REQUIRES: max_extents > 0.
  runtime::Task<std::vector<Extent>> extents(std::uint64_t offset, std::uint64_t length,
                                             std::size_t max_extents);

  // Syncs data and table as of applied_op() when it begins, then writes the superblock with it and
  // `state`. Applies may go on meanwhile. One checkpoint or save at a time. Throws
  // Error{too_large}, nothing changed, for sessions above kMaxSessionBytes; after any other Error
  // everything throws. REQUIRES: state.base_complete is false during a copy.
  runtime::Task<void> checkpoint(ReplicaState state);
  // Writes the superblock with `state` and the checkpoint as it is: state.sessions are those of
  // that checkpoint. Durable when it returns. REQUIRES: base_complete does not become true: only a
  // checkpoint() after finish_copy() does that.
  runtime::Task<void> save(ReplicaState state);

  // Makes `term` the promised one, if it is greater than that. Durable when it returns. Beside
  // everything else: an election does not wait for a checkpoint.
  runtime::Task<void> promise(Term term);

  // For copying between replicas: versions of blocks in [from, end) whose op is above `newer_than`,
  // in order of block, at most `limit`; fewer than `limit` means that the end was reached.
  runtime::Task<std::vector<BlockVersion>> newer_blocks(BlockNumber from, Op newer_than,
                                                        std::size_t limit,
                                                        BlockNumber end = ~BlockNumber{0});
  // The version a block has here.
  runtime::Task<BlockVersion> version(BlockNumber block);
  // Puts blocks from a peer in place, those that are newer than the ones here. Throws
  // Error{corrupt}, nothing changed, where content and checksum of one differ. Beside apply() and
  // other installs, at will. REQUIRES: during a copy.
  runtime::Task<void> install(std::vector<PeerBlock> blocks);
  // After copying: the store is as of `op`; computes the fingerprint anew from the table. Applies
  // wait meanwhile. Throws Error{conflict} where a block was installed that is newer than `op`:
  // apply up to it first. The copy is durable after the next checkpoint(), with base_complete true.
  runtime::Task<void> finish_copy(Op op);
  // Before copying: applied_op() becomes `op` though blocks are older; follow with copying.
  // No block here is as of an op above `newest`: an entry that says so is damaged. REQUIRES:
  // base_complete false has been saved, no apply() under way, op at least applied_op().
  void begin_copy(Op op, Op newest);

  // Waits for what is under way; no checkpoint. Use nothing afterwards.
  runtime::Task<void> close();

 private:
  struct Impl;
  explicit BlockStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace datom::block_store

// What a BlockStore is made of. The .cc files beside it each hold one part: block_store.cc opening
// and closing, applying.cc, reading.cc, checkpoint.cc, copying.cc, checking.cc.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "block_store/block_cache.h"
#include "block_store/block_store.h"
#include "block_store/fingerprint.h"
#include "block_store/range_guard.h"
#include "block_store/superblock.h"
#include "block_store/table.h"
#include "common/error.h"
#include "runtime/wait.h"

namespace datom::block_store {

// What blocks below `end` come to.
struct Recount {
  BlockNumber end = 0;
  Fingerprint fingerprint;
  std::uint64_t blocks_used = 0;
};

struct BlockStore::Impl {
  Impl(runtime::Loop& on, std::string where, std::unique_ptr<SuperblockFile> superblock_file,
       std::unique_ptr<runtime::File> data_file, std::unique_ptr<runtime::File> table_file,
       BlockStoreOptions options);
  ~Impl();

  // Counts an operation while it lives. Throws Error where none may begin any more.
  class UnderWay {
   public:
    explicit UnderWay(Impl& impl);
    ~UnderWay();
    UnderWay(const UnderWay&) = delete;
    UnderWay& operator=(const UnderWay&) = delete;

   private:
    Impl& impl_;
  };
  // True while it lives; at most one does.
  class Only {
   public:
    explicit Only(bool& flag);
    ~Only();
    Only(const Only&) = delete;
    Only& operator=(const Only&) = delete;

   private:
    bool& flag_;
  };
  void check_usable() const;
  // Throws what `work` throws; nothing works afterwards (rule S1).
  runtime::Task<void> or_stop(runtime::Task<void> work);

  std::uint64_t size() const { return superblock->current().size; }
  // Throws Error{invalid_argument} unless it is whole blocks of this volume.
  BlockRange checked_range(std::uint64_t offset, std::uint64_t length) const;

  // applying.cc
  runtime::Task<void> apply(std::vector<protocol::Entry> entries);
  runtime::Task<void> apply_checked(std::vector<protocol::Entry> entries);
  void check_entry(const protocol::Entry& entry) const;
  runtime::Task<void> pin_pages(const protocol::EntryHeader& header, PinnedPages& pages);
  runtime::Task<void> find_written_pages(BlockRange range, std::vector<std::uint64_t>& found);
  void take_effect(const protocol::Entry& entry, PinnedPages& pages);
  void keep_written(BlockNumber block, ByteView content);
  void replace(Table::Pin& page, const BlockVersion& old, const BlockVersion& next);
  void advance_to(Op op);
  // No sound entry of the table is newer.
  Op newest_possible() const;
  BlockVersion require_sound(BlockNumber block, const RawEntry& entry) const;
  void note_fingerprint();
  std::optional<std::uint64_t> fingerprint_at(Op op) const;

  // reading.cc
  runtime::Task<Buffer> read(std::uint64_t offset, std::uint64_t length);
  std::optional<Buffer> read_cached(BlockRange range);
  runtime::Task<Buffer> read_verified(BlockRange range, std::vector<BlockVersion> holding_data);
  runtime::Task<void> read_missing(std::span<const BlockVersion> versions, MutableBytes into);
  runtime::Task<std::vector<Extent>> extents(std::uint64_t offset, std::uint64_t length,
                                             std::size_t max_extents);
  runtime::Task<BlockVersion> version(BlockNumber block);

  // checking.cc
  struct Checked;
  runtime::Task<CheckResult> check(BlockNumber from, BlockNumber end, std::size_t most);
  runtime::Task<void> find_written(BlockNumber from, BlockNumber end, Checked& found);
  runtime::Task<void> check_content(std::span<const BlockVersion> run, CheckResult& result);
  runtime::Task<bool> holds(const BlockVersion& version);
  runtime::Task<std::vector<BlockNumber>> damaged_entries(std::uint64_t offset,
                                                          std::uint64_t length, std::size_t most);
  runtime::Task<void> repair(BlockVersion version, Buffer content);
  runtime::Task<void> repair_checked(BlockVersion version, Buffer content);
  runtime::Task<bool> has_version(const BlockVersion& version);
  runtime::Task<void> replace_damaged(BlockVersion version, Buffer content);
  runtime::Task<void> replace_checked(BlockVersion version, Buffer content);
  bool fits(const BlockVersion& version, const Buffer& content) const;
  runtime::Task<bool> recount();
  runtime::Task<std::vector<std::uint64_t>> digests(std::uint64_t page, std::size_t pages);

  // checkpoint.cc
  runtime::Task<void> checkpoint(ReplicaState state);
  runtime::Task<void> write_checkpoint(Superblock next, Table::Snapshot snapshot);
  runtime::Task<void> write_superblock(Superblock next);
  runtime::Task<void> save(ReplicaState state);
  runtime::Task<void> promise(Term term);
  runtime::Task<void> write_promise(Term term);

  // copying.cc
  runtime::Task<std::vector<BlockVersion>> newer_blocks(BlockNumber from, Op newer_than,
                                                        std::size_t limit, BlockNumber end);
  runtime::Task<void> install(std::vector<PeerBlock> blocks);
  bool is_newer(const BlockVersion& version, const Table::Pin& page) const;
  runtime::Task<void> install_checked(std::vector<PeerBlock> blocks);
  runtime::Task<void> finish_copy(Op op);
  void begin_copy(Op op, Op newest);

  runtime::Task<void> close();

  runtime::Loop& loop;
  const std::string directory;
  std::unique_ptr<SuperblockFile> superblock;
  std::unique_ptr<runtime::File> data;  // past the page cache (docs/decisions/block-cache.md)
  Table table;
  RangeGuard guard;
  // Each as the table has it at every moment: it changes in the step in which the table does.
  CachedBlocks cached;
  bool cache_writes = false;
  std::uint64_t bytes_from_disk = 0;

  Op applied;
  bool copying = false;
  Op newest_copied{kMaxOp};  // while copying: no block is newer, nor than what was applied
  // Whether fingerprint and blocks_used are as of `applied`; if not, and no copy is under way, they
  // become so when the superblock's horizon is reached.
  bool known = false;
  Fingerprint fingerprint;
  std::uint64_t blocks_used = 0;
  std::deque<std::uint64_t> history;  // fingerprints as of the last ops up to `applied`, if known
  std::optional<Recount> recounting;

  bool applying = false;
  bool saving = false;
  runtime::Mutex superblock_writes;
  bool closed = false;
  std::string failure;  // why nothing works any more; empty: it works
  std::size_t under_way = 0;
  runtime::Event idle;
};

// The version an entry stands for; nullopt for a damaged one, which one newer than possible is too.
inline std::optional<BlockVersion> sound_version(BlockNumber block, const RawEntry& entry,
                                                 Op newest_possible) {
  std::optional<BlockVersion> version = decode_entry(block, entry);
  if (version && version->op > newest_possible) version.reset();
  return version;
}

// The same, a damaged one as if never written: whatever comes next is newer.
inline BlockVersion version_or_none(BlockNumber block, const RawEntry& entry, Op newest_possible) {
  BlockVersion none;
  none.block = block;
  return sound_version(block, entry, newest_possible).value_or(none);
}

}  // namespace datom::block_store

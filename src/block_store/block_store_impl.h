// What a BlockStore is made of. The .cc files beside it each hold one part: block_store.cc opening
// and closing, applying.cc, reading.cc, checkpoint.cc, copying.cc.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "block_store/block_store.h"
#include "block_store/fingerprint.h"
#include "block_store/range_guard.h"
#include "block_store/superblock.h"
#include "block_store/table.h"
#include "common/error.h"
#include "runtime/wait.h"

namespace datom::block_store {

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
  void replace(Table::Pin& page, const BlockVersion& old, const BlockVersion& next);
  void advance_to(Op op);

  // reading.cc
  runtime::Task<Buffer> read(std::uint64_t offset, std::uint64_t length);
  runtime::Task<Buffer> read_verified(BlockRange range, std::vector<BlockVersion> holding_data);
  runtime::Task<std::vector<Extent>> extents(std::uint64_t offset, std::uint64_t length,
                                             std::size_t max_extents);
  runtime::Task<BlockVersion> version(BlockNumber block);

  // checkpoint.cc
  runtime::Task<void> checkpoint(ReplicaState state);
  runtime::Task<void> write_checkpoint(Superblock next, Table::Snapshot snapshot);
  runtime::Task<void> write_superblock(Superblock next);
  runtime::Task<void> save(ReplicaState state);
  runtime::Task<void> promise(Term term);
  runtime::Task<void> write_promise(Term term);

  // copying.cc
  runtime::Task<std::vector<BlockVersion>> newer_blocks(BlockNumber from, Op newer_than,
                                                        std::size_t limit);
  runtime::Task<void> install(BlockVersion version, Buffer content);
  runtime::Task<void> install_checked(BlockVersion version, Buffer content);
  runtime::Task<void> finish_copy(Op op);
  void begin_copy(Op op);

  runtime::Task<void> close();

  runtime::Loop& loop;
  const std::string directory;
  std::unique_ptr<SuperblockFile> superblock;
  std::unique_ptr<runtime::File> data;
  Table table;
  RangeGuard guard;

  Op applied;
  bool copying = false;
  // Whether fingerprint and blocks_used are as of `applied`; if not, and no copy is under way, they
  // become so when the superblock's horizon is reached.
  bool known = false;
  Fingerprint fingerprint;
  std::uint64_t blocks_used = 0;

  bool applying = false;
  bool saving = false;
  runtime::Mutex superblock_writes;
  bool closed = false;
  std::string failure;  // why nothing works any more; empty: it works
  std::size_t under_way = 0;
  runtime::Event idle;
};

// The version an entry stands for; a damaged one as if never written: whatever comes next is newer.
inline BlockVersion version_or_none(BlockNumber block, const RawEntry& entry) {
  BlockVersion none;
  none.block = block;
  return decode_entry(block, entry).value_or(none);
}

}  // namespace datom::block_store

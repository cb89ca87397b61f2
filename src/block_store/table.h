// The block table: for each block the op that last wrote it, what it is, and the checksum of its
// content. Pages of 256 entries are loaded when needed; changed ones stay in memory until a
// checkpoint writes them, unchanged ones are evicted, least recently used first. Format:
// docs/formats.md.
//
// Belongs to one loop. Entries change only between awaits: whoever does not await sees one state.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "block_store/block_store.h"
#include "runtime/file.h"
#include "runtime/loop.h"
#include "runtime/task.h"
#include "runtime/wait.h"

namespace datom::block_store {

inline constexpr std::size_t kTableEntryBytes = 16;
inline constexpr std::size_t kEntriesPerPage = kBlockSize / kTableEntryBytes;
inline constexpr std::uint64_t kMaxOp = (std::uint64_t{1} << 62) - 1;  // what an entry has room for

// Bytes of the table file of a volume of that many blocks: whole pages.
std::uint64_t table_file_bytes(std::uint64_t blocks);

// An entry as it is stored.
struct RawEntry {
  std::uint64_t op_and_kind = 0;
  std::uint64_t sealed_checksum = 0;

  bool never_written() const { return op_and_kind == 0 && sealed_checksum == 0; }
};

RawEntry encode_entry(const BlockVersion& version);
// nullopt where the entry is damaged. Damage to the entry of a data block also shows as a checksum
// that its content does not match.
std::optional<BlockVersion> decode_entry(BlockNumber block, const RawEntry& entry);
// The same, throwing Error{corrupt} that names the block.
BlockVersion require_entry(BlockNumber block, const RawEntry& entry);

class Table {
  struct Page;
  struct Slot;

 public:
  // `file` has table_file_bytes(blocks).
  Table(runtime::Loop& loop, std::unique_ptr<runtime::File> file, std::uint64_t blocks,
        std::size_t cache_bytes);
  ~Table();

  std::uint64_t blocks() const { return blocks_; }
  static std::uint64_t page_of(BlockNumber block) { return block / kEntriesPerPage; }

  // Keeps a page in memory. The table outlives it.
  class [[nodiscard]] Pin {
   public:
    Pin(Pin&& other) noexcept;
    Pin& operator=(Pin&& other) noexcept;
    ~Pin();

    const RawEntry& get(BlockNumber block) const;
    // get() comes soon: of many entries that are far apart in memory, all are fetched at a time.
    void prefetch(BlockNumber block) const;
    void set(const BlockVersion& version);

   private:
    friend Table;
    Pin(Table* table, std::uint64_t page, Slot* slot);

    Table* table_;
    std::uint64_t page_;
    Slot* slot_;
  };
  runtime::Task<Pin> pin(std::uint64_t page);

  // Shows the entries of blocks [first, end) in order, in runs within one page, until `visit` gives
  // false. Blocks in between that it leaves out were never written. No await within a run.
  using Visit = std::function<bool(BlockNumber first, std::span<const RawEntry> entries)>;
  runtime::Task<void> scan(BlockNumber first, BlockNumber end, Visit visit);

  std::size_t dirty_bytes() const { return dirty_.size() * kBlockSize; }
  std::size_t bytes_in_memory() const { return slots_.size() * kBlockSize; }

  // The changed pages as they are now; later changes go to copies of them.
  using SnapshotPage = std::pair<std::uint64_t, std::shared_ptr<const Page>>;
  struct Snapshot {
    std::vector<SnapshotPage> pages;
  };
  // One snapshot at a time: until write() has returned.
  Snapshot freeze();
  // Writes and syncs the snapshot. REQUIRES: the data it describes is synced.
  runtime::Task<void> write(Snapshot snapshot);

 private:
  using PageRange = std::pair<std::uint64_t, std::uint64_t>;  // [first, end)
  class LoadMark;
  class KeepMark;

  struct Page {
    std::array<RawEntry, kEntriesPerPage> entries;
  };
  struct Slot {
    std::shared_ptr<Page> page;
    bool dirty = false;
    bool frozen = false;  // the page belongs to the snapshot: copied before it is changed
    std::uint32_t pins = 0;
    std::optional<std::list<std::uint64_t>::iterator> clean;  // its place in clean_
  };

  Slot* find(std::uint64_t page);
  runtime::Task<Slot*> load(std::uint64_t page);
  Slot* insert(std::uint64_t page, std::shared_ptr<Page> content);
  void make_writable(std::uint64_t page, Slot& slot);
  void mark_clean(std::uint64_t page, Slot& slot);
  void evict();
  bool kept(std::uint64_t page) const;

  runtime::Task<bool> scan_cached(BlockNumber first, BlockNumber end, const Visit& visit);
  runtime::Task<bool> scan_file(BlockNumber first, BlockNumber end, const Visit& visit);
  bool all_cached(PageRange pages) const;
  std::shared_ptr<const Page> current_page(std::uint64_t page, const Buffer& read,
                                           std::size_t index) const;
  runtime::Task<void> write_some(std::span<const SnapshotPage> pages);
  runtime::Task<void> write_run(std::uint64_t first_page, Buffer bytes);

  runtime::Loop& loop_;
  std::unique_ptr<runtime::File> file_;
  const std::uint64_t blocks_;
  const std::size_t cache_pages_;

  std::unordered_map<std::uint64_t, Slot> slots_;
  std::list<std::uint64_t> clean_;  // pages that may be evicted, the most recently used first
  std::set<std::uint64_t> dirty_;
  std::set<std::uint64_t> loading_;
  runtime::Event loaded_;
  std::list<PageRange> kept_;  // being scanned: what is in memory there stays
};

// Pages kept in memory together, by page.
using PinnedPages = std::map<std::uint64_t, Table::Pin>;

}  // namespace datom::block_store

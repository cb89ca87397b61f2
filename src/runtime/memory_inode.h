// A file of a MemoryDisk: what it reads as now and what a power cut would leave of it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "common/bytes.h"
#include "runtime/loop.h"

namespace datom::runtime {

class MemoryInode {
 public:
  explicit MemoryInode(bool directory) : directory_(directory) {}

  bool directory() const { return directory_; }
  std::uint64_t size() const { return size_; }
  // Bytes that it takes of the disk; and how many more it would with [offset, offset + length).
  std::uint64_t allocated() const { return allocated_pages_ * kBlockSize; }
  std::uint64_t growth(std::uint64_t offset, std::uint64_t length) const;

  std::size_t read(std::uint64_t offset, MutableBytes into) const;
  void write(std::uint64_t offset, ByteView from);
  void resize(std::uint64_t size);
  void allocate(std::uint64_t offset, std::uint64_t length);
  void punch_hole(std::uint64_t offset, std::uint64_t length);

  void sync();
  // Only what a synchronous write covers.
  void sync_range(std::uint64_t offset, std::uint64_t length);
  // What is unsynced now stays so, until it is written again.
  void fail_sync();
  void crash(Random& random);
  void flip_bit(std::uint64_t byte, int bit);

 private:
  using Bytes = std::array<std::byte, kBlockSize>;
  using Sectors = std::uint8_t;  // one bit for each 512 bytes of a page

  struct Page {
    Bytes now{};
    std::unique_ptr<Bytes> durable;  // while something is dirty: what a crash may bring back
    Sectors dirty = 0;
    Sectors lost = 0;  // of the dirty ones: a sync of them has failed
    bool allocated = false;
  };

  Page& page_at(std::uint64_t number);
  Page& dirty_page(std::uint64_t number, std::size_t from, std::size_t length);
  void set_allocated(Page& page, bool allocated);
  void zero(std::uint64_t offset, std::uint64_t length);
  void sync_page(std::uint64_t number, Sectors which);
  void drop_if_empty(std::uint64_t number);
  void commit_truncation();
  void undo_truncation();
  void crash_page(Page& page, Random& random);

  bool directory_;
  std::uint64_t size_ = 0;
  std::uint64_t durable_size_ = 0;
  bool size_lost_ = false;
  // While a truncation is unsynced: the smallest size since then. It survives as a whole or not.
  std::optional<std::uint64_t> truncated_to_;
  std::uint64_t allocated_pages_ = 0;
  std::map<std::uint64_t, Page> pages_;
  std::set<std::uint64_t> dirty_pages_;
};

}  // namespace datom::runtime

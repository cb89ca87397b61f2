// Volumes in memory: exports for tests and fuzzing, with a true map of data, zeros and holes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/bytes.h"
#include "nbd/export.h"

namespace datom::nbd {

// The content of one volume, in blocks of 4 KiB. Belongs to one loop; outlives its exports.
class MemoryVolume {
 public:
  explicit MemoryVolume(ExportInfo info);

  const ExportInfo& info() const { return info_; }

  // REQUIRES of all: inside info().size.
  void read(std::uint64_t offset, MutableBytes into) const;
  void write(std::uint64_t offset, ByteView from);
  // Whole blocks inside the range become holes; the rest is untouched.
  void trim(std::uint64_t offset, std::uint64_t length);
  void write_zeroes(std::uint64_t offset, std::uint64_t length, bool keep_allocated);
  // What the range holds, at most `max_extents`, perhaps not covering it all.
  std::vector<StatusExtent> status(std::uint64_t offset, std::uint64_t length,
                                   std::size_t max_extents) const;

 private:
  // A block that is here has space; one without data reads as zeros.
  using Block = std::unique_ptr<std::byte[]>;

  std::byte* data_of(std::uint64_t block);
  // Writes zeros to [from, to).
  void fill_zeroes(std::uint64_t from, std::uint64_t to);
  // Of the blocks wholly inside [offset, offset + length): the first, and the one past the last.
  std::pair<std::uint64_t, std::uint64_t> whole_blocks(std::uint64_t offset,
                                                       std::uint64_t length) const;

  ExportInfo info_;
  std::map<std::uint64_t, Block> blocks_;
};

// Operations complete through the loop's queue, so that they overlap as real ones do.
std::unique_ptr<Export> make_memory_export(runtime::Loop& loop, MemoryVolume& volume);

// A fixed set of volumes, any number of clients on each. Fill it before it is used.
class MemoryExports final : public Exports {
 public:
  // The volume lives on `place`, whose loop and network must outlive this object.
  MemoryVolume& add(ExportInfo info, ExportPlace place);

  runtime::Task<std::vector<ExportInfo>> list() override;
  runtime::Task<ExportInfo> describe(std::string name) override;
  ExportPlace place(const std::string& name) override;
  runtime::Task<std::unique_ptr<Export>> open(std::string name) override;

 private:
  struct Entry {
    std::unique_ptr<MemoryVolume> volume;
    ExportPlace place;
  };
  const Entry& find(const std::string& name) const;

  std::map<std::string, Entry> volumes_;
};

}  // namespace datom::nbd

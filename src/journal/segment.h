// A segment file of a journal: made zero-filled, begun with a header, written behind its end, cut,
// turned into a spare for its next life.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/bytes.h"
#include "common/uuid.h"
#include "journal/segment_header.h"
#include "protocol/entry.h"
#include "runtime/file.h"
#include "runtime/task.h"

namespace datom::journal {

// A sum of each sector of a file, as it is on disk; 0 where nothing but zeros was ever written. 4
// bytes a sector, so far as the file has been written.
class SectorSums {
 public:
  void note(std::uint64_t offset, ByteView written);
  // The table of a file of that size.
  void encode(MutableBytes table) const;

 private:
  std::vector<std::uint32_t> sums_;
};

// Every write of it is on stable storage when it returns. Shared with the reads under way, so that
// a segment can go while it is being read.
struct Segment {
  std::uint32_t number = 0;    // of the file
  std::uint32_t sequence = 0;  // its place in the journal, once begun
  std::string path;
  std::unique_ptr<runtime::File> file;
  std::uint64_t bytes = 0;  // of the file
  protocol::EntryId base;   // of the entry before its first
  // Where the next write begins; a multiple of 4 KiB.
  std::uint64_t end = 0;
  // Behind it is nothing that was written in this life of the file, or only zeros; above `end` only
  // where damage was found.
  std::uint64_t content_end = 0;
  std::uint64_t table_checksum = 0;  // of the table in the file
  // Whether `sums` says what is on disk, so that the file can have another life.
  bool recyclable = false;
  SectorSums sums;
  Op highest_stale;  // of the entries of earlier lives

  std::uint64_t free_bytes() const { return bytes - end; }
};

// A new file of zeros in `directory`, on stable storage, its space allocated. On Error (no_space)
// nothing of it is left, as far as the disk allows.
runtime::Task<std::shared_ptr<Segment>> make_segment(runtime::Filesystem& files,
                                                     std::string directory, std::uint32_t number,
                                                     std::uint64_t bytes);

// Opens an existing one. Only `file`, `path`, `number` and `bytes` are filled in.
runtime::Task<std::shared_ptr<Segment>> open_segment(runtime::Filesystem& files,
                                                     std::string directory, std::uint32_t number);

// Writes the header: from now on the segment is part of the journal. REQUIRES: it is new or a
// spare; sequence and base are filled in.
runtime::Task<void> begin_segment(Segment& segment, Uuid volume, bool origin);

// Writes behind the end.
runtime::Task<void> write_content(Segment& segment, std::uint64_t offset, ByteView bytes);

// Makes everything behind `keep` zeros, durably. `write_starts` says where the writes behind it
// began, ascending; a crash meanwhile leaves what a crash in the midst of one of these writes could
// have left (docs/formats.md, "Cutting").
runtime::Task<void> cut_segment(Segment& segment, std::uint64_t keep,
                                std::vector<std::uint64_t> write_starts);

// Durably: its entries are gone, what they were remains as the background of its next life.
// REQUIRES: recyclable; `last` is the last of its entries.
runtime::Task<void> make_spare(Segment& segment, Uuid volume, Op last);

// Removes the file, durably.
runtime::Task<void> remove_segment(runtime::Filesystem& files, std::string directory,
                                   std::string path);

std::string path_in(const std::string& directory, std::string_view name);

}  // namespace datom::journal

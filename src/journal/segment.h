// A segment file of a journal: made zero-filled, begun with a header, written behind its end, cut.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/uuid.h"
#include "journal/segment_header.h"
#include "protocol/entry.h"
#include "runtime/file.h"
#include "runtime/task.h"

namespace datom::journal {

// Every write of it is on stable storage when it returns. Shared with the reads under way, so that
// a segment can go while it is being read.
struct Segment {
  std::uint32_t sequence = 0;
  std::string path;
  std::unique_ptr<runtime::File> file;
  std::uint64_t bytes = 0;  // of the file
  protocol::EntryId base;   // of the entry before its first
  // Where the next write begins; a multiple of 4 KiB.
  std::uint64_t end = kSegmentHeaderBytes;
  // Behind it are only zeros; above `end` only where damage was found.
  std::uint64_t content_end = kSegmentHeaderBytes;

  std::uint64_t free_bytes() const { return bytes - end; }
};

// A new file of zeros in `directory`, on stable storage, its space allocated. On Error (no_space)
// nothing of it is left, as far as the disk allows.
runtime::Task<std::shared_ptr<Segment>> make_segment(runtime::Filesystem& files,
                                                     std::string directory, std::uint32_t sequence,
                                                     std::uint64_t bytes);

// Opens an existing one. Only `file`, `path`, `sequence` and `bytes` are filled in.
runtime::Task<std::shared_ptr<Segment>> open_segment(runtime::Filesystem& files,
                                                     std::string directory, std::uint32_t sequence);

// Writes the header: from now on the segment is part of the journal. REQUIRES: it is all zero.
runtime::Task<void> begin_segment(Segment& segment, Uuid volume, protocol::EntryId base,
                                  bool origin);

// Makes everything behind `keep` zeros, durably. `write_starts` says where the writes behind it
// began, ascending; a crash meanwhile leaves what a crash in the midst of one of these writes could
// have left (docs/formats.md, "Cutting").
runtime::Task<void> cut_segment(Segment& segment, std::uint64_t keep,
                                std::vector<std::uint64_t> write_starts);

// Removes the file, durably.
runtime::Task<void> remove_segment(runtime::Filesystem& files, std::string directory,
                                   std::string path);

std::string path_in(const std::string& directory, std::string_view name);

}  // namespace datom::journal

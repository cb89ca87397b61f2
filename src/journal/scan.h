// What a segment's bytes say: its entries, and how it ends. Pure; the rules and their reasons are
// in docs/formats.md, "Journal".
#pragma once

#include <cstdint>
#include <vector>

#include "common/bytes.h"
#include "common/uuid.h"
#include "protocol/entry.h"

namespace datom::journal {

enum class Tail {
  clean,    // zeros behind the last entry
  torn,     // behind it are remains of one write that a crash interrupted: never acknowledged
  damaged,  // behind it is something else: entries once acknowledged may be lost
};

struct ScannedEntry {
  protocol::EntryHeader header;
  std::size_t offset = 0;  // of its frame in the segment
};

struct SegmentScan {
  std::vector<ScannedEntry> entries;
  std::size_t end = 0;          // of the last entry's frame
  std::size_t content_end = 0;  // behind it are only zeros; a multiple of 4 KiB
  Tail tail = Tail::clean;
};

// `segment` is the whole file; `before` the entry that its first one must follow.
SegmentScan scan_segment(ByteView segment, const Uuid& volume, const protocol::EntryId& before);

}  // namespace datom::journal

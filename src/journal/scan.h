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
  clean,    // nothing was written behind the last entry
  torn,     // behind it are remains of one write that a crash interrupted: never acknowledged
  damaged,  // behind it is something else: entries once acknowledged may be lost
};

struct ScannedEntry {
  protocol::EntryHeader header;
  std::size_t offset = 0;  // of its frame in the segment
};

struct SegmentScan {
  std::vector<ScannedEntry> entries;
  std::size_t end = 0;  // of the last entry's frame
  // Behind it nothing was written since the segment was begun, or only zeros; a multiple of 4 KiB.
  std::size_t content_end = 0;
  Tail tail = Tail::clean;
};

// `segment` is the whole file, a multiple of 4 KiB with room for header and table at least;
// `table_checksum` what its header says of the table; `before` the entry that its first one must
// follow.
SegmentScan scan_segment(ByteView segment, std::uint64_t table_checksum, const Uuid& volume,
                         const protocol::EntryId& before);

// Whether a file that is no part of the journal holds entries above `last` which only a segment
// that had been begun can hold: the header of one was lost.
bool holds_lost_entries(ByteView segment, const Uuid& volume, Op last);

}  // namespace datom::journal

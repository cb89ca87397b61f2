#include "journal/scan.h"

#include <algorithm>
#include <optional>

#include "common/checksum.h"
#include "journal/segment_header.h"

namespace datom::journal {
namespace {

using protocol::EntryHeader;
using protocol::EntryId;
using protocol::kEntryHeaderBytes;

bool follows(const EntryHeader& header, const EntryId& before) {
  return header.op == before.op.next() && header.previous == before.checksum &&
         header.term >= before.term;
}

// Where the frame behind `end` begins: there, or at the next block if the rest of this one is
// padding.
std::size_t next_frame(ByteView segment, std::size_t end) {
  const std::size_t boundary = round_up_to_blocks(end);
  return all_zero(segment.subspan(end, boundary - end)) ? boundary : end;
}

bool frame_inside(ByteView segment, std::size_t at, const EntryHeader& header) {
  return header.frame_bytes() <= segment.size() - at;
}

ByteView body_at(ByteView segment, std::size_t at, const EntryHeader& header) {
  return segment.subspan(at, header.frame_bytes()).subspan(kEntryHeaderBytes);
}

// The intact entry at `at` that follows `before`.
std::optional<EntryHeader> entry_at(ByteView segment, std::size_t at, const Uuid& volume,
                                    const EntryId& before) {
  const auto header = protocol::decode_header(segment.subspan(at), volume);
  if (!header || !follows(*header, before) || !frame_inside(segment, at, *header)) {
    return std::nullopt;
  }
  if (!body_matches(*header, body_at(segment, at, *header))) return std::nullopt;
  return header;
}

// Which sectors were written since the segment was begun: one that is as it was before then, or
// zero from its first byte to its last, was not.
class Sectors {
 public:
  Sectors(ByteView segment, std::uint64_t table_checksum) : segment_(segment) {
    const ByteView table = segment.subspan(kSegmentHeaderBytes, table_bytes(segment.size()));
    if (checksum(table) == table_checksum) table_ = table;
  }

  // Of the sector that holds byte `at`.
  bool unwritten(std::size_t at) const {
    const std::size_t number = at / kSectorSize;
    const ByteView sector = segment_.subspan(number * kSectorSize, kSectorSize);
    if (all_zero(sector)) return true;
    if (table_.empty()) return false;
    const auto before = load_le<std::uint32_t>(table_.data() + number * sizeof(std::uint32_t));
    return before == sector_sum(sector);
  }
  // Whether one of those that hold the bytes [begin, end) was not written.
  bool any_unwritten(std::size_t begin, std::size_t end) const {
    for (std::size_t at = begin / kSectorSize * kSectorSize; at < end; at += kSectorSize) {
      if (unwritten(at)) return true;
    }
    return false;
  }
  // Whether all bytes of [begin, end) that are in sectors written are zero.
  bool written_are_zero(std::size_t begin, std::size_t end) const {
    while (begin < end) {
      const std::size_t next = std::min(end, (begin / kSectorSize + 1) * kSectorSize);
      if (!unwritten(begin) && !all_zero(segment_.subspan(begin, next - begin))) return false;
      begin = next;
    }
    return true;
  }
  // Behind it no sector was written; a multiple of 4 KiB, at least `from`.
  std::size_t content_end(std::size_t from) const {
    std::size_t end = segment_.size();
    while (end > from && all_unwritten(end - kBlockSize)) end -= kBlockSize;
    return end;
  }

 private:
  bool all_unwritten(std::size_t block) const {
    for (std::size_t at = block; at < block + kBlockSize; at += kSectorSize) {
      if (!unwritten(at)) return false;
    }
    return true;
  }

  ByteView segment_;
  ByteView table_;  // empty if it is not as it was written
};

// A write's first frame is at a block's start and no other of its frames is (Journal::append sees
// to that): a later entry found at a block's start is of a later write. What earlier lives of the
// file left is older than the last entry.
bool write_begins_behind(ByteView segment, std::size_t behind, const Uuid& volume, Op last) {
  for (std::size_t at = behind / kBlockSize * kBlockSize + kBlockSize; at < segment.size();
       at += kBlockSize) {
    const auto header = protocol::decode_header(segment.subspan(at), volume);
    if (header && header->op > last) return true;
  }
  return false;
}

// Of a frame with a good header and a bad body: whether every part that fails its checksum has a
// sector that was not written.
bool body_is_torn(ByteView segment, const Sectors& sectors, std::size_t at,
                  const EntryHeader& header) {
  const ByteView body = body_at(segment, at, header);
  const std::size_t payload = at + header.payload_at();
  if (!checksums_match(header, body)) {
    return sectors.any_unwritten(at + kEntryHeaderBytes, payload);
  }
  const std::size_t end = at + header.frame_bytes();
  for (std::size_t block = 0; payload + block * kBlockSize < end; ++block) {
    if (block_matches(header, body, block)) continue;
    const std::size_t begin = payload + block * kBlockSize;
    if (!sectors.any_unwritten(begin, std::min(begin + kBlockSize, end))) return false;
  }
  return true;
}

// How the segment ends behind its last good entry, given that something is there.
Tail judge(ByteView segment, const Sectors& sectors, std::size_t end, const Uuid& volume,
           const EntryId& last) {
  const std::size_t boundary = round_up_to_blocks(end);
  const std::size_t at = next_frame(segment, end);
  if (write_begins_behind(segment, at, volume, last.op)) return Tail::damaged;

  // What is here instead of padding or a header was here before: the write's last sectors are lost,
  // and perhaps its next frame's header.
  if (at != boundary && sectors.written_are_zero(end, boundary)) return Tail::torn;

  const auto header = protocol::decode_header(segment.subspan(at), volume);
  if (header && follows(*header, last) && frame_inside(segment, at, *header)) {
    return body_is_torn(segment, sectors, at, *header) ? Tail::torn : Tail::damaged;
  }
  const std::size_t header_end = std::min(at + kEntryHeaderBytes, segment.size());
  if (sectors.any_unwritten(at, header_end)) return Tail::torn;
  if (header) return Tail::damaged;

  // What looked like padding may be where a frame's header was to be, and this the frame's remains.
  const bool padding_may_be_unwritten = at != end && sectors.unwritten(end);
  if (padding_may_be_unwritten && !protocol::resembles_successor(segment.subspan(at), last)) {
    return Tail::torn;
  }
  return Tail::damaged;
}

}  // namespace

SegmentScan scan_segment(ByteView segment, std::uint64_t table_checksum, const Uuid& volume,
                         const EntryId& before) {
  SegmentScan scan;
  scan.end = content_begin(segment.size());
  EntryId last = before;
  for (;;) {
    const std::size_t at = next_frame(segment, scan.end);
    const auto header = entry_at(segment, at, volume, last);
    if (!header) break;
    scan.entries.push_back({*header, at});
    scan.end = at + header->frame_bytes();
    last = header->id();
  }
  const Sectors sectors(segment, table_checksum);
  const std::size_t boundary = round_up_to_blocks(scan.end);
  scan.content_end = sectors.content_end(boundary);
  const bool something_behind =
      scan.content_end > boundary || !all_zero(segment.subspan(scan.end, boundary - scan.end));
  if (something_behind) scan.tail = judge(segment, sectors, scan.end, volume, last);
  return scan;
}

bool holds_lost_entries(ByteView segment, const Uuid& volume, Op last) {
  return write_begins_behind(segment, content_begin(segment.size()), volume, last);
}

}  // namespace datom::journal

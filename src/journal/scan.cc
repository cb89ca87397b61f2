#include "journal/scan.h"

#include <algorithm>
#include <optional>

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

// The intact entry at `at` that follows `before`.
std::optional<EntryHeader> entry_at(ByteView segment, std::size_t at, const Uuid& volume,
                                    const EntryId& before) {
  const auto header = protocol::decode_header(segment.subspan(at), volume);
  if (!header || !follows(*header, before) || !frame_inside(segment, at, *header)) {
    return std::nullopt;
  }
  const ByteView payload = segment.subspan(at + kEntryHeaderBytes, header->payload_length);
  if (!payload_matches(*header, payload)) return std::nullopt;
  return header;
}

std::size_t end_of_content(ByteView segment, std::size_t from) {
  std::size_t end = segment.size();
  while (end > from && all_zero(segment.subspan(end - kBlockSize, kBlockSize))) end -= kBlockSize;
  return end;
}

// Whether a sector that holds a byte of [begin, end) is zero from its first byte to its last: it
// was never written.
bool has_unwritten_sector(ByteView segment, std::size_t begin, std::size_t end) {
  for (std::size_t at = begin / kSectorSize * kSectorSize; at < end; at += kSectorSize) {
    if (all_zero(segment.subspan(at, kSectorSize))) return true;
  }
  return false;
}

// A write's first frame is at a block's start and no other of its frames is (Journal::append sees
// to that): a later entry found at a block's start is of a later write.
bool later_write_begins(ByteView segment, std::size_t behind, const Uuid& volume,
                        const EntryId& last) {
  for (std::size_t at = behind / kBlockSize * kBlockSize + kBlockSize; at < segment.size();
       at += kBlockSize) {
    const auto header = protocol::decode_header(segment.subspan(at), volume);
    if (header && header->op > last.op) return true;
  }
  return false;
}

// How the segment ends behind its last good entry, given that something is there.
Tail judge(ByteView segment, std::size_t end, const Uuid& volume, const EntryId& last) {
  const std::size_t at = next_frame(segment, end);
  if (later_write_begins(segment, at, volume, last)) return Tail::damaged;

  const auto header = protocol::decode_header(segment.subspan(at), volume);
  if (header && !follows(*header, last)) return Tail::damaged;
  const bool whole = header && frame_inside(segment, at, *header);
  const std::size_t claimed = whole ? header->frame_bytes() : kEntryHeaderBytes;
  if (has_unwritten_sector(segment, at, std::min(at + claimed, segment.size()))) return Tail::torn;

  // What looked like padding may be where a frame's header was to be, and this the frame's remains.
  const bool padding_may_be_unwritten = at != end && has_unwritten_sector(segment, end, end + 1);
  if (padding_may_be_unwritten && !protocol::resembles_successor(segment.subspan(at), last)) {
    return Tail::torn;
  }
  return Tail::damaged;
}

}  // namespace

SegmentScan scan_segment(ByteView segment, const Uuid& volume, const EntryId& before) {
  SegmentScan scan;
  scan.end = kSegmentHeaderBytes;
  EntryId last = before;
  for (;;) {
    const std::size_t at = next_frame(segment, scan.end);
    const auto header = entry_at(segment, at, volume, last);
    if (!header) break;
    scan.entries.push_back({*header, at});
    scan.end = at + header->frame_bytes();
    last = header->id();
  }
  scan.content_end = end_of_content(segment, round_up_to_blocks(scan.end));
  const bool something_behind = scan.content_end > round_up_to_blocks(scan.end) ||
                                !all_zero(segment.subspan(scan.end, scan.content_end - scan.end));
  if (something_behind) scan.tail = judge(segment, scan.end, volume, last);
  return scan;
}

}  // namespace datom::journal

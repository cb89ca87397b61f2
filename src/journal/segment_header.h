// The first block of a segment file, and the file's name (docs/formats.md, "Journal").
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/bytes.h"
#include "common/uuid.h"
#include "protocol/entry.h"

namespace datom::journal {

// A disk writes this much at once or not at all; the rules of recovery rest on it.
inline constexpr std::size_t kSectorSize = 512;
// Where a segment's first write begins.
inline constexpr std::size_t kSegmentHeaderBytes = kBlockSize;

inline std::uint64_t round_up_to_blocks(std::uint64_t bytes) {
  return (bytes + kBlockSize - 1) / kBlockSize * kBlockSize;
}

struct SegmentHeader {
  std::uint32_t sequence = 0;  // the file's, never used twice in a journal
  std::uint64_t bytes = 0;     // the file's size
  Uuid volume;
  protocol::EntryId base;  // of the entry before the segment's first
  bool origin = false;     // the journal begins here: segments of lower sequence are obsolete
};

// "0000000042.segment"
std::string segment_name(std::uint32_t sequence);
// The sequence, or nullopt where the name is none of a segment.
std::optional<std::uint32_t> segment_sequence(std::string_view name);

// One block. What it says is in its first sector: it is written whole or not at all.
Buffer encode_segment_header(const SegmentHeader& header);
// nullopt where no header passes its checksum. Throws Error{unsupported} for one of a later format.
std::optional<SegmentHeader> decode_segment_header(ByteView block);

}  // namespace datom::journal

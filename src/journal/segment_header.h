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
inline constexpr std::size_t kSegmentHeaderBytes = kBlockSize;

inline std::uint64_t round_up_to_blocks(std::uint64_t bytes) {
  return (bytes + kBlockSize - 1) / kBlockSize * kBlockSize;
}

// Behind the header of a file of that size: a sum of each of its sectors, as they were before the
// segment was begun. Then the place of the first write.
inline std::uint64_t table_bytes(std::uint64_t file_bytes) {
  return round_up_to_blocks(file_bytes / kSectorSize * sizeof(std::uint32_t));
}
inline std::uint64_t content_begin(std::uint64_t file_bytes) {
  return kSegmentHeaderBytes + table_bytes(file_bytes);
}
// REQUIRES: a whole sector.
std::uint32_t sector_sum(ByteView sector);

struct SegmentHeader {
  enum class State : std::uint8_t {
    begun,
    origin,  // begun, and the journal begins here: segments of lower sequence are obsolete
    spare,   // its entries went; sequence, base and table say nothing
  };
  State state = State::begun;
  std::uint32_t number = 0;    // of the file, as in its name
  std::uint32_t sequence = 0;  // ascends along the journal
  std::uint64_t bytes = 0;     // the file's size
  Uuid volume;
  protocol::EntryId base;            // of the entry before the segment's first
  std::uint64_t table_checksum = 0;  // of all bytes of the table
};

// "0000000042.segment"
std::string segment_name(std::uint32_t number);
// The number, or nullopt where the name is none of a segment.
std::optional<std::uint32_t> segment_number(std::string_view name);

// One block. What it says is in its first sector: it is written whole or not at all.
Buffer encode_segment_header(const SegmentHeader& header);
// nullopt where no header passes its checksum. Throws Error{unsupported} for one of a later format.
std::optional<SegmentHeader> decode_segment_header(ByteView block);

}  // namespace datom::journal

// Journal entries with good checksums and whatever else an input says.
#pragma once

#include <vector>

#include "common/checksum.h"
#include "fuzz/input.h"
#include "protocol/entry.h"

namespace datom::fuzz {

inline const Uuid kVolume = Uuid::from_random(7, 8);

// Byte offsets in an encoded header (docs/formats.md).
inline constexpr std::size_t kTermAt = 8;
inline constexpr std::size_t kOpAt = 16;
inline constexpr std::size_t kHeaderChecksumAt = 120;

// Of a sealed frame: how many of its header's bytes are changed before it is sealed, and whether it
// is sealed again, and its payload the one it says.
enum FrameFlags : std::uint8_t { changes_mask = 3, unsealed = 4, other_payload = 8 };

// A header that a leader may write behind `last`.
inline protocol::EntryHeader plausible_header(Input& input, const protocol::EntryId& last) {
  using protocol::EntryKind;
  protocol::EntryHeader header;
  header.kind = static_cast<EntryKind>(1 + input.byte() % 6);
  header.term = last.term;
  header.op = last.op.next();
  header.previous = last.checksum;
  const std::uint8_t amount = input.byte();
  if (header.kind == EntryKind::attach || header.kind == EntryKind::config) {
    header.payload_length = amount;
  } else if (header.kind != EntryKind::no_op) {
    header.length = (1 + amount % 3) * kBlockSize;
    header.offset = input.byte() * kBlockSize;
    if (header.kind == EntryKind::write) {
      header.payload_length = static_cast<std::uint32_t>(header.length);
    }
  }
  return header;
}

// The bytes of one frame; `last` is the entry before, and becomes this one.
inline std::vector<std::byte> sealed_frame(Input& input, protocol::EntryId& last) {
  const std::uint8_t flags = input.byte();
  protocol::EntryHeader header = plausible_header(input, last);
  std::vector<std::byte> frame(header.frame_bytes(), std::byte{0x5a});
  const MutableBytes bytes(frame);
  header.payload_checksum =
      protocol::seal_body(bytes.subspan(protocol::kEntryHeaderBytes), header.payload_length);
  if ((flags & other_payload) != 0) ++header.payload_checksum;
  protocol::seal_header(header, kVolume, bytes.first(protocol::kEntryHeaderBytes));
  for (int changes = flags & changes_mask; changes > 0; --changes) {
    const std::size_t at = input.byte() % kHeaderChecksumAt;
    bytes[at] = std::byte{input.byte()};
  }
  if ((flags & unsealed) == 0) {
    const std::uint64_t seed = checksum(std::as_bytes(std::span(kVolume.bytes)));
    store_le(bytes.data() + kHeaderChecksumAt, checksum(bytes.first(kHeaderChecksumAt), seed));
  }
  last.term = Term(load_le<std::uint64_t>(bytes.data() + kTermAt));
  last.op = Op(load_le<std::uint64_t>(bytes.data() + kOpAt));
  last.checksum = load_le<std::uint64_t>(bytes.data() + kHeaderChecksumAt);
  if (last.op.value() == UINT64_MAX) last.op = Op(0);
  return frame;
}

// An input that makes a good frame; `amount`: blocks of a range less one, or bytes of a payload.
inline void put_frame(Output& out, protocol::EntryKind kind, std::uint8_t amount) {
  out.number<std::uint8_t>(0);
  out.number(static_cast<std::uint8_t>(static_cast<std::uint8_t>(kind) - 1)).number(amount);
  const bool range = kind == protocol::EntryKind::write || kind == protocol::EntryKind::zero ||
                     kind == protocol::EntryKind::trim;
  if (range) out.number<std::uint8_t>(1);
}

}  // namespace datom::fuzz

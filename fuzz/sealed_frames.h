// Journal entries with good checksums and whatever else an input says.
#pragma once

#include <vector>

#include "fuzz/input.h"
#include "protocol/entry.h"

namespace datom::fuzz {

inline const Uuid kVolume = Uuid::from_random(7, 8);

// The bytes of one frame; `last` is the entry before, and becomes this one.
inline std::vector<std::byte> sealed_frame(Input& input, protocol::EntryId& last) {
  const std::uint8_t flags = input.byte();
  protocol::EntryHeader header;
  header.kind = static_cast<protocol::EntryKind>(1 + input.byte() % 7);
  header.term = Term(last.term.value() + ((flags & 1) != 0 ? input.byte() : 0));
  header.op = Op(last.op.value() + ((flags & 2) != 0 ? input.byte() : 1));
  header.previous = (flags & 4) != 0 ? input.byte() : last.checksum;
  header.commit_hint = Op(input.byte());
  header.offset = input.byte() * kBlockSize + ((flags & 8) != 0 ? 1 : 0);
  header.payload_length = (flags & 16) != 0 ? kBlockSize * (1 + input.byte() % 3) : input.byte();
  header.length = (flags & 32) != 0 ? input.number<std::uint64_t>() : header.payload_length;
  std::vector<std::byte> frame(protocol::kEntryHeaderBytes + header.payload_length,
                               std::byte{0x5a});
  const MutableBytes bytes(frame);
  header.payload_checksum = (flags & 64) != 0 ? 1 : 0;
  if ((flags & 64) == 0) {
    protocol::BatchBuilder builder(frame.size(), kVolume);
    const ByteView payload(frame.data() + protocol::kEntryHeaderBytes, header.payload_length);
    last = builder.add(header, payload);
    const protocol::EntryBatch batch = builder.finish();
    std::copy_n(batch.bytes.data(), frame.size(), frame.data());
  } else {
    protocol::seal_header(header, kVolume, bytes.first(protocol::kEntryHeaderBytes));
    last = header.id();
  }
  return frame;
}

// An input that makes such a frame, good in all.
inline void put_frame(Output& out, protocol::EntryKind kind, std::uint8_t blocks) {
  out.number<std::uint8_t>(blocks > 0 ? 16 : 0);
  out.number(static_cast<std::uint8_t>(static_cast<std::uint8_t>(kind) - 1));
  out.number<std::uint8_t>(0).number<std::uint8_t>(1);
  out.number<std::uint8_t>(blocks > 0 ? static_cast<std::uint8_t>(blocks - 1) : 0);
}

}  // namespace datom::fuzz

// A journal entry: one op of a group's history. It is one frame, header and payload, the same bytes
// on the wire and on every disk (docs/formats.md).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/bytes.h"
#include "common/strong.h"
#include "common/uuid.h"

namespace datom::protocol {

enum class EntryKind : std::uint8_t {
  no_op = 1,  // a new leader's first entry; no effect
  write = 2,  // payload: `length` bytes for [offset, offset + length)
  zero = 3,   // the range reads as zeros; its space stays reserved
  trim = 4,   // the range reads as zeros; its space is given back
  attach =
      5,  // opens a session: its number is this entry's op. payload: replication/sessions.h Attach
  config = 6,  // marks a change of the group's members (reserved for membership changes)
};

// What names an entry: equal ids mean equal entries and equal histories before them.
struct EntryId {
  Term term;
  Op op;
  std::uint64_t checksum = 0;  // of the entry's header, which covers payload and predecessor

  auto operator<=>(const EntryId&) const = default;
};

inline constexpr std::size_t kEntryHeaderBytes = 128;
inline constexpr std::size_t kMaxEntryPayload = 1 << 20;

// From this size on a payload begins at a multiple of kPayloadAlignment of its frame, and so in a
// batch of such frames: it can be written O_DIRECT from there.
inline constexpr std::size_t kAlignedPayload = 256 << 10;
inline constexpr std::size_t kPayloadAlignment = 512;

// A frame is a header, the checksums of the payload's blocks of 4 KiB, before a large payload
// zeros, and the payload. That of one block is no multiple of 128 bytes: 511 of them follow each
// other before the next would begin at a block's start, where the journal has to begin another
// write. So what is before a large payload is an odd multiple of the alignment: 7 of these follow
// each other.
constexpr std::size_t checksums_bytes(std::size_t payload_bytes) {
  const std::size_t bytes = (payload_bytes + kBlockSize - 1) / kBlockSize * sizeof(std::uint64_t);
  if (payload_bytes < kAlignedPayload) return bytes;
  const std::size_t units = (kEntryHeaderBytes + bytes + kPayloadAlignment - 1) / kPayloadAlignment;
  return (units | 1) * kPayloadAlignment - kEntryHeaderBytes;
}
constexpr std::size_t frame_bytes(std::size_t payload_bytes) {
  return kEntryHeaderBytes + checksums_bytes(payload_bytes) + payload_bytes;
}

struct EntryHeader {
  EntryKind kind = EntryKind::no_op;
  Term term;
  Op op;
  std::uint64_t previous = 0;  // checksum of the entry before: the chain
  Op commit_hint;              // the leader's commit point when it appended: evidence in recovery
  Op session;                  // op of the attach entry; 0: none
  std::uint64_t sequence = 0;  // of the request within its session
  std::uint64_t first_incomplete = 0;  // lowest sequence the client still waits for
  std::uint64_t offset = 0;            // bytes; multiple of 4 KiB for write, zero and trim
  std::uint64_t length = 0;            // bytes; multiple of 4 KiB for write, zero and trim
  std::uint32_t payload_length = 0;
  std::uint64_t payload_checksum = 0;  // of the checksums of its blocks
  std::uint64_t checksum = 0;  // of the encoded header; filled in by seal_header and decode_header

  EntryId id() const { return {term, op, checksum}; }
  std::size_t frame_bytes() const { return protocol::frame_bytes(payload_length); }
  // Where in the frame the payload begins.
  std::size_t payload_at() const { return kEntryHeaderBytes + checksums_bytes(payload_length); }
};

// Encodes into `to` (128 bytes), filling in header.checksum. `volume` is mixed into the checksum:
// an entry of another volume never passes.
void seal_header(EntryHeader& header, const Uuid& volume, MutableBytes to);

// The header at `from` (at least 128 bytes, else nullopt), or nullopt where there is none that
// passes its checksum and bounds (known kind, payload_length <= kMaxEntryPayload, alignment, length
// equal to payload_length for a write).
std::optional<EntryHeader> decode_header(ByteView from, const Uuid& volume);

// Whether the bytes at `from`, which decode to no header, may once have been the header of the
// entry behind `before`: magic, op or previous is still the one it would have. Tells a damaged
// header from other data.
bool resembles_successor(ByteView from, const EntryId& before);

// `body` is the frame behind its header. Whether it is the one that the header describes.
bool body_matches(const EntryHeader& header, ByteView body);
// Whether the checksums in it are those that the header describes; of the payload, nothing.
bool checksums_match(const EntryHeader& header, ByteView body);
// Whether the payload's block matches its checksum. REQUIRES: checksums_match; the block is there.
bool block_matches(const EntryHeader& header, ByteView body, std::size_t block);
// Fills in the checksums of the blocks of a payload that is in place, and gives the one for the
// header. REQUIRES: `body` is as long as a payload of `payload_bytes` needs it.
std::uint64_t seal_body(MutableBytes body, std::size_t payload_bytes);

// An entry in memory: the rest points into the frame it was read or received in.
struct Entry {
  EntryHeader header;
  Buffer payload;
  // Of the payload's blocks, 8 bytes each, verified; empty in an entry that came from no batch.
  Buffer checksums{};

  // XXH3-64 of bytes [4096 * block, 4096 * block + 4096) of the payload.
  std::uint64_t block_checksum(std::size_t block) const;
};

// A run of consecutive entries, frames one after another, in memory that can be written O_DIRECT:
// bytes.size() is a multiple of 4 KiB, zeros behind the last frame.
struct EntryBatch {
  std::vector<EntryHeader> headers;
  std::vector<std::size_t> frame_offsets;  // where each frame begins in bytes
  Buffer bytes;

  bool empty() const { return headers.empty(); }
  // Shares the batch's memory.
  Entry entry(std::size_t index) const;
  // Of an entry's frame, what is behind the header.
  ByteView body(std::size_t index) const;
};

// Takes apart the bytes of a batch that came from a peer or a disk: frames without gap, until
// padding of zeros shorter than 4 KiB. Verifies each header, payload, op succession and chain.
// Throws Error{corrupt}.
EntryBatch parse_batch(Buffer bytes, const Uuid& volume);

// Builds a batch. Bounded: fits() first.
class BatchBuilder {
 public:
  // Room for `capacity` bytes of frames (rounded up to 4 KiB).
  explicit BatchBuilder(std::size_t capacity, const Uuid& volume);

  bool fits(std::size_t payload_bytes) const;
  bool empty() const { return batch_.empty(); }
  // Seals the header (payload length and checksum are filled in) and copies the payload behind it.
  // `header.previous`, term and op are the caller's. Gives the entry's id.
  EntryId add(EntryHeader header, ByteView payload);
  // Pads and gives the batch. The builder is used up.
  EntryBatch finish();

 private:
  Uuid volume_;
  Buffer memory_;
  std::size_t used_ = 0;
  EntryBatch batch_;
};

}  // namespace datom::protocol

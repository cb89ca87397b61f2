#include "protocol/entry.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "common/check.h"
#include "common/checksum.h"
#include "common/error.h"

namespace datom::protocol {
namespace {

constexpr std::uint32_t kMagic = 0x31454444;  // "DDE1"
constexpr std::uint8_t kVersion = 3;

// Where the fields of an encoded header are (docs/formats.md).
namespace at {
constexpr std::size_t magic = 0;
constexpr std::size_t kind = 4;
constexpr std::size_t version = 5;
constexpr std::size_t reserved_u16 = 6;
constexpr std::size_t term = 8;
constexpr std::size_t op = 16;
constexpr std::size_t previous = 24;
constexpr std::size_t commit_hint = 32;
constexpr std::size_t session = 40;
constexpr std::size_t sequence = 48;
constexpr std::size_t first_incomplete = 56;
constexpr std::size_t offset = 64;
constexpr std::size_t length = 72;
constexpr std::size_t payload_length = 80;
constexpr std::size_t reserved_u32 = 84;
constexpr std::size_t payload_checksum = 88;
constexpr std::size_t reserved = 96;
constexpr std::size_t header_checksum = 120;
}  // namespace at

constexpr std::size_t kMaxRecordPayload = kBlockSize;  // of attach and config entries

std::uint64_t seed_of(const Uuid& volume) {
  return checksum(std::as_bytes(std::span(volume.bytes)));
}

std::uint64_t header_checksum(ByteView encoded, const Uuid& volume) {
  return checksum(encoded.first(at::header_checksum), seed_of(volume));
}

std::size_t round_up_to_blocks(std::size_t bytes) {
  return (bytes + kBlockSize - 1) / kBlockSize * kBlockSize;
}

bool whole_blocks(const EntryHeader& header) {
  return header.length > 0 && header.offset % kBlockSize == 0 && header.length % kBlockSize == 0 &&
         header.length <= std::numeric_limits<std::uint64_t>::max() - header.offset;
}

bool within_bounds(const EntryHeader& header) {
  if (header.op == Op{} || header.payload_length > kMaxEntryPayload) return false;
  const bool no_range = header.offset == 0 && header.length == 0;
  switch (header.kind) {
    case EntryKind::write:
      return whole_blocks(header) && header.length == header.payload_length;
    case EntryKind::zero:
    case EntryKind::trim:
      return whole_blocks(header) && header.payload_length == 0;
    case EntryKind::no_op:
      return no_range && header.payload_length == 0;
    case EntryKind::attach:
    case EntryKind::config:
      return no_range && header.payload_length <= kMaxRecordPayload;
  }
  return false;
}

// Whether the fields that say nothing yet are as this version writes them.
bool frame_of_this_version(const std::byte* from) {
  return load_le<std::uint32_t>(from + at::magic) == kMagic &&
         load_le<std::uint8_t>(from + at::version) == kVersion &&
         load_le<std::uint16_t>(from + at::reserved_u16) == 0 &&
         load_le<std::uint32_t>(from + at::reserved_u32) == 0 &&
         all_zero({from + at::reserved, at::header_checksum - at::reserved});
}

EntryHeader load_fields(const std::byte* from) {
  EntryHeader header;
  header.kind = static_cast<EntryKind>(load_le<std::uint8_t>(from + at::kind));
  header.term = Term(load_le<std::uint64_t>(from + at::term));
  header.op = Op(load_le<std::uint64_t>(from + at::op));
  header.previous = load_le<std::uint64_t>(from + at::previous);
  header.commit_hint = Op(load_le<std::uint64_t>(from + at::commit_hint));
  header.session = Op(load_le<std::uint64_t>(from + at::session));
  header.sequence = load_le<std::uint64_t>(from + at::sequence);
  header.first_incomplete = load_le<std::uint64_t>(from + at::first_incomplete);
  header.offset = load_le<std::uint64_t>(from + at::offset);
  header.length = load_le<std::uint64_t>(from + at::length);
  header.payload_length = load_le<std::uint32_t>(from + at::payload_length);
  header.payload_checksum = load_le<std::uint64_t>(from + at::payload_checksum);
  header.checksum = load_le<std::uint64_t>(from + at::header_checksum);
  return header;
}

}  // namespace

void seal_header(EntryHeader& header, const Uuid& volume, MutableBytes to) {
  DATOM_CHECK(to.size() >= kEntryHeaderBytes);
  DATOM_CHECK(within_bounds(header));
  std::byte* out = to.data();
  std::memset(out, 0, kEntryHeaderBytes);
  store_le(out + at::magic, kMagic);
  store_le(out + at::kind, static_cast<std::uint8_t>(header.kind));
  store_le(out + at::version, kVersion);
  store_le(out + at::term, header.term.value());
  store_le(out + at::op, header.op.value());
  store_le(out + at::previous, header.previous);
  store_le(out + at::commit_hint, header.commit_hint.value());
  store_le(out + at::session, header.session.value());
  store_le(out + at::sequence, header.sequence);
  store_le(out + at::first_incomplete, header.first_incomplete);
  store_le(out + at::offset, header.offset);
  store_le(out + at::length, header.length);
  store_le(out + at::payload_length, header.payload_length);
  store_le(out + at::payload_checksum, header.payload_checksum);
  header.checksum = header_checksum(to, volume);
  store_le(out + at::header_checksum, header.checksum);
}

std::optional<EntryHeader> decode_header(ByteView from, const Uuid& volume) {
  if (from.size() < kEntryHeaderBytes || !frame_of_this_version(from.data())) return std::nullopt;
  const EntryHeader header = load_fields(from.data());
  if (header.checksum != header_checksum(from, volume)) return std::nullopt;
  if (!within_bounds(header)) return std::nullopt;
  return header;
}

bool resembles_successor(ByteView from, const EntryId& before) {
  if (from.size() < kEntryHeaderBytes) return false;
  return load_le<std::uint32_t>(from.data() + at::magic) == kMagic ||
         load_le<std::uint64_t>(from.data() + at::op) == before.op.next().value() ||
         load_le<std::uint64_t>(from.data() + at::previous) == before.checksum;
}

namespace {

std::size_t blocks_of(std::size_t payload_bytes) {
  return (payload_bytes + kBlockSize - 1) / kBlockSize;
}

ByteView block_of(ByteView body, std::size_t payload_bytes, std::size_t block) {
  const std::size_t at = checksums_bytes(payload_bytes) + block * kBlockSize;
  return body.subspan(at, std::min(kBlockSize, body.size() - at));
}

}  // namespace

bool checksums_match(const EntryHeader& header, ByteView body) {
  const std::size_t bytes = checksums_bytes(header.payload_length);
  return body.size() == bytes + header.payload_length &&
         checksum(body.first(bytes)) == header.payload_checksum;
}

bool block_matches(const EntryHeader& header, ByteView body, std::size_t block) {
  return checksum(block_of(body, header.payload_length, block)) ==
         load_le<std::uint64_t>(body.data() + block * sizeof(std::uint64_t));
}

bool body_matches(const EntryHeader& header, ByteView body) {
  if (!checksums_match(header, body)) return false;
  for (std::size_t block = 0; block < blocks_of(header.payload_length); ++block) {
    if (!block_matches(header, body, block)) return false;
  }
  return true;
}

std::uint64_t seal_body(MutableBytes body, std::size_t payload_bytes) {
  const std::size_t bytes = checksums_bytes(payload_bytes);
  DATOM_CHECK(body.size() == bytes + payload_bytes);
  const std::size_t used = blocks_of(payload_bytes) * sizeof(std::uint64_t);
  std::memset(body.data() + used, 0, bytes - used);
  for (std::size_t block = 0; block < blocks_of(payload_bytes); ++block) {
    store_le(body.data() + block * sizeof(std::uint64_t),
             checksum(block_of(body, payload_bytes, block)));
  }
  return checksum(body.first(bytes));
}

std::uint64_t Entry::block_checksum(std::size_t block) const {
  if (!checksums.empty()) {
    return load_le<std::uint64_t>(checksums.data() + block * sizeof(std::uint64_t));
  }
  const std::size_t at = block * kBlockSize;
  return checksum(payload.view().subspan(at, std::min(kBlockSize, payload.size() - at)));
}

Entry EntryBatch::entry(std::size_t index) const {
  DATOM_CHECK(index < headers.size());
  const EntryHeader& header = headers[index];
  const std::size_t frame = frame_offsets[index];
  return {header, bytes.slice(frame + header.payload_at(), header.payload_length),
          bytes.slice(frame + kEntryHeaderBytes, checksums_bytes(header.payload_length))};
}

ByteView EntryBatch::body(std::size_t index) const {
  DATOM_CHECK(index < headers.size());
  return bytes.view().subspan(frame_offsets[index] + kEntryHeaderBytes,
                              headers[index].frame_bytes() - kEntryHeaderBytes);
}

namespace {

// As many entries as are usual.
void reserve_for_blocks(EntryBatch& batch, std::size_t bytes) {
  const std::size_t entries = bytes / frame_bytes(kBlockSize) + 1;
  batch.headers.reserve(entries);
  batch.frame_offsets.reserve(entries);
}

}  // namespace

EntryBatch parse_batch(Buffer bytes, const Uuid& volume) {
  if (bytes.size() % kBlockSize != 0) {
    throw Error(Code::corrupt, "a batch of {} bytes, expected a multiple of {}", bytes.size(),
                kBlockSize);
  }
  EntryBatch batch;
  reserve_for_blocks(batch, bytes.size());
  std::size_t at = 0;
  while (at < bytes.size()) {
    const ByteView rest = bytes.view().subspan(at);
    if (at > 0 && rest.size() < kBlockSize && all_zero(rest)) break;
    const std::optional<EntryHeader> header = decode_header(rest, volume);
    if (!header) throw Error(Code::corrupt, "no valid entry header at byte {} of a batch", at);
    const std::uint64_t op = header->op.value();
    if (header->frame_bytes() > rest.size()) {
      throw Error(Code::corrupt, "entry {} has {} bytes, its batch has {} left", op,
                  header->frame_bytes(), rest.size());
    }
    if (!body_matches(*header, rest.first(header->frame_bytes()).subspan(kEntryHeaderBytes))) {
      throw Error(Code::corrupt, "the payload of entry {} fails its checksum", op);
    }
    if (!batch.empty()) {
      const EntryHeader& before = batch.headers.back();
      if (header->op != before.op.next() || header->previous != before.checksum ||
          header->term < before.term) {
        throw Error(Code::corrupt, "entry {} of term {} does not follow entry {} of term {}", op,
                    header->term.value(), before.op.value(), before.term.value());
      }
    }
    batch.headers.push_back(*header);
    batch.frame_offsets.push_back(at);
    at += header->frame_bytes();
  }
  batch.bytes = std::move(bytes);
  return batch;
}

BatchBuilder::BatchBuilder(std::size_t capacity, const Uuid& volume)
    : volume_(volume), memory_(Buffer::allocate(round_up_to_blocks(capacity))) {
  reserve_for_blocks(batch_, capacity);
}

bool BatchBuilder::fits(std::size_t payload_bytes) const {
  const std::size_t left = memory_.size() - used_;
  return payload_bytes <= kMaxEntryPayload && frame_bytes(payload_bytes) <= left;
}

EntryId BatchBuilder::add(EntryHeader header, ByteView payload) {
  DATOM_CHECK(fits(payload.size()));
  header.payload_length = static_cast<std::uint32_t>(payload.size());
  const MutableBytes frame = memory_.mutable_view().subspan(used_, header.frame_bytes());
  if (!payload.empty()) {
    std::memcpy(frame.data() + header.payload_at(), payload.data(), payload.size());
  }
  header.payload_checksum = seal_body(frame.subspan(kEntryHeaderBytes), payload.size());
  seal_header(header, volume_, frame);
  batch_.headers.push_back(header);
  batch_.frame_offsets.push_back(used_);
  used_ += frame.size();
  return header.id();
}

EntryBatch BatchBuilder::finish() {
  const std::size_t padded = round_up_to_blocks(used_);
  std::memset(memory_.mutable_data() + used_, 0, padded - used_);
  batch_.bytes = std::exchange(memory_, {}).slice(0, padded);
  used_ = 0;
  return std::exchange(batch_, {});
}

}  // namespace datom::protocol

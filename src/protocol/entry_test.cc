#include "protocol/entry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <functional>
#include <string>

#include "common/checksum.h"
#include "common/error.h"

namespace datom::protocol {
namespace {

const Uuid kVolume = Uuid::from_random(1, 2);
const Uuid kOtherVolume = Uuid::from_random(1, 3);

EntryHeader write_header(std::uint64_t op, std::size_t length = kBlockSize) {
  EntryHeader header;
  header.kind = EntryKind::write;
  header.term = Term(3);
  header.op = Op(op);
  header.previous = 0x1122334455667788;
  header.commit_hint = Op(op - 1);
  header.session = Op(2);
  header.sequence = 77;
  header.first_incomplete = 70;
  header.offset = 5 * kBlockSize;
  header.length = length;
  header.payload_length = static_cast<std::uint32_t>(length);
  return header;
}

Buffer filled(std::size_t size, int byte) {
  Buffer buffer = Buffer::allocate(size);
  std::memset(buffer.mutable_data(), byte, size);
  return buffer;
}

// Three entries in a chain: a write of one block, a trim, a write of two blocks.
EntryBatch three_entries() {
  BatchBuilder builder(4 * kBlockSize, kVolume);
  EntryHeader first = write_header(10);
  const EntryId id10 = builder.add(first, filled(kBlockSize, 0xaa).view());
  EntryHeader second = write_header(11);
  second.kind = EntryKind::trim;
  second.previous = id10.checksum;
  const EntryId id11 = builder.add(second, {});
  EntryHeader third = write_header(12, 2 * kBlockSize);
  third.previous = id11.checksum;
  builder.add(third, filled(2 * kBlockSize, 0xbb).view());
  return builder.finish();
}

Buffer copy_of(const EntryBatch& batch) {
  return Buffer::copy_of(batch.bytes.view());
}

// Encodes a header whose field at `offset` is replaced, with a checksum that fits again.
template <typename Integer>
std::array<std::byte, kEntryHeaderBytes> sealed_with(EntryHeader header, std::size_t offset,
                                                     Integer value) {
  std::array<std::byte, kEntryHeaderBytes> bytes;
  seal_header(header, kVolume, bytes);
  store_le(bytes.data() + offset, value);
  const std::uint64_t seed = checksum(std::as_bytes(std::span(kVolume.bytes)));
  store_le(bytes.data() + 120, checksum(ByteView(bytes).first(120), seed));
  return bytes;
}

TEST(EntryHeader, ComesBackFromItsEncoding) {
  EntryHeader header = write_header(9);
  header.payload_checksum = 0xfeedfacecafebeef;
  std::array<std::byte, kEntryHeaderBytes> bytes;
  seal_header(header, kVolume, bytes);

  const std::optional<EntryHeader> decoded = decode_header(bytes, kVolume);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->kind, EntryKind::write);
  EXPECT_EQ(decoded->id(), header.id());
  EXPECT_EQ(decoded->previous, header.previous);
  EXPECT_EQ(decoded->commit_hint, Op(8));
  EXPECT_EQ(decoded->session, Op(2));
  EXPECT_EQ(decoded->sequence, 77u);
  EXPECT_EQ(decoded->first_incomplete, 70u);
  EXPECT_EQ(decoded->offset, 5 * kBlockSize);
  EXPECT_EQ(decoded->length, kBlockSize);
  EXPECT_EQ(decoded->payload_length, kBlockSize);
  EXPECT_EQ(decoded->payload_checksum, 0xfeedfacecafebeef);
}

// docs/formats.md: the bytes other programs may rely on.
TEST(EntryHeader, IsLaidOutAsDocumented) {
  EntryHeader header = write_header(9);
  header.payload_checksum = 0x0102030405060708;
  std::array<std::byte, kEntryHeaderBytes> bytes;
  seal_header(header, kVolume, bytes);

  EXPECT_EQ(as_text(ByteView(bytes).first(4)), "DDE1");
  EXPECT_EQ(load_le<std::uint8_t>(&bytes[4]), 2);
  EXPECT_EQ(load_le<std::uint8_t>(&bytes[5]), 3);
  EXPECT_EQ(load_le<std::uint64_t>(&bytes[8]), 3u);
  EXPECT_EQ(load_le<std::uint64_t>(&bytes[16]), 9u);
  EXPECT_EQ(load_le<std::uint64_t>(&bytes[24]), header.previous);
  EXPECT_EQ(load_le<std::uint64_t>(&bytes[32]), 8u);
  EXPECT_EQ(load_le<std::uint64_t>(&bytes[40]), 2u);
  EXPECT_EQ(load_le<std::uint64_t>(&bytes[48]), 77u);
  EXPECT_EQ(load_le<std::uint64_t>(&bytes[56]), 70u);
  EXPECT_EQ(load_le<std::uint64_t>(&bytes[64]), 5 * kBlockSize);
  EXPECT_EQ(load_le<std::uint64_t>(&bytes[72]), kBlockSize);
  EXPECT_EQ(load_le<std::uint32_t>(&bytes[80]), kBlockSize);
  EXPECT_EQ(load_le<std::uint64_t>(&bytes[88]), 0x0102030405060708u);
  EXPECT_TRUE(all_zero(ByteView(bytes).subspan(96, 24)));
  EXPECT_EQ(load_le<std::uint64_t>(&bytes[120]), header.checksum);
}

TEST(EntryHeader, WithAnyBitFlippedIsNone) {
  EntryHeader header = write_header(9);
  std::array<std::byte, kEntryHeaderBytes> bytes;
  seal_header(header, kVolume, bytes);
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= std::byte(1 << bit % 8);
    EXPECT_FALSE(decode_header(bytes, kVolume)) << "bit " << bit;
    bytes[bit / 8] ^= std::byte(1 << bit % 8);
  }
  EXPECT_TRUE(decode_header(bytes, kVolume));
}

TEST(EntryHeader, OfAnotherVolumeIsNone) {
  EntryHeader header = write_header(9);
  std::array<std::byte, kEntryHeaderBytes> bytes;
  seal_header(header, kVolume, bytes);
  EXPECT_FALSE(decode_header(bytes, kOtherVolume));
}

TEST(EntryHeader, CutShortOrZeroIsNone) {
  EntryHeader header = write_header(9);
  std::array<std::byte, kEntryHeaderBytes> bytes;
  seal_header(header, kVolume, bytes);
  EXPECT_FALSE(decode_header(ByteView(bytes).first(kEntryHeaderBytes - 1), kVolume));
  EXPECT_FALSE(decode_header({}, kVolume));
  bytes.fill(std::byte{0});
  EXPECT_FALSE(decode_header(bytes, kVolume));
}

TEST(EntryHeader, OutOfBoundsIsNoneEvenWithAChecksumThatFits) {
  const auto none = [](const auto& bytes) { return !decode_header(bytes, kVolume); };
  EXPECT_FALSE(none(sealed_with<std::uint64_t>(write_header(9), 64, kBlockSize)));  // a control
  EXPECT_TRUE(none(sealed_with<std::uint8_t>(write_header(9), 4, 0)));
  EXPECT_TRUE(none(sealed_with<std::uint8_t>(write_header(9), 4, 7)));
  EXPECT_TRUE(none(sealed_with<std::uint8_t>(write_header(9), 5, 1)));
  EXPECT_TRUE(none(sealed_with<std::uint16_t>(write_header(9), 6, 1)));
  EXPECT_TRUE(none(sealed_with<std::uint64_t>(write_header(9), 16, 0)));
  EXPECT_TRUE(none(sealed_with<std::uint64_t>(write_header(9), 64, 512)));
  EXPECT_TRUE(none(sealed_with<std::uint64_t>(write_header(9), 64, ~std::uint64_t{4095})));
  EXPECT_TRUE(none(sealed_with<std::uint64_t>(write_header(9), 72, 2 * kBlockSize)));
  EXPECT_TRUE(none(sealed_with<std::uint32_t>(write_header(9), 80, 512)));
  EXPECT_TRUE(none(sealed_with<std::uint32_t>(write_header(9), 84, 1)));
  EXPECT_TRUE(none(sealed_with<std::uint64_t>(write_header(9), 112, 1)));
  EXPECT_TRUE(none(sealed_with<std::uint32_t>(write_header(9, kMaxEntryPayload), 80,
                                              kMaxEntryPayload + kBlockSize)));

  EntryHeader trim = write_header(9);
  trim.kind = EntryKind::trim;
  trim.payload_length = 0;
  EXPECT_TRUE(none(sealed_with<std::uint32_t>(trim, 80, kBlockSize)));
  EXPECT_TRUE(none(sealed_with<std::uint64_t>(trim, 72, 0)));

  EntryHeader attach;
  attach.kind = EntryKind::attach;
  attach.op = Op(1);
  EXPECT_FALSE(none(sealed_with<std::uint32_t>(attach, 80, kBlockSize)));  // a control
  EXPECT_TRUE(none(sealed_with<std::uint32_t>(attach, 80, kBlockSize + 1)));
  EXPECT_TRUE(none(sealed_with<std::uint64_t>(attach, 64, kBlockSize)));
  EXPECT_TRUE(none(sealed_with<std::uint64_t>(attach, 72, kBlockSize)));
  EntryHeader no_op;
  no_op.op = Op(1);
  EXPECT_TRUE(none(sealed_with<std::uint32_t>(no_op, 80, 1)));
}

TEST(EntryHeader, ResemblesASuccessorUnlessAllThatTellsSoIsLost) {
  EntryHeader header = write_header(9);
  const EntryId before{Term(3), Op(8), header.previous};
  std::array<std::byte, kEntryHeaderBytes> bytes;
  seal_header(header, kVolume, bytes);
  EXPECT_TRUE(resembles_successor(bytes, before));
  bytes[0] ^= std::byte{1};  // magic
  EXPECT_TRUE(resembles_successor(bytes, before));
  bytes[16] ^= std::byte{1};  // op
  EXPECT_TRUE(resembles_successor(bytes, before));
  bytes[24] ^= std::byte{1};  // previous
  EXPECT_FALSE(resembles_successor(bytes, before));
  bytes[16] ^= std::byte{1};
  EXPECT_TRUE(resembles_successor(bytes, before));
  EXPECT_FALSE(resembles_successor(ByteView(bytes).first(127), before));
}

TEST(EntryBatch, ComesBackFromItsBytes) {
  const EntryBatch built = three_entries();
  EXPECT_EQ(built.bytes.size(), 4 * kBlockSize);
  EXPECT_THAT(built.frame_offsets, testing::ElementsAre(0, 4232, 4360));

  const EntryBatch parsed = parse_batch(copy_of(built), kVolume);
  ASSERT_EQ(parsed.headers.size(), 3u);
  EXPECT_EQ(parsed.frame_offsets, built.frame_offsets);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(parsed.headers[i].id(), built.headers[i].id());
  const Entry third = parsed.entry(2);
  EXPECT_EQ(third.header.op, Op(12));
  EXPECT_EQ(as_text(third.payload.view()), std::string(2 * kBlockSize, '\xbb'));
  EXPECT_TRUE(body_matches(third.header, parsed.body(2)));
  EXPECT_EQ(third.block_checksum(1), checksum(third.payload.view().last(kBlockSize)));
  EXPECT_EQ(load_le<std::uint64_t>(third.checksums.data() + 8), third.block_checksum(1));
  EXPECT_EQ(load_le<std::uint64_t>(parsed.entry(0).checksums.data()),
            parsed.entry(0).block_checksum(0));
  EXPECT_TRUE(parsed.entry(1).payload.empty());
}

TEST(EntryBatch, HoldsAChecksumForEachBlockOfAPayload) {
  EXPECT_EQ(frame_bytes(0), kEntryHeaderBytes);
  EXPECT_EQ(frame_bytes(1), kEntryHeaderBytes + 8 + 1);
  EXPECT_EQ(frame_bytes(kBlockSize), kEntryHeaderBytes + 8 + kBlockSize);
  EXPECT_EQ(frame_bytes(2 * kBlockSize), kEntryHeaderBytes + 16 + 2 * kBlockSize);
  BatchBuilder builder(frame_bytes(kMaxEntryPayload), kVolume);
  Buffer payload = Buffer::allocate(kMaxEntryPayload);
  for (std::size_t i = 0; i < payload.size(); ++i) payload.mutable_data()[i] = std::byte(i >> 12);
  builder.add(write_header(10, kMaxEntryPayload), payload.view());
  const EntryBatch batch = parse_batch(builder.finish().bytes, kVolume);
  const Entry entry = batch.entry(0);
  for (std::size_t block = 0; block < kMaxEntryPayload / kBlockSize; ++block) {
    ASSERT_EQ(entry.block_checksum(block),
              checksum(payload.view().subspan(block * kBlockSize, kBlockSize)));
  }
  const Entry bare{entry.header, entry.payload, {}};
  EXPECT_EQ(bare.block_checksum(7), entry.block_checksum(7));
}

// The journal writes such a batch at once (docs/formats.md, "Journal").
TEST(EntryBatch, OfManyWritesOfABlockMeetsNoBlockBoundary) {
  for (std::size_t frames = 1; frames < 512; ++frames) {
    EXPECT_NE(frames * frame_bytes(kBlockSize) % kBlockSize, 0u) << frames;
  }
}

// They are written from there; and eight of the largest are more than a batch.
TEST(EntryBatch, OfLargePayloadsHasThemAligned) {
  for (std::size_t payload = kAlignedPayload; payload <= kMaxEntryPayload; payload += kBlockSize) {
    for (std::size_t frames = 0; frames < 8; ++frames) {
      const std::size_t begin = frames * frame_bytes(payload);
      EXPECT_EQ((begin + kEntryHeaderBytes + checksums_bytes(payload)) % kPayloadAlignment, 0u);
      if (frames > 0) EXPECT_NE(begin % kBlockSize, 0u) << payload << " " << frames;
    }
  }
  {
    const Buffer dirty = filled(1 << 20, 0xff);
  }
  BatchBuilder builder(frame_bytes(kAlignedPayload), kVolume);
  builder.add(write_header(10, kAlignedPayload), filled(kAlignedPayload, 1).view());
  EntryBatch batch = builder.finish();
  const std::size_t sums = kEntryHeaderBytes + kAlignedPayload / kBlockSize * 8;
  const std::size_t payload = kEntryHeaderBytes + checksums_bytes(kAlignedPayload);
  EXPECT_TRUE(all_zero(batch.bytes.view().subspan(sums, payload - sums)));
  EXPECT_EQ(parse_batch(batch.bytes, kVolume).entry(0).payload.data() - batch.bytes.data(),
            static_cast<std::ptrdiff_t>(payload));
  batch.bytes.mutable_data()[sums] = std::byte{1};
  EXPECT_THROW(parse_batch(batch.bytes, kVolume), Error);
}

TEST(EntryBatch, OfNoBytesIsEmpty) {
  EXPECT_TRUE(parse_batch({}, kVolume).empty());
}

TEST(EntryBatch, WithAnyByteChangedIsRefused) {
  const EntryBatch built = three_entries();
  for (std::size_t at = 0; at < built.bytes.size(); ++at) {
    Buffer bytes = copy_of(built);
    bytes.mutable_data()[at] ^= std::byte{0x10};
    EXPECT_THROW(parse_batch(bytes, kVolume), Error) << "byte " << at;
  }
}

TEST(EntryBatch, IsRefusedWhenCutShortOrNotInWholeBlocks) {
  const EntryBatch built = three_entries();
  EXPECT_THROW(parse_batch(built.bytes.slice(0, 4 * kBlockSize - 1), kVolume), Error);
  EXPECT_THROW(parse_batch(built.bytes.slice(0, 3 * kBlockSize), kVolume), Error);
  EXPECT_THROW(parse_batch(built.bytes.slice(0, kBlockSize), kVolume), Error);
}

TEST(EntryBatch, IsRefusedWithABlockOfPaddingOrNothingButZeros) {
  const EntryBatch built = three_entries();
  Buffer longer = Buffer::zeroed(built.bytes.size() + kBlockSize);
  std::memcpy(longer.mutable_data(), built.bytes.data(), built.bytes.size());
  EXPECT_THROW(parse_batch(longer, kVolume), Error);
  EXPECT_THROW(parse_batch(Buffer::zeroed(kBlockSize), kVolume), Error);
}

TEST(EntryBatch, IsRefusedWhereOpChainOrTermBreak) {
  const auto parse_pair = [](const std::function<void(EntryHeader&)>& change) {
    BatchBuilder builder(3 * kBlockSize, kVolume);
    const EntryId first = builder.add(write_header(10), filled(kBlockSize, 1).view());
    EntryHeader second = write_header(11);
    second.previous = first.checksum;
    change(second);
    builder.add(second, filled(kBlockSize, 2).view());
    return parse_batch(builder.finish().bytes, kVolume);
  };
  EXPECT_EQ(parse_pair([](EntryHeader&) {}).headers.size(), 2u);
  EXPECT_THROW(parse_pair([](EntryHeader& second) { second.op = Op(12); }), Error);
  EXPECT_THROW(parse_pair([](EntryHeader& second) { second.op = Op(10); }), Error);
  EXPECT_THROW(parse_pair([](EntryHeader& second) { second.previous ^= 1; }), Error);
  EXPECT_THROW(parse_pair([](EntryHeader& second) { second.term = Term(2); }), Error);
  EXPECT_EQ(parse_pair([](EntryHeader& second) { second.term = Term(9); }).headers.size(), 2u);
}

TEST(BatchBuilder, TakesNoMoreThanFits) {
  BatchBuilder builder(2 * kBlockSize - 100, kVolume);  // rounded up to two blocks
  EXPECT_TRUE(builder.empty());
  const std::size_t most = 2 * kBlockSize - frame_bytes(0) - checksums_bytes(2 * kBlockSize);
  EXPECT_TRUE(builder.fits(most));
  EXPECT_FALSE(builder.fits(most + 1));
  builder.add(write_header(10), filled(kBlockSize, 1).view());
  EXPECT_FALSE(builder.empty());
  EXPECT_FALSE(builder.fits(kBlockSize));
  EXPECT_TRUE(builder.fits(0));
}

TEST(BatchBuilder, PadsWithZerosWhateverTheMemoryHeld) {
  {
    const Buffer dirty = filled(8 * kBlockSize, 0xff);
  }
  BatchBuilder builder(8 * kBlockSize, kVolume);
  builder.add(write_header(10), filled(kBlockSize, 1).view());
  const EntryBatch batch = builder.finish();
  ASSERT_EQ(batch.bytes.size(), 2 * kBlockSize);
  EXPECT_TRUE(all_zero(batch.bytes.view().subspan(frame_bytes(kBlockSize))));
}

}  // namespace
}  // namespace datom::protocol

#include "journal/scan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "journal/segment_header.h"
#include "runtime/virtual_loop.h"

namespace datom::journal {
namespace {

using protocol::EntryBatch;
using protocol::EntryHeader;
using protocol::EntryId;
using protocol::EntryKind;

const Uuid kVolume = Uuid::from_random(7, 8);
const EntryId kBase{Term(2), Op(100), 0xabcdef};

// How many bytes of a payload, from its end, are zeros: as often in real blocks.
struct Spec {
  EntryKind kind = EntryKind::write;
  std::size_t payload = kBlockSize;
  std::size_t zero_tail = 0;
};

// Segments of a journal's life, built by hand.
class Bytes {
 public:
  explicit Bytes(std::size_t blocks) : bytes_(Buffer::zeroed(blocks * kBlockSize)) {}

  // Gives where the write begins.
  std::size_t write(const std::vector<Spec>& specs) {
    protocol::BatchBuilder builder(bytes_.size(), kVolume);
    for (const Spec& spec : specs) {
      EntryHeader header;
      header.kind = spec.kind;
      header.term = Term(3);
      header.op = last_.op.next();
      header.previous = last_.checksum;
      if (spec.kind == EntryKind::write) header.length = spec.payload;
      if (spec.kind == EntryKind::trim) header.length = kBlockSize;
      Buffer payload = Buffer::zeroed(spec.payload);
      std::memset(payload.mutable_data(), 0x5a, spec.payload - spec.zero_tail);
      last_ = builder.add(header, payload.view());
    }
    const EntryBatch batch = builder.finish();
    const std::size_t begin = end_;
    std::memcpy(bytes_.mutable_data() + begin, batch.bytes.data(), batch.bytes.size());
    end_ += batch.bytes.size();
    frames_end_ = begin + batch.frame_offsets.back() + batch.headers.back().frame_bytes();
    return begin;
  }

  Buffer copy() const { return Buffer::copy_of(bytes_.view()); }
  ByteView view() const { return bytes_.view(); }
  std::size_t end() const { return end_; }
  std::size_t frames_end() const { return frames_end_; }
  Op last_op() const { return last_.op; }

 private:
  Buffer bytes_;
  std::size_t end_ = kSegmentHeaderBytes;
  std::size_t frames_end_ = 0;
  EntryId last_ = kBase;
};

SegmentScan scan(const Buffer& bytes) {
  return scan_segment(bytes.view(), kVolume, kBase);
}

void clear_sector(Buffer& bytes, std::size_t begin, std::size_t sector) {
  std::memset(bytes.mutable_data() + begin + sector * kSectorSize, 0, kSectorSize);
}

// The shapes of a last write: frames that end anywhere in a sector, payloads with zeros in them.
const std::vector<std::vector<Spec>> kShapes = {
    {{EntryKind::write}},
    {{EntryKind::write, kBlockSize, 3000}},
    {{EntryKind::write, kBlockSize, kBlockSize}},
    {{EntryKind::no_op, 0}, {EntryKind::write}},
    {{EntryKind::trim, 0}, {EntryKind::trim, 0}, {EntryKind::trim, 0}, {EntryKind::write}},
    {{EntryKind::trim, 0},
     {EntryKind::trim, 0},
     {EntryKind::trim, 0},
     {EntryKind::trim, 0},
     {EntryKind::write}},
    {{EntryKind::attach, 300}, {EntryKind::write}, {EntryKind::attach, 77}},
    {{EntryKind::attach, 382}, {EntryKind::trim, 0}, {EntryKind::attach, 254}, {EntryKind::write}},
    {{EntryKind::write, kBlockSize, kBlockSize}, {EntryKind::write}},
    {{EntryKind::write, kBlockSize, 300}, {EntryKind::write, kBlockSize, 700}},
};

TEST(Scan, FindsEveryEntryOfAnIntactSegment) {
  Bytes bytes(32);
  bytes.write({{EntryKind::write}, {EntryKind::trim, 0}});
  bytes.write({{EntryKind::attach, 30}});
  bytes.write(std::vector<Spec>(32, {EntryKind::trim, 0}));  // one block to the byte
  bytes.write({{EntryKind::no_op, 0}});
  const SegmentScan found = scan(bytes.copy());
  EXPECT_EQ(found.tail, Tail::clean);
  ASSERT_EQ(found.entries.size(), 36u);
  EXPECT_EQ(found.entries[2].offset, 3 * kBlockSize);
  EXPECT_EQ(found.entries.back().header.op, Op(136));
  EXPECT_EQ(found.end, 5 * kBlockSize + 128);
  EXPECT_EQ(found.content_end, 6 * kBlockSize);
}

TEST(Scan, TakesAFullSegmentToItsLastByte) {
  Bytes bytes(3);
  bytes.write({{EntryKind::write, kBlockSize}, {EntryKind::attach, kBlockSize - 256}});
  EXPECT_EQ(bytes.frames_end(), 3 * kBlockSize);
  EXPECT_EQ(scan(bytes.copy()).entries.size(), 2u);
  EXPECT_EQ(scan(bytes.copy()).tail, Tail::clean);
}

TEST(Scan, FindsNothingInASegmentOfZeros) {
  const SegmentScan found = scan(Bytes(4).copy());
  EXPECT_TRUE(found.entries.empty());
  EXPECT_EQ(found.tail, Tail::clean);
}

// Rule S2: whatever sectors a crash took from the last write, it is told from damage, and what is
// left of it is a beginning.
TEST(Scan, AnInterruptedWriteIsNeverTakenForDamage) {
  runtime::SeededRandom random(1);
  for (const auto& before : kShapes) {
    for (const auto& shape : kShapes) {
      Bytes bytes(12);
      bytes.write(before);
      const std::size_t begin = bytes.write(shape);
      const std::size_t sectors = (bytes.end() - begin) / kSectorSize;
      const auto lose = [&](auto lost) {
        Buffer torn = bytes.copy();
        for (std::size_t sector = 0; sector < sectors; ++sector) {
          if (lost(sector)) clear_sector(torn, begin, sector);
        }
        const SegmentScan found = scan(torn);
        EXPECT_NE(found.tail, Tail::damaged);
        EXPECT_GE(found.entries.size(), before.size());
        EXPECT_LE(found.entries.size(), before.size() + shape.size());
      };
      for (std::size_t i = 0; i < sectors; ++i) {
        lose([i](std::size_t sector) { return sector == i; });
        lose([i](std::size_t sector) { return sector != i; });
        lose([i](std::size_t sector) { return sector >= i; });
        lose([i](std::size_t sector) { return sector < i; });
      }
      for (int i = 0; i < 500; ++i) lose([&](std::size_t) { return random.below(2) == 0; });
    }
  }
}

TEST(Scan, ALostSectorThatHeldContentCutsItsEntryAndTheRest) {
  Bytes bytes(12);
  bytes.write({{EntryKind::write}});
  const std::size_t begin = bytes.write({{EntryKind::write}, {EntryKind::write}});
  Buffer torn = bytes.copy();
  clear_sector(torn, begin, 9);  // in the second payload
  const SegmentScan found = scan(torn);
  EXPECT_EQ(found.tail, Tail::torn);
  ASSERT_EQ(found.entries.size(), 2u);
  EXPECT_EQ(found.end, begin + 4224);
  EXPECT_EQ(found.content_end, bytes.end());
}

TEST(Scan, AFlippedBitInTheLastWriteIsDamage) {
  Bytes bytes(12);
  bytes.write({{EntryKind::write}});
  const std::size_t begin =
      bytes.write({{EntryKind::trim, 0}, {EntryKind::write}, {EntryKind::attach, 50}});
  for (std::size_t at = begin; at < bytes.frames_end(); ++at) {
    Buffer rotten = bytes.copy();
    rotten.mutable_data()[at] ^= std::byte{4};
    const SegmentScan found = scan(rotten);
    ASSERT_EQ(found.tail, Tail::damaged) << "byte " << at - begin;
    EXPECT_GE(found.entries.size(), 1u);
    EXPECT_LT(found.entries.size(), 4u);
  }
}

// The entry before ends in zeros, so that its padding could as well be a sector never written.
TEST(Scan, AFlippedBitInAHeaderBehindZerosIsDamage) {
  Bytes bytes(12);
  bytes.write({{EntryKind::write, kBlockSize, 3000}});
  const std::size_t begin = bytes.write({{EntryKind::write}});
  for (std::size_t at = begin; at < bytes.frames_end(); ++at) {
    Buffer rotten = bytes.copy();
    rotten.mutable_data()[at] ^= std::byte{4};
    EXPECT_EQ(scan(rotten).tail, Tail::damaged) << "byte " << at - begin;
  }
}

TEST(Scan, AnythingWrongBeforeALaterWriteIsDamageEvenALostSector) {
  for (const auto& shape : kShapes) {
    Bytes bytes(24);
    bytes.write({{EntryKind::write}});
    const std::size_t begin = bytes.write(shape);
    const std::size_t sectors = (bytes.end() - begin) / kSectorSize;
    bytes.write({{EntryKind::no_op, 0}});
    for (std::size_t sector = 0; sector < sectors; ++sector) {
      Buffer hurt = bytes.copy();
      const ByteView old = bytes.view().subspan(begin + sector * kSectorSize, kSectorSize);
      if (all_zero(old)) continue;
      clear_sector(hurt, begin, sector);
      EXPECT_EQ(scan(hurt).tail, Tail::damaged) << "sector " << sector;
    }
  }
}

TEST(Scan, EntriesOfAnotherHistoryAreDamage) {
  Bytes bytes(12);
  bytes.write({{EntryKind::write}});
  const SegmentScan other =
      scan_segment(bytes.view(), kVolume, EntryId{Term(2), Op(100), 0xabcdee});
  EXPECT_TRUE(other.entries.empty());
  EXPECT_EQ(other.tail, Tail::damaged);
  EXPECT_EQ(scan_segment(bytes.view(), kVolume, EntryId{Term(4), Op(100), 0xabcdef}).tail,
            Tail::damaged);
  EXPECT_EQ(scan_segment(bytes.view(), Uuid::from_random(7, 9), kBase).tail, Tail::damaged);
}

TEST(Scan, GarbageIsDamageAndIsReadWithinBounds) {
  runtime::SeededRandom random(3);
  for (int round = 0; round < 200; ++round) {
    Bytes bytes(6);
    bytes.write({{EntryKind::write}});
    Buffer garbage = bytes.copy();
    for (std::size_t at = bytes.end(); at < garbage.size(); ++at) {
      garbage.mutable_data()[at] = std::byte(random.next() | 1);
    }
    EXPECT_EQ(scan(garbage).tail, Tail::damaged);
    EXPECT_EQ(scan(garbage).entries.size(), 1u);
  }
}

}  // namespace
}  // namespace datom::journal

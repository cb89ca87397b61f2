#include "journal/scan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "common/checksum.h"
#include "journal/segment.h"
#include "journal/segment_header.h"
#include "runtime/virtual_loop.h"

namespace datom::journal {
namespace {

using protocol::EntryBatch;
using protocol::EntryHeader;
using protocol::EntryId;
using protocol::EntryKind;

const Uuid kVolume = Uuid::from_random(7, 8);
const EntryId kBase{Term(200), Op(1000), 0xabcdef};

// How many bytes of a payload, from its end, are zeros: as often in real blocks.
struct Spec {
  EntryKind kind = EntryKind::write;
  std::size_t payload = kBlockSize;
  std::size_t zero_tail = 0;
};

constexpr int kFill = 0x5a;
constexpr int kStaleFill = 0xa4;

EntryBatch make_batch(EntryId& last, const std::vector<Spec>& specs, int fill) {
  std::size_t bytes = 0;
  for (const Spec& spec : specs) bytes += protocol::frame_bytes(spec.payload);
  protocol::BatchBuilder builder(bytes, kVolume);
  for (const Spec& spec : specs) {
    EntryHeader header;
    header.kind = spec.kind;
    header.term = Term(last.term.value() + 1);
    header.op = last.op.next();
    header.previous = last.checksum;
    if (spec.kind == EntryKind::write) header.length = spec.payload;
    if (spec.kind == EntryKind::trim) header.length = kBlockSize;
    Buffer payload = Buffer::zeroed(spec.payload);
    std::memset(payload.mutable_data(), fill, spec.payload - spec.zero_tail);
    last = builder.add(header, payload.view());
  }
  return builder.finish();
}

// What the file held before the segment was begun.
enum class Earlier { zeros, one_life, two_lives, garbage };
constexpr Earlier kAllEarlier[] = {Earlier::zeros, Earlier::one_life, Earlier::two_lives,
                                   Earlier::garbage};

// Segments of a journal's life, built by hand.
class Bytes {
 public:
  explicit Bytes(std::size_t blocks, Earlier earlier = Earlier::zeros)
      : bytes_(Buffer::zeroed(blocks * kBlockSize)), end_(content_begin(bytes_.size())) {
    EntryId last{Term(0), Op(3), 77};
    if (earlier == Earlier::one_life || earlier == Earlier::two_lives) {
      live(last, {{EntryKind::write}, {EntryKind::trim, 0}, {EntryKind::attach, 40}}, 0);
    }
    if (earlier == Earlier::two_lives) live(last, {{EntryKind::no_op, 0}, {EntryKind::write}}, 3);
    if (earlier == Earlier::garbage) {
      runtime::SeededRandom random(blocks);
      for (std::size_t at = end_; at < bytes_.size(); ++at) {
        bytes_.mutable_data()[at] = std::byte(random.next());
      }
      sums_.note(end_, bytes_.view().subspan(end_));
    }
    sums_.encode(bytes_.mutable_view().subspan(kSegmentHeaderBytes, table_bytes(bytes_.size())));
    before_ = Buffer::copy_of(bytes_.view());
  }

  // Gives where the write begins.
  std::size_t write(const std::vector<Spec>& specs) {
    const EntryBatch batch = make_batch(last_, specs, kFill);
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
  std::uint64_t table_checksum() const {
    return checksum(before_.view().subspan(kSegmentHeaderBytes, table_bytes(before_.size())));
  }

  SegmentScan scan(const Buffer& bytes) const {
    return scan_segment(bytes.view(), table_checksum(), kVolume, kBase);
  }
  // As if the write had not reached this sector.
  void lose_sector(Buffer& bytes, std::size_t begin, std::size_t sector) const {
    const std::size_t at = begin + sector * kSectorSize;
    std::memcpy(bytes.mutable_data() + at, before_.data() + at, kSectorSize);
  }
  bool differs(std::size_t at) const {
    return std::memcmp(bytes_.data() + at, before_.data() + at, kSectorSize) != 0;
  }

 private:
  // Fills the file with batches; the last `spare` blocks stay as they are.
  void live(EntryId& last, const std::vector<Spec>& specs, std::size_t spare) {
    std::size_t at = content_begin(bytes_.size());
    for (;;) {
      EntryId next = last;
      const EntryBatch batch = make_batch(next, specs, kStaleFill);
      if (at + batch.bytes.size() + spare * kBlockSize > bytes_.size()) return;
      std::memcpy(bytes_.mutable_data() + at, batch.bytes.data(), batch.bytes.size());
      sums_.note(at, batch.bytes.view());
      at += batch.bytes.size();
      last = next;
    }
  }

  Buffer bytes_;
  Buffer before_;
  SectorSums sums_;
  std::size_t end_;
  std::size_t frames_end_ = 0;
  EntryId last_ = kBase;
};

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
    {{EntryKind::attach, 374}, {EntryKind::trim, 0}, {EntryKind::attach, 246}, {EntryKind::write}},
    {{EntryKind::write, kBlockSize, kBlockSize}, {EntryKind::write}},
    {{EntryKind::write, kBlockSize, 300}, {EntryKind::write, kBlockSize, 700}},
    {{EntryKind::trim, 0}, {EntryKind::write, 2 * kBlockSize}, {EntryKind::write}},
    {{EntryKind::attach, 300}, {EntryKind::write, 2 * kBlockSize, kBlockSize + 90}},
};

TEST(Scan, FindsEveryEntryOfAnIntactSegment) {
  for (const Earlier earlier : kAllEarlier) {
    Bytes bytes(32, earlier);
    bytes.write({{EntryKind::write}, {EntryKind::trim, 0}});
    bytes.write({{EntryKind::attach, 30}});
    bytes.write(std::vector<Spec>(32, {EntryKind::trim, 0}));  // one block to the byte
    bytes.write({{EntryKind::no_op, 0}});
    const SegmentScan found = bytes.scan(bytes.copy());
    EXPECT_EQ(found.tail, Tail::clean);
    ASSERT_EQ(found.entries.size(), 36u);
    EXPECT_EQ(found.entries[2].offset, 4 * kBlockSize);
    EXPECT_EQ(found.entries.back().header.op, Op(1036));
    EXPECT_EQ(found.end, 6 * kBlockSize + 128);
    EXPECT_EQ(found.content_end, 7 * kBlockSize);
  }
}

TEST(Scan, TakesAFullSegmentToItsLastByte) {
  for (const Earlier earlier : kAllEarlier) {
    Bytes bytes(4, earlier);
    bytes.write({{EntryKind::write, kBlockSize}, {EntryKind::attach, kBlockSize - 272}});
    EXPECT_EQ(bytes.frames_end(), 4 * kBlockSize);
    EXPECT_EQ(bytes.scan(bytes.copy()).entries.size(), 2u);
    EXPECT_EQ(bytes.scan(bytes.copy()).tail, Tail::clean);
  }
}

TEST(Scan, FindsNothingInASegmentNotWrittenTo) {
  for (const Earlier earlier : kAllEarlier) {
    const Bytes bytes(12, earlier);
    const SegmentScan found = bytes.scan(bytes.copy());
    EXPECT_TRUE(found.entries.empty());
    EXPECT_EQ(found.tail, Tail::clean);
    EXPECT_EQ(found.content_end, content_begin(12 * kBlockSize));
  }
}

// Rule S2: whatever sectors a crash took from the last write, it is told from damage, and what is
// left of it is a beginning.
TEST(Scan, AnInterruptedWriteIsNeverTakenForDamage) {
  runtime::SeededRandom random(1);
  for (const Earlier earlier : kAllEarlier) {
    for (const auto& before : kShapes) {
      for (const auto& shape : kShapes) {
        Bytes bytes(16, earlier);
        bytes.write(before);
        const std::size_t begin = bytes.write(shape);
        const std::size_t sectors = (bytes.end() - begin) / kSectorSize;
        const auto lose = [&](auto lost) {
          Buffer torn = bytes.copy();
          for (std::size_t sector = 0; sector < sectors; ++sector) {
            if (lost(sector)) bytes.lose_sector(torn, begin, sector);
          }
          const SegmentScan found = bytes.scan(torn);
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
        for (int i = 0; i < 200; ++i) lose([&](std::size_t) { return random.below(2) == 0; });
      }
    }
  }
}

// What is left of a write that was cut must not be taken for part of the next one: all of it is
// within what a cut makes zero.
TEST(Scan, KnowsHowFarAnInterruptedWriteReached) {
  runtime::SeededRandom random(2);
  for (const Earlier earlier : kAllEarlier) {
    for (int round = 0; round < 300; ++round) {
      Bytes bytes(20, earlier);
      bytes.write({{EntryKind::write}});
      const std::size_t begin = bytes.write({{EntryKind::write, 3 * kBlockSize}});
      Buffer torn = bytes.copy();
      std::size_t reached = begin;
      for (std::size_t sector = 0; begin + sector * kSectorSize < bytes.end(); ++sector) {
        const std::size_t at = begin + sector * kSectorSize;
        if (random.below(3) > 0 || sector == 0) {
          bytes.lose_sector(torn, begin, sector);
        } else if (bytes.differs(at) && !all_zero(bytes.view().subspan(at, kSectorSize))) {
          reached = at / kBlockSize * kBlockSize + kBlockSize;
        }
      }
      const SegmentScan found = bytes.scan(torn);
      EXPECT_EQ(found.entries.size(), 1u);
      EXPECT_EQ(found.content_end, reached);
      EXPECT_EQ(found.tail, reached == begin ? Tail::clean : Tail::torn);
    }
  }
}

TEST(Scan, ALostSectorThatHeldContentCutsItsEntryAndTheRest) {
  for (const Earlier earlier : kAllEarlier) {
    Bytes bytes(14, earlier);
    bytes.write({{EntryKind::write}});
    const std::size_t begin = bytes.write({{EntryKind::write}, {EntryKind::write}});
    Buffer torn = bytes.copy();
    bytes.lose_sector(torn, begin, 9);  // in the second payload
    const SegmentScan found = bytes.scan(torn);
    EXPECT_EQ(found.tail, Tail::torn);
    ASSERT_EQ(found.entries.size(), 2u);
    EXPECT_EQ(found.end, begin + 4232);
    EXPECT_EQ(found.content_end, bytes.end());
  }
}

TEST(Scan, AFlippedBitInTheLastWriteIsDamage) {
  for (const Earlier earlier : kAllEarlier) {
    Bytes bytes(14, earlier);
    bytes.write({{EntryKind::write}});
    const std::size_t begin =
        bytes.write({{EntryKind::trim, 0}, {EntryKind::write}, {EntryKind::attach, 50}});
    for (std::size_t at = begin; at < bytes.frames_end(); ++at) {
      Buffer rotten = bytes.copy();
      rotten.mutable_data()[at] ^= std::byte{4};
      const SegmentScan found = bytes.scan(rotten);
      ASSERT_EQ(found.tail, Tail::damaged) << "byte " << at - begin;
      EXPECT_GE(found.entries.size(), 1u);
      EXPECT_LT(found.entries.size(), 4u);
    }
  }
}

// Zeros in one block do not make a bit that flipped in another one look like a torn write.
TEST(Scan, AFlippedBitBesideABlockOfZerosIsDamage) {
  for (const Earlier earlier : kAllEarlier) {
    Bytes bytes(20, earlier);
    const std::size_t begin = bytes.write({{EntryKind::write, 3 * kBlockSize, 2 * kBlockSize}});
    const std::size_t payload = begin + protocol::frame_bytes(3 * kBlockSize) - 3 * kBlockSize;
    for (std::size_t at = begin; at < payload + kBlockSize; ++at) {
      Buffer rotten = bytes.copy();
      rotten.mutable_data()[at] ^= std::byte{4};
      ASSERT_EQ(bytes.scan(rotten).tail, Tail::damaged) << "byte " << at - begin;
    }
  }
}

// The entry before ends in zeros, so that its padding could as well be a sector never written.
TEST(Scan, AFlippedBitInAHeaderBehindZerosIsDamage) {
  for (const Earlier earlier : kAllEarlier) {
    Bytes bytes(14, earlier);
    bytes.write({{EntryKind::write, kBlockSize, 3000}});
    const std::size_t begin = bytes.write({{EntryKind::write}});
    for (std::size_t at = begin; at < bytes.frames_end(); ++at) {
      Buffer rotten = bytes.copy();
      rotten.mutable_data()[at] ^= std::byte{4};
      EXPECT_EQ(bytes.scan(rotten).tail, Tail::damaged) << "byte " << at - begin;
    }
  }
}

TEST(Scan, AnythingWrongBeforeALaterWriteIsDamageEvenALostSector) {
  for (const Earlier earlier : kAllEarlier) {
    for (const auto& shape : kShapes) {
      Bytes bytes(25, earlier);
      bytes.write({{EntryKind::write}});
      const std::size_t begin = bytes.write(shape);
      const std::size_t sectors = (bytes.end() - begin) / kSectorSize;
      bytes.write({{EntryKind::no_op, 0}});
      for (std::size_t sector = 0; sector < sectors; ++sector) {
        if (!bytes.differs(begin + sector * kSectorSize)) continue;
        Buffer hurt = bytes.copy();
        bytes.lose_sector(hurt, begin, sector);
        EXPECT_EQ(bytes.scan(hurt).tail, Tail::damaged) << "sector " << sector;
      }
    }
  }
}

// The disk has a write that it never made: what is there is of an earlier life.
TEST(Scan, AnAcknowledgedWriteThatWasLostIsDamage) {
  for (const Earlier earlier : kAllEarlier) {
    for (const auto& shape : kShapes) {
      Bytes bytes(25, earlier);
      bytes.write({{EntryKind::write}});
      const std::size_t begin = bytes.write(shape);
      const std::size_t end = bytes.write({{EntryKind::no_op, 0}});
      Buffer lost = bytes.copy();
      for (std::size_t sector = 0; begin + sector * kSectorSize < end; ++sector) {
        bytes.lose_sector(lost, begin, sector);
      }
      const SegmentScan found = bytes.scan(lost);
      EXPECT_EQ(found.tail, Tail::damaged);
      EXPECT_EQ(found.entries.size(), 1u);
    }
  }
}

TEST(Scan, WithoutItsTableNothingOfAnEarlierLifeIsTakenForATornWrite) {
  Bytes bytes(14, Earlier::one_life);
  bytes.write({{EntryKind::write}});
  Buffer hurt = bytes.copy();
  hurt.mutable_data()[kSegmentHeaderBytes + 80] ^= std::byte{1};
  EXPECT_EQ(bytes.scan(hurt).tail, Tail::damaged);
  EXPECT_EQ(bytes.scan(hurt).entries.size(), 1u);
  EXPECT_EQ(bytes.scan(hurt).content_end, 14 * kBlockSize);
}

TEST(Scan, EntriesOfAnotherHistoryAreDamage) {
  Bytes bytes(14);
  bytes.write({{EntryKind::write}});
  const auto tail = [&](const Uuid& volume, const EntryId& before) {
    const SegmentScan found = scan_segment(bytes.view(), bytes.table_checksum(), volume, before);
    EXPECT_TRUE(found.entries.empty());
    return found.tail;
  };
  EXPECT_EQ(tail(kVolume, {Term(200), Op(1000), 0xabcdee}), Tail::damaged);
  EXPECT_EQ(tail(kVolume, {Term(202), Op(1000), 0xabcdef}), Tail::damaged);
  EXPECT_EQ(tail(Uuid::from_random(7, 9), kBase), Tail::damaged);
}

TEST(Scan, GarbageIsDamageAndIsReadWithinBounds) {
  runtime::SeededRandom random(3);
  for (int round = 0; round < 200; ++round) {
    Bytes bytes(7, round % 2 == 0 ? Earlier::zeros : Earlier::one_life);
    bytes.write({{EntryKind::write}});
    Buffer garbage = bytes.copy();
    for (std::size_t at = bytes.end(); at < garbage.size(); ++at) {
      garbage.mutable_data()[at] = std::byte(random.next() | 1);
    }
    EXPECT_EQ(bytes.scan(garbage).tail, Tail::damaged);
    EXPECT_EQ(bytes.scan(garbage).entries.size(), 1u);
  }
}

// --- files that say that they are no part of the journal ---

TEST(Scan, AFileThatWasNeverBegunMayHoldItsFirstWriteButNoSecond) {
  for (const Earlier earlier : {Earlier::zeros, Earlier::one_life, Earlier::two_lives}) {
    Bytes bytes(25, earlier);
    EXPECT_FALSE(holds_lost_entries(bytes.view(), kVolume, Op(1000)));
    bytes.write({{EntryKind::write}, {EntryKind::write}});
    EXPECT_FALSE(holds_lost_entries(bytes.view(), kVolume, Op(1000)));
    bytes.write({{EntryKind::no_op, 0}});
    EXPECT_TRUE(holds_lost_entries(bytes.view(), kVolume, Op(1000)));
    EXPECT_FALSE(holds_lost_entries(bytes.view(), kVolume, Op(1003)));
  }
}

}  // namespace
}  // namespace datom::journal

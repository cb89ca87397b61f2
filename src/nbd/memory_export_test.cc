#include "nbd/memory_export.h"

#include <fmt/core.h>
#include <gmock/gmock.h>

#include <algorithm>

#include "runtime/virtual_loop.h"

namespace datom::nbd {
namespace {

constexpr std::uint64_t kVolume = 64 * kBlockSize + 1000;  // its last block is a part of one

MemoryVolume make_volume() {
  return MemoryVolume({.name = "v", .size = kVolume, .description = ""});
}

std::string content(const MemoryVolume& volume, std::uint64_t offset, std::size_t size) {
  std::string text(size, '?');
  volume.read(offset, std::as_writable_bytes(std::span(text)));
  return text;
}

// "d" data, "z" allocated zeros, "." hole, each with its length.
std::string map_of(const MemoryVolume& volume, std::uint64_t offset, std::uint64_t length,
                   std::size_t max_extents = 100) {
  std::string text;
  for (const StatusExtent& extent : volume.status(offset, length, max_extents)) {
    text += fmt::format("{}{} ", extent.hole ? "." : extent.zero ? "z" : "d", extent.length);
  }
  return text;
}

TEST(MemoryVolumeTest, ReadsBackWhatWasWrittenAtAnyAlignment) {
  MemoryVolume volume = make_volume();
  EXPECT_EQ(content(volume, 0, 5), std::string(5, '\0'));
  const std::string text(10000, 'x');
  volume.write(4095, as_bytes(text));
  EXPECT_EQ(content(volume, 4094, 10002), '\0' + text + '\0');
  volume.write(kVolume - 3, as_bytes("end"));
  EXPECT_EQ(content(volume, kVolume - 4, 4), std::string("\0end", 4));
}

TEST(MemoryVolumeTest, MapsDataZerosAndHoles) {
  MemoryVolume volume = make_volume();
  EXPECT_EQ(map_of(volume, 0, kVolume), ".263144 ");
  volume.write(4096, as_bytes("x"));
  volume.write_zeroes(8192, 8192, true);
  EXPECT_EQ(map_of(volume, 0, 40960), ".4096 d4096 z8192 .24576 ");
  EXPECT_EQ(map_of(volume, 5000, 5000), "d3192 z1808 ");
  EXPECT_EQ(map_of(volume, 0, 40960, 2), ".4096 d4096 ");
  EXPECT_EQ(map_of(volume, 0, 40960, 1), ".4096 ");
}

TEST(MemoryVolumeTest, AnExtentReachesAsFarAsItsStateDoes) {
  MemoryVolume volume = make_volume();
  volume.write(0, as_bytes(std::string(10 * 4096, 'x')));
  EXPECT_EQ(map_of(volume, 100, kVolume - 100, 1), "d40860 ");
  volume.write_zeroes(4096, 2 * 4096, true);
  EXPECT_EQ(map_of(volume, 4096, kVolume - 4096, 1), "z8192 ");
}

TEST(MemoryVolumeTest, TrimDropsWholeBlocksOnly) {
  MemoryVolume volume = make_volume();
  volume.write(0, as_bytes(std::string(5 * 4096, 'x')));
  volume.trim(1, 3 * 4096);
  EXPECT_EQ(map_of(volume, 0, 5 * 4096), "d4096 .8192 d8192 ");
  volume.trim(4097, 100);
  EXPECT_EQ(content(volume, 1, 4095), std::string(4095, 'x'));
}

TEST(MemoryVolumeTest, ZeroesReadAsZerosAtAnyAlignmentAndLength) {
  for (const std::uint64_t offset : {0, 1, 4095, 4096}) {
    for (const std::uint64_t length : {1, 2, 4095, 4096, 4097, 8191, 12288}) {
      for (const bool keep : {false, true}) {
        MemoryVolume volume = make_volume();
        volume.write(0, as_bytes(std::string(6 * 4096, 'x')));
        volume.write_zeroes(offset, length, keep);
        std::string expected(6 * 4096, 'x');
        std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(offset), length, '\0');
        ASSERT_TRUE(content(volume, 0, 6 * 4096) == expected) << offset << " " << length;
        if (keep)
          ASSERT_THAT(map_of(volume, 0, 6 * 4096), ::testing::Not(::testing::HasSubstr(".")));
      }
    }
  }
}

TEST(MemoryVolumeTest, RandomOperationsAgreeWithAPlainArray) {
  runtime::SeededRandom random(7);
  MemoryVolume volume = make_volume();
  std::string model(kVolume, '\0');
  for (int i = 0; i < 2000; ++i) {
    const std::uint64_t offset = random.below(kVolume);
    const std::uint64_t length = random.below(std::min<std::uint64_t>(20000, kVolume - offset) + 1);
    const auto begin = model.begin() + static_cast<std::ptrdiff_t>(offset);
    const auto kind = random.below(3);
    if (kind == 0) {
      const std::string text(length, static_cast<char>('a' + random.below(26)));
      volume.write(offset, as_bytes(text));
      std::copy(text.begin(), text.end(), begin);
    } else if (kind == 1) {
      volume.write_zeroes(offset, length, random.below(2) == 0);
      std::fill_n(begin, length, '\0');
    } else {
      volume.trim(offset, length);
      const std::uint64_t first = (offset + kBlockSize - 1) / kBlockSize * kBlockSize;
      const std::uint64_t end = (offset + length) / kBlockSize * kBlockSize;
      if (first < end)
        std::fill_n(model.begin() + static_cast<std::ptrdiff_t>(first), end - first, '\0');
    }
  }
  EXPECT_TRUE(content(volume, 0, kVolume) == model);
  std::uint64_t covered = 0;
  for (const StatusExtent& extent : volume.status(0, kVolume, 1000)) {
    if (extent.zero) {
      EXPECT_TRUE(content(volume, covered, extent.length) == std::string(extent.length, '\0'));
    }
    covered += extent.length;
  }
  EXPECT_EQ(covered, kVolume);
}

}  // namespace
}  // namespace datom::nbd

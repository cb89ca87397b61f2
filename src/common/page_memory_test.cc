#include "common/page_memory.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "common/bytes.h"

namespace datom {
namespace {

TEST(PageMemory, GivesNobodyWhatAnotherHas) {
  PageMemory memory;
  struct Piece {
    std::byte* at;
    std::size_t bytes;
    int mark;
  };
  std::vector<Piece> pieces;
  std::mt19937 random(7);
  const auto end = [&](std::size_t i) {
    const Piece piece = pieces[i];
    pieces[i] = pieces.back();
    pieces.pop_back();
    for (std::size_t at = 0; at < piece.bytes; at += 512) {
      ASSERT_EQ(piece.at[at], std::byte(piece.mark));
    }
    memory.give_back(piece.at, piece.bytes);
  };
  for (int i = 0; i < 2000; ++i) {
    const std::size_t bytes = (1 + random() % (i % 50 == 0 ? 1000 : 20)) * kBlockSize;
    std::byte* const at = memory.take(bytes);
    ASSERT_EQ(reinterpret_cast<std::uintptr_t>(at) % kBlockSize, 0u);
    std::memset(at, i % 256, bytes);
    pieces.push_back({at, bytes, i % 256});
    if (pieces.size() > 100) end(random() % pieces.size());
  }
  while (!pieces.empty()) end(random() % pieces.size());
}

TEST(PageMemory, KeepsLittleOfWhatIsNotUsed) {
  PageMemory memory;
  std::vector<std::byte*> taken;
  constexpr std::size_t kBytes = 1 << 20;
  for (int i = 0; i < 100; ++i) taken.push_back(memory.take(kBytes));
  EXPECT_GE(memory.mapped(), 100 * kBytes);
  for (std::byte* at : taken) memory.give_back(at, kBytes);
  const std::size_t left = memory.mapped();
  EXPECT_LE(left, 16u << 20);
  // All of it can be had as one.
  std::byte* const whole = memory.take(left);
  EXPECT_EQ(memory.mapped(), left);
  memory.give_back(whole, left);
  std::byte* const huge = memory.take(100 << 20);
  memory.give_back(huge, 100 << 20);
  EXPECT_EQ(memory.mapped(), left);
}

}  // namespace
}  // namespace datom

#include "common/bytes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "common/sanitizer.h"

namespace datom {
namespace {

// What a thread keeps of the buffers that it frees follows what it allocates.
TEST(Buffer, OfASizeThatIsWantedNowIsKeptInThePlaceOfOnesThatWereWantedBefore) {
  if (kIsAddressSanitized) GTEST_SKIP() << "nothing is kept";
  {
    std::vector<Buffer> large;
    for (int i = 0; i < 64; ++i) large.push_back(Buffer::allocate(1 << 20));
  }
  constexpr std::size_t kSize = 100 << 10;
  Buffer first = Buffer::allocate(kSize);
  Buffer second = Buffer::allocate(kSize);
  const std::byte* const lower = std::min(first.data(), second.data());
  const std::byte* const higher = std::max(first.data(), second.data());
  if (first.data() != lower) std::swap(first, second);
  first = {};
  second = {};
  // The last one that was freed; memory that came from elsewhere would be the lowest.
  EXPECT_EQ(Buffer::allocate(kSize).data(), higher);
}

TEST(Buffer, HoldsItsMemoryWhileAPartOfItIsThere) {
  Buffer whole = Buffer::zeroed(3 * kBlockSize);
  whole.mutable_data()[kBlockSize] = std::byte{7};
  const Buffer part = whole.slice(kBlockSize, 10);
  whole = {};
  const Buffer other = Buffer::zeroed(3 * kBlockSize);
  EXPECT_EQ(part.data()[0], std::byte{7});
  EXPECT_EQ(part.size(), 10u);
}

}  // namespace
}  // namespace datom

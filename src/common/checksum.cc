#include "common/checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace datom {

std::uint64_t checksum(ByteView bytes, std::uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

}  // namespace datom

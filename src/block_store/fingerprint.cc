#include "block_store/fingerprint.h"

#include <array>

#include "common/checksum.h"

namespace datom::block_store {

Fingerprint::Fingerprint() {
  constexpr std::array<std::byte, kBlockSize> kZeros{};
  zero_block_checksum_ = checksum(kZeros);
}

std::uint64_t Fingerprint::contribution(const BlockVersion& version) const {
  // Written zeros count as little as a hole: what a client reads is the same.
  if (version.kind != BlockKind::data || version.checksum == zero_block_checksum_) return 0;
  std::array<std::byte, 16> bytes;
  store_le(bytes.data(), version.block);
  store_le(bytes.data() + 8, version.checksum);
  return checksum(bytes);
}

}  // namespace datom::block_store

// The running fingerprint of a replica's blocks: a sum mod 2^64 of a hash for each block that holds
// something else than zeros, so that its order of change does not matter. Format: docs/formats.md.
#pragma once

#include <cstdint>

#include "block_store/block_store.h"

namespace datom::block_store {

class Fingerprint {
 public:
  Fingerprint();
  explicit Fingerprint(std::uint64_t value) : Fingerprint() { value_ = value; }

  std::uint64_t value() const { return value_; }
  void set(std::uint64_t value) { value_ = value; }

  void add(const BlockVersion& version) { value_ += contribution(version); }
  void remove(const BlockVersion& version) { value_ -= contribution(version); }

 private:
  std::uint64_t contribution(const BlockVersion& version) const;

  std::uint64_t zero_block_checksum_;
  std::uint64_t value_ = 0;
};

}  // namespace datom::block_store

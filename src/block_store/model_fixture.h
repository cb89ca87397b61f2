// For tests: what a store must hold, kept in the plainest way, and random histories to compare
// with.
#pragma once

#include <cstdint>
#include <vector>

#include "block_store/store_fixture.h"

namespace datom::block_store {

class Model {
 public:
  // What a block was from some op on.
  struct Past {
    std::uint64_t op = 0;
    BlockKind kind = BlockKind::hole;
    std::uint64_t checksum = 0;  // of its content, zeros if it is not data
  };

  explicit Model(std::uint64_t blocks);

  std::uint64_t last_op() const { return entries_.size(); }
  // Appends an entry of any kind, mostly short, some long, many in the same places.
  void grow(runtime::Random& random);
  // Those of ops first to last.
  std::vector<protocol::Entry> entries(std::uint64_t first, std::uint64_t last) const;

  const Past& at(BlockNumber block, std::uint64_t op) const;
  std::uint64_t fingerprint(std::uint64_t op) const { return fingerprints_.at(op); }
  std::uint64_t bytes_used(std::uint64_t op) const { return used_.at(op) * kBlockSize; }

  // Whether the store is, in every respect, as of last_op(). `trims_may_be_recorded`: a store that
  // was copied to may know of trims of blocks never written.
  void expect_equal(StoreWorld& world, bool trims_may_be_recorded = false) const;

 private:
  void fold(const protocol::Entry& entry);
  std::uint64_t weight(BlockNumber block, const Past& past) const;

  const std::uint64_t zeros_;  // their checksum
  std::vector<protocol::Entry> entries_;
  std::vector<std::vector<Past>> past_;      // of each block
  std::vector<std::uint64_t> fingerprints_;  // as of each op
  std::vector<std::uint64_t> used_;          // blocks
};

// Runs `task`, cutting the power after so many turns of the loop. Errors after the cut are those of
// the lost disk. False if it was cut before the task had ended.
bool run_until_cut(StoreWorld& world, runtime::Task<void> task, std::uint64_t turns,
                   runtime::Random& survives);

}  // namespace datom::block_store

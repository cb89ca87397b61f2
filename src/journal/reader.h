// Collects entries that lie scattered over segments into one batch.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "journal/index.h"
#include "journal/segment.h"
#include "protocol/entry.h"
#include "runtime/task.h"

namespace datom::journal {

// Frames of one segment, in order, near enough to each other to be read at once.
struct ReadPiece {
  std::shared_ptr<Segment> segment;
  std::vector<IndexedEntry> entries;

  // The blocks in which the frames are.
  std::uint64_t begin() const { return entries.front().offset / kBlockSize * kBlockSize; }
  std::uint64_t end() const { return round_up_to_blocks(entries.back().end()); }
};

// Bytes that a piece spans at most, if it has more than one frame.
inline constexpr std::uint64_t kMaxPieceBytes = 2 << 20;

// Throws Error{corrupt} where a frame is not the one that the index knows.
runtime::Task<protocol::EntryBatch> read_pieces(std::vector<ReadPiece> pieces, Uuid volume);

}  // namespace datom::journal

#include "journal/reader.h"

#include <cstring>
#include <utility>

#include "common/error.h"

namespace datom::journal {

using runtime::Task;

namespace {

Task<Buffer> read_blocks(std::shared_ptr<Segment> segment, std::uint64_t begin, std::uint64_t end) {
  Buffer blocks = Buffer::allocate(end - begin);
  const std::size_t got = co_await segment->file->read(begin, blocks.mutable_view());
  if (got != blocks.size()) {
    throw Error(Code::corrupt, "{} gave {} of {} bytes at byte {}", segment->path, got,
                blocks.size(), begin);
  }
  co_return blocks;
}

std::size_t total_frame_bytes(const std::vector<ReadPiece>& pieces) {
  std::size_t total = 0;
  for (const ReadPiece& piece : pieces) {
    for (const IndexedEntry& entry : piece.entries) total += entry.frame_bytes();
  }
  return total;
}

void check_is_what_was_indexed(const protocol::EntryBatch& batch,
                               const std::vector<ReadPiece>& pieces) {
  std::size_t i = 0;
  for (const ReadPiece& piece : pieces) {
    for (const IndexedEntry& entry : piece.entries) {
      if (i < batch.headers.size() && batch.headers[i].checksum == entry.checksum) {
        ++i;
        continue;
      }
      throw Error(Code::corrupt, "{}: the entry at byte {} is not the one that was written there",
                  piece.segment->path, entry.offset);
    }
  }
}

}  // namespace

Task<protocol::EntryBatch> read_pieces(std::vector<ReadPiece> pieces, Uuid volume) {
  const std::size_t used = total_frame_bytes(pieces);
  Buffer frames = Buffer::allocate(round_up_to_blocks(used));
  std::byte* to = frames.mutable_data();
  for (const ReadPiece& piece : pieces) {
    const std::uint64_t begin = piece.begin();
    const Buffer blocks = co_await read_blocks(piece.segment, begin, piece.end());
    for (const IndexedEntry& entry : piece.entries) {
      std::memcpy(to, blocks.data() + (entry.offset - begin), entry.frame_bytes());
      to += entry.frame_bytes();
    }
  }
  std::memset(to, 0, frames.size() - used);
  protocol::EntryBatch batch = protocol::parse_batch(std::move(frames), volume);
  check_is_what_was_indexed(batch, pieces);
  co_return batch;
}

}  // namespace datom::journal

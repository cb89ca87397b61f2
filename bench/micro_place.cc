#include "bench/micro_place.h"

namespace datom::bench {

Buffer content(std::size_t size) {
  Buffer memory = Buffer::allocate(size);
  runtime::SeededRandom random(size);
  for (std::size_t at = 0; at + 8 <= size; at += 8) {
    store_le(memory.mutable_data() + at, random.next());
  }
  return memory;
}

protocol::EntryBatch write_batch(const protocol::EntryId& last, std::size_t entries,
                                 const Buffer& payload, runtime::SeededRandom& random,
                                 std::uint64_t volume_bytes) {
  protocol::BatchBuilder builder(entries * protocol::frame_bytes(payload.size()), kVolume);
  protocol::EntryId before = last;
  for (std::size_t i = 0; i < entries; ++i) {
    protocol::EntryHeader header;
    header.kind = protocol::EntryKind::write;
    header.term = Term(1);
    header.op = before.op.next();
    header.previous = before.checksum;
    header.commit_hint = last.op;
    header.offset = random.next() % (volume_bytes / payload.size()) * payload.size();
    header.length = payload.size();
    before = builder.add(header, payload.view());
  }
  return builder.finish();
}

std::vector<protocol::Entry> entries_of(const protocol::EntryBatch& batch) {
  std::vector<protocol::Entry> entries;
  for (std::size_t i = 0; i < batch.headers.size(); ++i) entries.push_back(batch.entry(i));
  return entries;
}

}  // namespace datom::bench

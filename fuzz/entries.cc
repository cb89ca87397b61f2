// Batches of entries from peers, attach payloads, session tables. First byte: what the rest is.
#include "common/check.h"
#include "common/error.h"
#include "fuzz/sealed_frames.h"
#include "fuzz/target.h"
#include "replication/sessions.h"

namespace datom::fuzz {
namespace {

void batch(Buffer bytes) {
  const std::size_t size = bytes.size();
  const protocol::EntryBatch batch = protocol::parse_batch(std::move(bytes), kVolume);
  DATOM_CHECK(batch.headers.size() == batch.frame_offsets.size());
  for (std::size_t i = 0; i < batch.headers.size(); ++i) {
    const protocol::Entry entry = batch.entry(i);
    DATOM_CHECK(batch.frame_offsets[i] + entry.header.frame_bytes() <= size);
    DATOM_CHECK(protocol::body_matches(entry.header, batch.body(i)));
    if (i > 0) DATOM_CHECK(entry.header.op == batch.headers[i - 1].op.next());
  }
}

Buffer sealed(Input& input) {
  std::vector<std::byte> bytes;
  protocol::EntryId last;
  const std::size_t missing = input.byte() % 4;  // blocks, at the end
  while (!input.empty() && bytes.size() < (256 << 10)) {
    const std::vector<std::byte> frame = sealed_frame(input, last);
    bytes.insert(bytes.end(), frame.begin(), frame.end());
  }
  const std::size_t blocks = (bytes.size() + kBlockSize - 1) / kBlockSize;
  bytes.resize((blocks - std::min(blocks, missing)) * kBlockSize);
  return Buffer::copy_of(bytes);
}

void sessions(std::string_view bytes) {
  for (const auto access : {protocol::Access::exclusive, protocol::Access::shared}) {
    replication::Sessions table(access);
    table.decode(bytes);
    replication::Sessions again(access);
    again.decode(table.encode());
    DATOM_CHECK(again.encode() == table.encode());
  }
}

}  // namespace

void run(ByteView bytes) {
  Input input(bytes);
  const std::uint8_t what = input.byte() % 4;
  try {
    if (what == 0) batch(Buffer::copy_of(input.rest()));
    if (what == 1) batch(sealed(input));
    if (what == 2) replication::Attach::decode(as_text(input.rest()));
    if (what == 3) sessions(as_text(input.rest()));
  } catch (const Error&) {
  }
}

std::map<std::string, std::string> seeds() {
  using protocol::EntryKind;
  std::map<std::string, std::string> all;
  Output frames;
  frames.number<std::uint8_t>(1).number<std::uint8_t>(0);
  put_frame(frames, EntryKind::no_op, 0);
  put_frame(frames, EntryKind::write, 2);
  put_frame(frames, EntryKind::attach, 1);
  all["sealed"] = frames.take();
  Output cut;
  cut.number<std::uint8_t>(1).number<std::uint8_t>(1);
  put_frame(cut, EntryKind::write, 2);
  all["cut"] = cut.take();
  const replication::Attach attach{Uuid::from_random(1, 2), "vs1", Op(3)};
  all["attach"] = std::string(1, 2) + attach.encode();
  protocol::EntryHeader header;
  header.kind = EntryKind::attach;
  header.op = Op(5);
  header.term = Term(1);
  const Buffer payload = Buffer::copy_of(as_bytes(attach.encode()));
  header.payload_length = static_cast<std::uint32_t>(payload.size());
  replication::Sessions table(protocol::Access::shared);
  table.apply({header, payload});
  all["sessions"] = std::string(1, 3) + table.encode();
  protocol::BatchBuilder builder(2 * kBlockSize, kVolume);
  builder.add(header, payload.view());
  all["raw"] = std::string(1, 0) + std::string(as_text(builder.finish().bytes.view()));
  return all;
}

}  // namespace datom::fuzz

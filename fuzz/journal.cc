// A journal's only segment as a disk may show it. First byte: how its header is made; then
// instructions that write it. It is scanned, opened, appended to and opened again.
#include "journal/journal.h"

#include <utility>

#include "common/check.h"
#include "common/checksum.h"
#include "common/error.h"
#include "fuzz/sealed_frames.h"
#include "fuzz/target.h"
#include "journal/scan.h"
#include "journal/segment_header.h"
#include "runtime/memory_files.h"
#include "runtime/virtual_loop.h"

namespace datom::fuzz {
namespace {

constexpr std::size_t kSegment = 64 << 10;
constexpr journal::JournalOptions kOptions{.segment_bytes = kSegment, .max_batch_bytes = 28 << 10};
constexpr std::size_t kSegmentChecksumAt = 504;
const std::string kDirectory = "/journal";

enum Instruction : std::uint8_t {
  put_entry,
  next_block,
  raw,
  clear_sector,
  flip_bit,
  instructions
};

void put_header(Input& input, MutableBytes segment) {
  const std::uint8_t how = input.byte();
  const Buffer good =
      journal::encode_segment_header({1, segment.size(), kVolume, {}, (how & 1) == 0});
  std::copy_n(good.data(), good.size(), segment.data());
  if ((how & 2) == 0) return;
  for (std::size_t changes = input.byte() % 4; changes > 0; --changes) {
    const std::size_t at = input.number<std::uint16_t>() % kSegmentChecksumAt;
    segment[at] = std::byte{input.byte()};
  }
  if ((how & 4) == 0) {
    store_le(segment.data() + kSegmentChecksumAt, checksum(segment.first(kSegmentChecksumAt)));
  }
}

void put_content(Input& input, MutableBytes segment) {
  protocol::EntryId last;
  std::size_t at = journal::kSegmentHeaderBytes;
  const auto put = [&](ByteView bytes) {
    const std::size_t count = std::min(bytes.size(), segment.size() - at);
    std::copy_n(bytes.data(), count, segment.data() + at);
    at += count;
  };
  while (!input.empty() && at < segment.size()) {
    switch (input.byte() % instructions) {
      case put_entry:
        put(sealed_frame(input, last));
        break;
      case next_block:
        at = journal::round_up_to_blocks(at);
        break;
      case raw:
        put(input.piece(input.byte()));
        break;
      case clear_sector: {
        const std::size_t sector = input.byte() % (segment.size() / journal::kSectorSize);
        std::fill_n(segment.data() + sector * journal::kSectorSize, journal::kSectorSize,
                    std::byte{0});
        break;
      }
      default:
        segment[input.number<std::uint16_t>() % segment.size()] ^= std::byte{1};
    }
  }
}

void check_scan(ByteView segment) {
  const journal::SegmentScan scan = journal::scan_segment(segment, kVolume, {});
  DATOM_CHECK(scan.end <= scan.content_end && scan.content_end <= segment.size());
  Op op;
  for (const journal::ScannedEntry& entry : scan.entries) {
    DATOM_CHECK(entry.header.op == op.next());
    DATOM_CHECK(entry.offset + entry.header.frame_bytes() <= scan.end);
    op = entry.header.op;
  }
  DATOM_CHECK(scan.tail != journal::Tail::clean || all_zero(segment.subspan(scan.end)));
}

runtime::Task<void> read_all(journal::Journal& journal) {
  Op next = journal.first_op();
  while (next <= journal.last().op) {
    const protocol::EntryBatch batch = co_await journal.read(next, 1 << 20);
    DATOM_CHECK(!batch.empty() && batch.headers.front().op == next);
    next = batch.headers.back().op.next();
  }
}

// What was opened reads, takes an entry, and is found again with it.
runtime::Task<void> use(runtime::Filesystem& files, runtime::Loop& loop) {
  for (int round = 0; round < 2; ++round) {
    auto journal = co_await journal::Journal::open(files, loop, kDirectory, kVolume, kOptions);
    co_await read_all(*journal);
    const bool certain = journal->head_certain();
    protocol::EntryHeader header;
    header.term = journal->last().term;
    header.op = journal->last().op.next();
    header.previous = journal->last().checksum;
    protocol::BatchBuilder builder(kBlockSize, kVolume);
    const protocol::EntryId added = builder.add(header, {});
    co_await journal->append(builder.finish());
    co_await journal->close();
    journal = co_await journal::Journal::open(files, loop, kDirectory, kVolume, kOptions);
    DATOM_CHECK(journal->last() == added && journal->head_certain() == certain);
    co_await journal->truncate_after(journal->base().op);
    co_await journal->close();
  }
}

runtime::Task<void> open_and_use(runtime::Filesystem& files, runtime::Loop& loop,
                                 ByteView segment) {
  co_await files.make_directories(kDirectory);
  {
    const std::string path = kDirectory + "/" + journal::segment_name(1);
    runtime::OpenOptions options{.create = true};
    const auto file = co_await files.open(path, options);
    co_await file->write(0, segment);
    co_await file->sync();
  }
  try {
    co_await use(files, loop);
  } catch (const Error& error) {
    const Code code = error.code();
    DATOM_CHECK(code == Code::corrupt || code == Code::unsupported || code == Code::not_found);
  }
}

}  // namespace

void run(ByteView bytes) {
  Input input(bytes);
  Buffer segment = Buffer::zeroed(kSegment);
  put_header(input, segment.mutable_view());
  put_content(input, segment.mutable_view());
  check_scan(segment.view());
  runtime::VirtualLoop loop;
  runtime::MemoryDisk disk;
  const auto files = runtime::make_memory_filesystem(loop, disk);
  loop.run(open_and_use(*files, loop, segment.view()));
}

std::map<std::string, std::string> seeds() {
  using protocol::EntryKind;
  const auto entries = [](Output& out) {
    out.number<std::uint8_t>(0);
    for (const std::uint8_t blocks : {0, 2, 1}) {
      out.number<std::uint8_t>(put_entry);
      put_frame(out, blocks > 0 ? EntryKind::write : EntryKind::no_op, blocks);
    }
    out.number<std::uint8_t>(next_block).number<std::uint8_t>(put_entry);
    put_frame(out, EntryKind::write, 1);
  };
  Output whole;
  entries(whole);
  Output torn;
  entries(torn);
  torn.number<std::uint8_t>(clear_sector).number<std::uint8_t>(42);
  Output flipped;
  entries(flipped);
  flipped.number<std::uint8_t>(flip_bit).number<std::uint16_t>(9000);
  Output header;
  header.number<std::uint8_t>(2).number<std::uint8_t>(1).number<std::uint16_t>(48);
  header.number<std::uint8_t>(9).number<std::uint8_t>(raw).number<std::uint8_t>(4).text("junk");
  return {{"whole", whole.take()},
          {"torn", torn.take()},
          {"flipped", flipped.take()},
          {"header", header.take()}};
}

}  // namespace datom::fuzz

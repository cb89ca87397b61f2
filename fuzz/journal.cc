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
#include "journal/segment.h"
#include "journal/segment_header.h"
#include "runtime/memory_files.h"
#include "runtime/virtual_loop.h"

namespace datom::fuzz {
namespace {

constexpr std::size_t kSegment = 64 << 10;
constexpr journal::JournalOptions kOptions{.segment_bytes = kSegment, .max_batch_bytes = 28 << 10};
constexpr std::size_t kSegmentChecksumAt = 504;
const std::string kDirectory = "/journal";
const std::size_t kContent = journal::content_begin(kSegment);

enum Instruction : std::uint8_t {
  put_entry,
  next_block,
  raw,
  lose_sector,
  flip_bit,
  next_life,
  instructions
};

class Segment {
 public:
  explicit Segment(Input& input) {
    const std::uint8_t how = input.byte();
    const std::vector<std::byte> changes = header_changes(input, how);
    put_content(input);
    put_header(how, changes);
  }

  ByteView view() const { return bytes_.view(); }
  std::uint64_t table_checksum() const {
    const std::size_t begin = journal::kSegmentHeaderBytes;
    return checksum(before_.view().subspan(begin, kContent - begin));
  }
  const protocol::EntryId& base() const { return base_; }

 private:
  static std::vector<std::byte> header_changes(Input& input, std::uint8_t how) {
    if ((how & 2) == 0) return {};
    const ByteView changes = input.piece(input.byte() % 4 * 3);
    return {changes.begin(), changes.end()};
  }

  void put_header(std::uint8_t how, const std::vector<std::byte>& changes) {
    using State = journal::SegmentHeader::State;
    journal::SegmentHeader header;
    header.state = (how & 8) != 0 ? State::spare : (how & 1) == 0 ? State::origin : State::begun;
    header.number = header.sequence = 1;
    header.bytes = kSegment;
    header.volume = kVolume;
    header.base = base_;
    header.table_checksum = table_checksum();
    const Buffer good = journal::encode_segment_header(header);
    const MutableBytes segment = bytes_.mutable_view();
    std::copy_n(good.data(), good.size(), segment.data());
    if ((how & 2) == 0) return;
    for (std::size_t i = 0; i + 3 <= changes.size(); i += 3) {
      segment[load_le<std::uint16_t>(&changes[i]) % kSegmentChecksumAt] = changes[i + 2];
    }
    if ((how & 4) == 0) {
      store_le(segment.data() + kSegmentChecksumAt, checksum(segment.first(kSegmentChecksumAt)));
    }
  }

  // What is there becomes what an earlier life of the file left.
  void begin_next_life() {
    journal::SectorSums sums;
    sums.note(kContent, bytes_.view().subspan(kContent));
    const std::size_t begin = journal::kSegmentHeaderBytes;
    sums.encode(bytes_.mutable_view().subspan(begin, kContent - begin));
    before_ = Buffer::copy_of(bytes_.view());
    base_ = last_;
    at_ = kContent;
  }

  void put(ByteView bytes) {
    const std::size_t count = std::min(bytes.size(), kSegment - at_);
    std::copy_n(bytes.data(), count, bytes_.mutable_data() + at_);
    at_ += count;
  }

  void put_content(Input& input) {
    while (!input.empty() && at_ < kSegment) {
      switch (input.byte() % instructions) {
        case put_entry:
          put(sealed_frame(input, last_));
          break;
        case next_block:
          at_ = journal::round_up_to_blocks(at_);
          break;
        case raw:
          put(input.piece(input.byte()));
          break;
        case lose_sector: {
          const std::size_t begin =
              input.byte() % (kSegment / journal::kSectorSize) * journal::kSectorSize;
          std::copy_n(before_.data() + begin, journal::kSectorSize, bytes_.mutable_data() + begin);
          break;
        }
        case flip_bit:
          bytes_.mutable_data()[input.number<std::uint16_t>() % kSegment] ^= std::byte{1};
          break;
        default:
          begin_next_life();
      }
    }
  }

  Buffer bytes_ = Buffer::zeroed(kSegment);
  Buffer before_ = Buffer::zeroed(kSegment);
  std::size_t at_ = kContent;
  protocol::EntryId base_;
  protocol::EntryId last_;
};

void check_scan(const Segment& segment) {
  const journal::SegmentScan scan =
      journal::scan_segment(segment.view(), segment.table_checksum(), kVolume, segment.base());
  DATOM_CHECK(scan.end <= journal::round_up_to_blocks(scan.end));
  DATOM_CHECK(journal::round_up_to_blocks(scan.end) <= scan.content_end);
  DATOM_CHECK(scan.content_end <= kSegment);
  Op op = segment.base().op;
  for (const journal::ScannedEntry& entry : scan.entries) {
    DATOM_CHECK(entry.header.op == op.next());
    DATOM_CHECK(entry.offset + entry.header.frame_bytes() <= scan.end);
    op = entry.header.op;
  }
  const std::size_t boundary = journal::round_up_to_blocks(scan.end);
  if (scan.tail != journal::Tail::clean) return;
  DATOM_CHECK(scan.content_end == boundary);
  DATOM_CHECK(all_zero(segment.view().subspan(scan.end, boundary - scan.end)));
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
  const Segment segment(input);
  check_scan(segment);
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
  torn.number<std::uint8_t>(lose_sector).number<std::uint8_t>(50);
  Output recycled;
  entries(recycled);
  recycled.number<std::uint8_t>(next_life);
  for (int i = 0; i < 2; ++i) {
    recycled.number<std::uint8_t>(put_entry);
    put_frame(recycled, EntryKind::write, 1);
  }
  recycled.number<std::uint8_t>(lose_sector).number<std::uint8_t>(20);
  Output flipped;
  entries(flipped);
  flipped.number<std::uint8_t>(flip_bit).number<std::uint16_t>(9000);
  Output header;
  header.number<std::uint8_t>(2).number<std::uint8_t>(1).number<std::uint16_t>(48);
  header.number<std::uint8_t>(9).number<std::uint8_t>(raw).number<std::uint8_t>(4).text("junk");
  return {{"whole", whole.take()},
          {"torn", torn.take()},
          {"recycled", recycled.take()},
          {"flipped", flipped.take()},
          {"header", header.take()}};
}

}  // namespace datom::fuzz

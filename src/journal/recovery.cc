#include "journal/recovery.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "common/error.h"
#include "journal/scan.h"

namespace datom::journal {
namespace {

using runtime::Task;

using State = SegmentHeader::State;

struct Found {
  std::shared_ptr<Segment> segment;
  std::optional<SegmentHeader> header;
};

// All of the file, whatever its size.
Task<Buffer> read_segment(std::shared_ptr<Segment> segment) {
  Buffer bytes = Buffer::allocate(round_up_to_blocks(segment->bytes));
  const std::size_t got = co_await segment->file->read(0, bytes.mutable_view());
  co_return bytes.slice(0, got);
}

void check_volume(const Segment& segment, const SegmentHeader& header, const Uuid& volume) {
  if (header.volume == volume) return;
  throw Error(Code::corrupt, "{} belongs to volume {}, expected {}", segment.path,
              header.volume.to_string(), volume.to_string());
}

Task<Found> look_at(runtime::Filesystem& files, std::string directory, std::uint32_t number,
                    Uuid volume) {
  Found found;
  found.segment = co_await open_segment(files, directory, number);
  const Segment& segment = *found.segment;
  if (segment.bytes > kMaxSegmentBytes) {
    throw Error(Code::corrupt, "{} has {} bytes, expected at most {}", segment.path, segment.bytes,
                kMaxSegmentBytes);
  }
  Buffer block = Buffer::allocate(kSegmentHeaderBytes);
  const std::size_t got = co_await segment.file->read(0, block.mutable_view());
  found.header = decode_segment_header(block.view().first(got));
  if (!found.header) co_return found;
  check_volume(segment, *found.header, volume);
  if (found.header->number != number || found.header->bytes != segment.bytes ||
      segment.bytes % kBlockSize != 0 || segment.bytes < content_begin(segment.bytes)) {
    found.header.reset();
    co_return found;
  }
  found.segment->sequence = found.header->sequence;
  found.segment->base = found.header->base;
  found.segment->table_checksum = found.header->table_checksum;
  co_return found;
}

Task<std::vector<std::uint32_t>> numbers_in(runtime::Filesystem& files, std::string directory) {
  const std::vector<std::string> names = co_await files.list(directory);
  std::vector<std::uint32_t> numbers;
  for (const std::string& name : names) {
    if (const auto number = segment_number(name)) numbers.push_back(*number);
  }
  std::sort(numbers.begin(), numbers.end());
  co_return numbers;
}

// The files by what their headers say.
struct Sorted {
  std::vector<Found> begun;  // in order
  std::vector<std::shared_ptr<Segment>> unused;
  std::vector<std::shared_ptr<Segment>> unreadable;
};

// A sector is written whole or not at all: without a header in it the file was never begun.
Task<bool> never_begun(std::shared_ptr<Segment> segment) {
  Buffer block = Buffer::allocate(kBlockSize);
  const std::size_t got = co_await segment->file->read(0, block.mutable_view());
  co_return all_zero(block.view().first(std::min(got, kSectorSize)));
}

Task<Sorted> sort(std::vector<Found> found) {
  Sorted sorted;
  for (Found& each : found) {
    const bool spare = each.header && each.header->state == State::spare;
    if (each.header && !spare) {
      sorted.begun.push_back(std::move(each));
      continue;
    }
    const bool unused = spare || co_await never_begun(each.segment);
    (unused ? sorted.unused : sorted.unreadable).push_back(std::move(each.segment));
  }
  std::sort(sorted.begun.begin(), sorted.begun.end(), [](const Found& a, const Found& b) {
    return std::pair(a.header->sequence, a.header->number) <
           std::pair(b.header->sequence, b.header->number);
  });
  co_return sorted;
}

// Drops what lies before the last segment that says that the journal begins with it.
void drop_superseded(std::vector<Found>& begun, std::vector<std::string>& obsolete) {
  const auto origin = std::find_if(begun.rbegin(), begun.rend(), [](const Found& each) {
    return each.header->state == State::origin;
  });
  if (origin == begun.rend()) return;
  const auto first = origin.base() - 1;
  for (auto each = begun.begin(); each != first; ++each) obsolete.push_back(each->segment->path);
  begun.erase(begun.begin(), first);
}

// What the file holds, as the background of its next life.
void note_sums(Segment& segment, ByteView bytes) {
  const std::size_t begin = content_begin(bytes.size());
  std::size_t end = bytes.size();
  while (end > begin && all_zero(bytes.subspan(end - kBlockSize, kBlockSize))) end -= kBlockSize;
  segment.sums.note(begin, bytes.subspan(begin, end - begin));
  segment.recyclable = true;
}

// Takes the entries of `segment` into `recovered` and says how it ends.
Task<Tail> take(Recovered& recovered, std::shared_ptr<Segment> segment, Uuid volume) {
  const Buffer bytes = co_await read_segment(segment);
  if (bytes.size() != segment->bytes) {
    throw Error(Code::corrupt, "{} gave {} of its {} bytes", segment->path, bytes.size(),
                segment->bytes);
  }
  const SegmentScan scan =
      scan_segment(bytes.view(), segment->table_checksum, volume, recovered.index.last());
  for (const ScannedEntry& entry : scan.entries) {
    recovered.index.push(entry.header, segment->sequence, entry.offset);
  }
  note_sums(*segment, bytes.view());
  recovered.keep = scan.end;
  segment->end = round_up_to_blocks(scan.end);
  segment->content_end = scan.content_end;
  recovered.segments.push_back(std::move(segment));
  co_return scan.tail;
}

// The segments in order, as far as they continue each other.
Task<Tail> take_all(Recovered& recovered, std::vector<Found> begun, Uuid volume) {
  recovered.index = Index(begun.front().header->base);
  Tail tail = Tail::clean;
  for (Found& each : begun) {
    if (recovered.lost.empty() && each.header->base == recovered.index.last()) {
      tail = co_await take(recovered, each.segment, volume);
    } else {
      recovered.lost.push_back(each.segment->path);
    }
  }
  co_return tail;
}

// Of the files that are no part of the journal, those that should be. None of them is kept.
Task<void> look_for_lost(Recovered& recovered, Sorted sorted, Uuid volume) {
  for (const auto& segment : sorted.unreadable) recovered.lost.push_back(segment->path);
  for (const auto& segment : sorted.unused) {
    bool lost = false;
    if (segment->bytes >= content_begin(segment->bytes)) {
      const Buffer bytes = co_await read_segment(segment);
      lost = holds_lost_entries(bytes.view(), volume, recovered.index.last().op);
    }
    (lost ? recovered.lost : recovered.obsolete).push_back(segment->path);
  }
}

}  // namespace

Task<bool> journal_exists(runtime::Filesystem& files, std::string directory) {
  const std::vector<std::uint32_t> numbers = co_await numbers_in(files, directory);
  for (const std::uint32_t number : numbers) {
    const std::shared_ptr<Segment> segment = co_await open_segment(files, directory, number);
    if (segment->bytes > kMaxSegmentBytes) co_return true;
    const Buffer bytes = co_await read_segment(segment);
    if (!all_zero(bytes.view())) co_return true;
  }
  co_return false;
}

Task<Recovered> recover(runtime::Filesystem& files, std::string directory, Uuid volume) {
  Recovered recovered;
  const std::vector<std::uint32_t> numbers = co_await numbers_in(files, directory);
  std::vector<Found> found;
  for (const std::uint32_t number : numbers) {
    Found each = co_await look_at(files, directory, number, volume);
    found.push_back(std::move(each));
    recovered.next_number = number + 1;
  }
  Sorted sorted = co_await sort(std::move(found));
  if (sorted.begun.empty() && !sorted.unreadable.empty()) {
    throw Error(Code::corrupt, "{} has no valid header, and no other segment is there",
                sorted.unreadable.front()->path);
  }
  if (sorted.begun.empty()) {
    throw Error(Code::not_found, "there is no journal in {}", directory);
  }
  recovered.next_sequence = sorted.begun.back().header->sequence + 1;
  drop_superseded(sorted.begun, recovered.obsolete);
  const Tail tail = co_await take_all(recovered, std::move(sorted.begun), volume);
  co_await look_for_lost(recovered, std::move(sorted), volume);
  recovered.damaged = tail == Tail::damaged || !recovered.lost.empty();
  recovered.torn = tail == Tail::torn && !recovered.damaged;
  recovered.marker = co_await files.exists(path_in(directory, kUncertainMarker));
  co_return recovered;
}

}  // namespace datom::journal

#include "journal/recovery.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "common/error.h"
#include "journal/scan.h"

namespace datom::journal {
namespace {

using runtime::Task;

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

Task<Found> look_at(runtime::Filesystem& files, std::string directory, std::uint32_t sequence,
                    Uuid volume) {
  Found found;
  found.segment = co_await open_segment(files, directory, sequence);
  if (found.segment->bytes > kMaxSegmentBytes) {
    throw Error(Code::corrupt, "{} has {} bytes, expected at most {}", found.segment->path,
                found.segment->bytes, kMaxSegmentBytes);
  }
  Buffer block = Buffer::allocate(kSegmentHeaderBytes);
  const std::size_t got = co_await found.segment->file->read(0, block.mutable_view());
  found.header = decode_segment_header(block.view().first(got));
  if (!found.header) co_return found;
  check_volume(*found.segment, *found.header, volume);
  if (found.header->sequence != sequence || found.header->bytes != found.segment->bytes ||
      found.header->bytes % kBlockSize != 0) {
    found.header.reset();
  }
  if (found.header) found.segment->base = found.header->base;
  co_return found;
}

Task<std::vector<std::uint32_t>> sequences_in(runtime::Filesystem& files, std::string directory) {
  const std::vector<std::string> names = co_await files.list(directory);
  std::vector<std::uint32_t> sequences;
  for (const std::string& name : names) {
    if (const auto sequence = segment_sequence(name)) sequences.push_back(*sequence);
  }
  std::sort(sequences.begin(), sequences.end());
  co_return sequences;
}

// Drops what lies before the last segment that says that the journal begins with it.
void drop_superseded(std::vector<Found>& found, std::vector<std::string>& obsolete) {
  const auto origin = std::find_if(found.rbegin(), found.rend(), [](const Found& each) {
    return each.header && each.header->origin;
  });
  if (origin == found.rend()) return;
  const auto first = origin.base() - 1;
  for (auto each = found.begin(); each != first; ++each) obsolete.push_back(each->segment->path);
  found.erase(found.begin(), first);
}

// Takes the entries of `segment` into `recovered` and says how it ends.
Task<Tail> take(Recovered& recovered, std::shared_ptr<Segment> segment, Uuid volume) {
  const Buffer bytes = co_await read_segment(segment);
  if (bytes.size() != segment->bytes) {
    throw Error(Code::corrupt, "{} gave {} of its {} bytes", segment->path, bytes.size(),
                segment->bytes);
  }
  const SegmentScan scan = scan_segment(bytes.view(), volume, recovered.index.last());
  for (const ScannedEntry& entry : scan.entries) {
    recovered.index.push(entry.header, segment->sequence, entry.offset);
  }
  recovered.keep = scan.end;
  segment->end = round_up_to_blocks(scan.end);
  segment->content_end = scan.content_end;
  recovered.segments.push_back(std::move(segment));
  co_return scan.tail;
}

}  // namespace

Task<bool> journal_exists(runtime::Filesystem& files, std::string directory) {
  const std::vector<std::uint32_t> sequences = co_await sequences_in(files, directory);
  for (const std::uint32_t sequence : sequences) {
    const std::shared_ptr<Segment> segment = co_await open_segment(files, directory, sequence);
    if (segment->bytes > kMaxSegmentBytes) co_return true;
    const Buffer bytes = co_await read_segment(segment);
    if (!all_zero(bytes.view())) co_return true;
  }
  co_return false;
}

Task<Recovered> recover(runtime::Filesystem& files, std::string directory, Uuid volume) {
  Recovered recovered;
  const std::vector<std::uint32_t> sequences = co_await sequences_in(files, directory);
  std::vector<Found> found;
  for (const std::uint32_t sequence : sequences) {
    Found each = co_await look_at(files, directory, sequence, volume);
    found.push_back(std::move(each));
    recovered.next_sequence = sequence + 1;
  }
  drop_superseded(found, recovered.obsolete);

  Tail tail = Tail::clean;
  for (Found& each : found) {
    if (!each.header) {
      const Buffer bytes = co_await read_segment(each.segment);
      if (all_zero(bytes.view())) {
        recovered.obsolete.push_back(each.segment->path);  // prepared, never begun
        continue;
      }
    }
    const bool first = recovered.segments.empty();
    if (first && !each.header) {
      throw Error(Code::corrupt, "{}, with which the journal begins, has no valid header",
                  each.segment->path);
    }
    if (first) recovered.index = Index(each.header->base);
    const bool goes_on =
        recovered.lost.empty() && each.header && each.header->base == recovered.index.last();
    if (!goes_on) {
      recovered.lost.push_back(each.segment->path);
      continue;
    }
    tail = co_await take(recovered, each.segment, volume);
  }
  if (recovered.segments.empty()) {
    throw Error(Code::not_found, "there is no journal in {}", directory);
  }
  recovered.damaged = tail == Tail::damaged || !recovered.lost.empty();
  recovered.torn = tail == Tail::torn && !recovered.damaged;
  recovered.marker = co_await files.exists(path_in(directory, kUncertainMarker));
  co_return recovered;
}

}  // namespace datom::journal

#include "journal/segment.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <utility>

#include "common/check.h"
#include "common/checksum.h"
#include "common/error.h"

namespace datom::journal {
namespace {

using runtime::Task;

// Small, so that the appends beside it find their turn at the disk.
constexpr std::uint64_t kZerosAtOnce = 256 << 10;

constexpr runtime::OpenOptions kForUse{.direct = true, .synchronous = true};

Task<void> fill_with_zeros(runtime::Filesystem& files, std::string path, std::uint64_t bytes) {
  const runtime::OpenOptions options{.create = true, .exclusive = true, .direct = true};
  const std::unique_ptr<runtime::File> file = co_await files.open(path, options);
  co_await file->allocate(0, bytes);
  const Buffer zeros = Buffer::zeroed(std::min(bytes, kZerosAtOnce));
  for (std::uint64_t at = 0; at < bytes; at += zeros.size()) {
    const std::uint64_t length = std::min<std::uint64_t>(zeros.size(), bytes - at);
    co_await file->write(at, zeros.view().first(length));
  }
  co_await file->sync();
}

Task<void> remove_if_possible(runtime::Filesystem& files, std::string path) {
  try {
    co_await files.remove(path);
  } catch (const Error&) {
    // The next open of the journal removes it.
  }
}

// From the end backwards, so that what is left at any time is a beginning.
Task<void> write_zeros(Segment& segment, std::uint64_t begin, std::uint64_t end) {
  if (begin >= end) co_return;
  const Buffer zeros = Buffer::zeroed(std::min(end - begin, kZerosAtOnce));
  while (end > begin) {
    const std::uint64_t length = std::min<std::uint64_t>(zeros.size(), end - begin);
    co_await segment.file->write(end - length, zeros.view().first(length));
    end -= length;
  }
}

// Zeros behind `keep` in its block. The sector that holds `keep` goes last and alone: it is
// replaced as a whole or not at all, and as long as the old one is there, what follows it shows
// that it is cut.
Task<void> cut_block(Segment& segment, std::uint64_t keep) {
  const std::uint64_t begin = keep / kBlockSize * kBlockSize;
  if (begin == keep) co_return;
  Buffer block = Buffer::allocate(kBlockSize);
  const std::size_t got = co_await segment.file->read(begin, block.mutable_view());
  if (got != kBlockSize) {
    throw Error(Code::corrupt, "{} ends inside its block at byte {}", segment.path, begin);
  }
  const std::size_t kept = keep - begin;
  const std::size_t sector_end = (kept + kSectorSize - 1) / kSectorSize * kSectorSize;
  for (const std::size_t from : {sector_end, kept}) {
    const MutableBytes rest = block.mutable_view().subspan(from);
    if (all_zero(rest)) continue;
    std::memset(rest.data(), 0, rest.size());
    co_await segment.file->write(begin, block.view());
  }
}

}  // namespace

std::string path_in(const std::string& directory, std::string_view name) {
  return directory + "/" + std::string(name);
}

void SectorSums::note(std::uint64_t offset, ByteView written) {
  const std::size_t first = offset / kSectorSize;
  const std::size_t end = (offset + written.size()) / kSectorSize;
  if (sums_.size() < end) sums_.resize(end);
  for (std::size_t sector = first; sector < end; ++sector) {
    sums_[sector] = sector_sum(written.subspan((sector - first) * kSectorSize, kSectorSize));
  }
}

void SectorSums::encode(MutableBytes table) const {
  std::memset(table.data(), 0, table.size());
  DATOM_CHECK(sums_.size() * sizeof(std::uint32_t) <= table.size());
  if (!sums_.empty()) std::memcpy(table.data(), sums_.data(), sums_.size() * sizeof sums_[0]);
}

Task<std::shared_ptr<Segment>> make_segment(runtime::Filesystem& files, std::string directory,
                                            std::uint32_t number, std::uint64_t bytes) {
  auto segment = std::make_shared<Segment>();
  segment->number = number;
  segment->path = path_in(directory, segment_name(number));
  segment->bytes = bytes;
  segment->end = segment->content_end = content_begin(bytes);
  segment->table_checksum = checksum(Buffer::zeroed(table_bytes(bytes)).view());
  segment->recyclable = true;
  std::exception_ptr error;
  try {
    co_await fill_with_zeros(files, segment->path, bytes);
    co_await files.sync_directory(directory);
    segment->file = co_await files.open(segment->path, kForUse);
  } catch (...) {
    error = std::current_exception();
  }
  if (error) {
    co_await remove_if_possible(files, segment->path);
    std::rethrow_exception(error);
  }
  co_return segment;
}

Task<std::shared_ptr<Segment>> open_segment(runtime::Filesystem& files, std::string directory,
                                            std::uint32_t number) {
  auto segment = std::make_shared<Segment>();
  segment->number = number;
  segment->path = path_in(directory, segment_name(number));
  segment->file = co_await files.open(segment->path, kForUse);
  segment->bytes = co_await segment->file->size();
  co_return segment;
}

Task<void> begin_segment(Segment& segment, Uuid volume, bool origin) {
  SegmentHeader header;
  header.state = origin ? SegmentHeader::State::origin : SegmentHeader::State::begun;
  header.number = segment.number;
  header.sequence = segment.sequence;
  header.bytes = segment.bytes;
  header.volume = volume;
  header.base = segment.base;
  header.table_checksum = segment.table_checksum;
  const Buffer block = encode_segment_header(header);
  co_await segment.file->write(0, block.view());
}

Task<void> write_content(Segment& segment, std::uint64_t offset, ByteView bytes) {
  co_await segment.file->write(offset, bytes);
  if (segment.recyclable) segment.sums.note(offset, bytes);
}

Task<void> make_spare(Segment& segment, Uuid volume, Op last) {
  DATOM_CHECK(segment.recyclable);
  SegmentHeader header;
  header.state = SegmentHeader::State::spare;
  header.number = segment.number;
  header.bytes = segment.bytes;
  header.volume = volume;
  const Buffer block = encode_segment_header(header);
  const std::uint64_t begin = content_begin(segment.bytes);
  Buffer bytes = Buffer::allocate(begin);
  std::memcpy(bytes.mutable_data(), block.data(), block.size());
  const MutableBytes table = bytes.mutable_view().subspan(block.size());
  segment.sums.encode(table);
  // One write. If it is interrupted, either the header is still the old one, then the segment is
  // one of the journal with another behind it, whose table nobody asks for; or it is a spare.
  co_await segment.file->write(0, bytes.view());
  segment.table_checksum = checksum(table);
  segment.highest_stale = std::max(segment.highest_stale, last);
  segment.end = segment.content_end = begin;
}

Task<void> cut_segment(Segment& segment, std::uint64_t keep,
                       std::vector<std::uint64_t> write_starts) {
  segment.recyclable = false;
  const std::uint64_t new_end = round_up_to_blocks(keep);
  std::uint64_t end = segment.content_end;
  for (auto start = write_starts.rbegin(); start != write_starts.rend(); ++start) {
    co_await write_zeros(segment, *start, end);
    end = *start;
  }
  co_await write_zeros(segment, new_end, end);
  co_await cut_block(segment, keep);
  segment.end = new_end;
  segment.content_end = new_end;
}

Task<void> remove_segment(runtime::Filesystem& files, std::string directory, std::string path) {
  co_await files.remove(path);
  co_await files.sync_directory(directory);
}

}  // namespace datom::journal

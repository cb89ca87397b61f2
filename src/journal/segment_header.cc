#include "journal/segment_header.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "common/checksum.h"
#include "common/error.h"

namespace datom::journal {
namespace {

constexpr std::uint32_t kMagic = 0x31534a44;  // "DJS1"
constexpr std::uint32_t kFormat = 2;
constexpr std::uint32_t kFlagOrigin = 1;
constexpr std::uint32_t kFlagSpare = 2;
constexpr std::string_view kSuffix = ".segment";
constexpr std::size_t kDigits = 10;

namespace at {
constexpr std::size_t magic = 0;
constexpr std::size_t format = 4;
constexpr std::size_t number = 8;
constexpr std::size_t flags = 12;
constexpr std::size_t volume = 16;
constexpr std::size_t bytes = 32;
constexpr std::size_t base_term = 40;
constexpr std::size_t base_op = 48;
constexpr std::size_t base_checksum = 56;
constexpr std::size_t sequence = 64;
constexpr std::size_t table_checksum = 72;
constexpr std::size_t header_checksum = 504;
}  // namespace at

}  // namespace

std::uint32_t sector_sum(ByteView sector) {
  return static_cast<std::uint32_t>(checksum(sector));
}

std::string segment_name(std::uint32_t number) {
  return fmt::format("{:0{}}{}", number, kDigits, kSuffix);
}

std::optional<std::uint32_t> segment_number(std::string_view name) {
  if (name.size() != kDigits + kSuffix.size() || !name.ends_with(kSuffix)) {
    return std::nullopt;
  }
  std::uint32_t number = 0;
  const char* end = name.data() + kDigits;
  const auto [stopped, error] = std::from_chars(name.data(), end, number);
  if (error != std::errc{} || stopped != end || number == UINT32_MAX) return std::nullopt;
  return number;
}

namespace {

std::uint32_t flags_of(SegmentHeader::State state) {
  switch (state) {
    case SegmentHeader::State::begun:
      return 0;
    case SegmentHeader::State::origin:
      return kFlagOrigin;
    case SegmentHeader::State::spare:
      return kFlagSpare;
  }
  return 0;
}

SegmentHeader::State state_of(std::uint32_t flags) {
  if ((flags & kFlagSpare) != 0) return SegmentHeader::State::spare;
  return (flags & kFlagOrigin) != 0 ? SegmentHeader::State::origin : SegmentHeader::State::begun;
}

}  // namespace

Buffer encode_segment_header(const SegmentHeader& header) {
  Buffer block = Buffer::zeroed(kSegmentHeaderBytes);
  std::byte* out = block.mutable_data();
  store_le(out + at::magic, kMagic);
  store_le(out + at::format, kFormat);
  store_le(out + at::number, header.number);
  store_le(out + at::flags, flags_of(header.state));
  std::memcpy(out + at::volume, header.volume.bytes.data(), header.volume.bytes.size());
  store_le(out + at::bytes, header.bytes);
  store_le(out + at::base_term, header.base.term.value());
  store_le(out + at::base_op, header.base.op.value());
  store_le(out + at::base_checksum, header.base.checksum);
  store_le(out + at::sequence, header.sequence);
  store_le(out + at::table_checksum, header.table_checksum);
  store_le(out + at::header_checksum, checksum(block.view().first(at::header_checksum)));
  return block;
}

std::optional<SegmentHeader> decode_segment_header(ByteView block) {
  if (block.size() < kSectorSize) return std::nullopt;
  const std::byte* from = block.data();
  if (load_le<std::uint32_t>(from + at::magic) != kMagic) return std::nullopt;
  if (load_le<std::uint64_t>(from + at::header_checksum) !=
      checksum(block.first(at::header_checksum))) {
    return std::nullopt;
  }
  const auto format = load_le<std::uint32_t>(from + at::format);
  if (format != kFormat) {
    throw Error(Code::unsupported, "a journal segment of format {}, this version reads {}", format,
                kFormat);
  }
  SegmentHeader header;
  header.number = load_le<std::uint32_t>(from + at::number);
  header.state = state_of(load_le<std::uint32_t>(from + at::flags));
  std::memcpy(header.volume.bytes.data(), from + at::volume, header.volume.bytes.size());
  header.bytes = load_le<std::uint64_t>(from + at::bytes);
  header.base.term = Term(load_le<std::uint64_t>(from + at::base_term));
  header.base.op = Op(load_le<std::uint64_t>(from + at::base_op));
  header.base.checksum = load_le<std::uint64_t>(from + at::base_checksum);
  header.sequence = load_le<std::uint32_t>(from + at::sequence);
  header.table_checksum = load_le<std::uint64_t>(from + at::table_checksum);
  return header;
}

}  // namespace datom::journal

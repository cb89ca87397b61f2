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
constexpr std::uint32_t kFormat = 1;
constexpr std::uint32_t kFlagOrigin = 1;
constexpr std::string_view kSuffix = ".segment";
constexpr std::size_t kSequenceDigits = 10;

namespace at {
constexpr std::size_t magic = 0;
constexpr std::size_t format = 4;
constexpr std::size_t sequence = 8;
constexpr std::size_t flags = 12;
constexpr std::size_t volume = 16;
constexpr std::size_t bytes = 32;
constexpr std::size_t base_term = 40;
constexpr std::size_t base_op = 48;
constexpr std::size_t base_checksum = 56;
constexpr std::size_t header_checksum = 504;
}  // namespace at

}  // namespace

std::string segment_name(std::uint32_t sequence) {
  return fmt::format("{:0{}}{}", sequence, kSequenceDigits, kSuffix);
}

std::optional<std::uint32_t> segment_sequence(std::string_view name) {
  if (name.size() != kSequenceDigits + kSuffix.size() || !name.ends_with(kSuffix)) {
    return std::nullopt;
  }
  std::uint32_t sequence = 0;
  const char* end = name.data() + kSequenceDigits;
  const auto [stopped, error] = std::from_chars(name.data(), end, sequence);
  if (error != std::errc{} || stopped != end || sequence == UINT32_MAX) return std::nullopt;
  return sequence;
}

Buffer encode_segment_header(const SegmentHeader& header) {
  Buffer block = Buffer::zeroed(kSegmentHeaderBytes);
  std::byte* out = block.mutable_data();
  store_le(out + at::magic, kMagic);
  store_le(out + at::format, kFormat);
  store_le(out + at::sequence, header.sequence);
  store_le(out + at::flags, header.origin ? kFlagOrigin : 0);
  std::memcpy(out + at::volume, header.volume.bytes.data(), header.volume.bytes.size());
  store_le(out + at::bytes, header.bytes);
  store_le(out + at::base_term, header.base.term.value());
  store_le(out + at::base_op, header.base.op.value());
  store_le(out + at::base_checksum, header.base.checksum);
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
  header.sequence = load_le<std::uint32_t>(from + at::sequence);
  header.origin = (load_le<std::uint32_t>(from + at::flags) & kFlagOrigin) != 0;
  std::memcpy(header.volume.bytes.data(), from + at::volume, header.volume.bytes.size());
  header.bytes = load_le<std::uint64_t>(from + at::bytes);
  header.base.term = Term(load_le<std::uint64_t>(from + at::base_term));
  header.base.op = Op(load_le<std::uint64_t>(from + at::base_op));
  header.base.checksum = load_le<std::uint64_t>(from + at::base_checksum);
  return header;
}

}  // namespace datom::journal

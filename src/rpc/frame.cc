#include "rpc/frame.h"

#include <algorithm>

#include "common/check.h"
#include "common/checksum.h"

namespace datom::rpc {
namespace {

constexpr std::size_t kMaxErrorText = 4096;

constexpr std::size_t kVersionAt = 4;
constexpr std::size_t kKindAt = 6;
constexpr std::size_t kFlagsAt = 7;
constexpr std::size_t kMethodAt = 8;
constexpr std::size_t kHeaderLengthAt = 12;
constexpr std::size_t kPayloadLengthAt = 16;
constexpr std::size_t kRequestIdAt = 24;
constexpr std::size_t kContentChecksumAt = 32;
constexpr std::size_t kFrameChecksumAt = 40;

constexpr std::byte kFlagSealed{1};

bool reserved_are_zero(ByteView bytes) {
  return (bytes[kFlagsAt] & ~kFlagSealed) == std::byte{0} &&
         load_le<std::uint16_t>(&bytes[10]) == 0 && load_le<std::uint32_t>(&bytes[20]) == 0;
}

FrameKind decode_kind(std::byte byte) {
  const auto number = static_cast<std::uint8_t>(byte);
  if (number < static_cast<std::uint8_t>(FrameKind::hello) ||
      number > static_cast<std::uint8_t>(FrameKind::message)) {
    throw Error(Code::corrupt, "frame of unknown kind {}", number);
  }
  return static_cast<FrameKind>(number);
}

void check_length(std::string_view what, std::size_t found, std::size_t allowed) {
  if (found <= allowed) return;
  throw Error(Code::too_large, "frame with a {} of {} bytes, at most {} are allowed here", what,
              found, allowed);
}

}  // namespace

EncodedFrameHeader encode_frame_header(const Frame& frame) {
  const Message& message = frame.message;
  DATOM_CHECK(message.header.size() <= kMaxHeaderBytes);
  DATOM_CHECK(message.payload.size() <= kMaxPayloadBytes);
  EncodedFrameHeader bytes{};
  std::ranges::copy(kFrameMagic, bytes.begin());
  store_le(&bytes[kVersionAt], kFrameVersion);
  bytes[kKindAt] = static_cast<std::byte>(frame.kind);
  if (message.payload_sealed) bytes[kFlagsAt] = kFlagSealed;
  store_le(&bytes[kMethodAt], frame.method);
  store_le(&bytes[kHeaderLengthAt], static_cast<std::uint32_t>(message.header.size()));
  store_le(&bytes[kPayloadLengthAt], static_cast<std::uint32_t>(message.payload.size()));
  store_le(&bytes[kRequestIdAt], frame.request_id);
  store_le(&bytes[kContentChecksumAt], content_checksum(message));
  store_le(&bytes[kFrameChecksumAt], checksum(ByteView(bytes).first(kFrameChecksumAt)));
  return bytes;
}

FrameHeader decode_frame_header(ByteView bytes, const FrameBounds& bounds) {
  DATOM_CHECK(bytes.size() == kFrameHeaderBytes);
  if (!std::ranges::equal(bytes.first(kFrameMagic.size()), kFrameMagic)) {
    throw Error(Code::corrupt, "not a datom frame: its magic is wrong");
  }
  if (load_le<std::uint64_t>(&bytes[kFrameChecksumAt]) != checksum(bytes.first(kFrameChecksumAt))) {
    throw Error(Code::corrupt, "frame header fails its checksum");
  }
  const auto version = load_le<std::uint16_t>(&bytes[kVersionAt]);
  if (version != kFrameVersion) {
    throw Error(Code::corrupt, "frame of version {}, this service reads version {}", version,
                kFrameVersion);
  }
  if (!reserved_are_zero(bytes)) {
    throw Error(Code::corrupt, "frame header with a reserved field that is not zero");
  }
  FrameHeader header;
  header.kind = decode_kind(bytes[kKindAt]);
  header.method = load_le<std::uint16_t>(&bytes[kMethodAt]);
  header.header_bytes = load_le<std::uint32_t>(&bytes[kHeaderLengthAt]);
  header.payload_bytes = load_le<std::uint32_t>(&bytes[kPayloadLengthAt]);
  header.request_id = load_le<std::uint64_t>(&bytes[kRequestIdAt]);
  header.payload_sealed = bytes[kFlagsAt] == kFlagSealed;
  header.content_checksum = load_le<std::uint64_t>(&bytes[kContentChecksumAt]);
  check_length("header", header.header_bytes, bounds.max_header_bytes);
  check_length("payload", header.payload_bytes, bounds.max_payload_bytes);
  return header;
}

std::uint64_t content_checksum(const Message& message) {
  const ByteView covered = message.payload_sealed ? ByteView{} : message.payload.view();
  return checksum(covered, checksum(as_bytes(message.header)));
}

std::string encode_error(const Error& error) {
  const std::string_view text = error.what();
  std::string header(sizeof(std::uint16_t), '\0');
  store_le(reinterpret_cast<std::byte*>(header.data()), static_cast<std::uint16_t>(error.code()));
  header += text.substr(0, kMaxErrorText);
  return header;
}

Error decode_error(std::string_view header) {
  if (header.size() < sizeof(std::uint16_t)) {
    throw Error(Code::corrupt, "error frame of {} bytes, too short for a code", header.size());
  }
  const auto code = load_le<std::uint16_t>(as_bytes(header).data());
  return Error(code_from_wire(code), std::string(header.substr(sizeof code)));
}

}  // namespace datom::rpc

// The frame: what everything on an RPC connection is made of. A fixed header, then the message's
// header and its payload. All integers are little-endian.
//
//    0  u32  magic             da 64 74 6d: no HTTP request begins so
//    4  u16  version           1
//    6  u8   kind              FrameKind
//    7  u8   flags             bit 0: sealed payload; others 0
//    8  u16  method            of request, reply, error and message; 0 in a hello
//   10  u16  reserved          0
//   12  u32  header length     at most kMaxHeaderBytes
//   16  u32  payload length    at most kMaxPayloadBytes
//   20  u32  reserved          0
//   24  u64  request id        of request, reply and error; else 0
//   32  u64  content checksum  XXH3-64 of the payload, seeded with XXH3-64 of the message's header;
//                              of a sealed payload, which holds its own checksums, of none
//   40  u64  frame checksum    XXH3-64 of the 40 bytes before
#pragma once

#include <array>
#include <cstdint>

#include "rpc/rpc.h"

namespace datom::rpc {

inline constexpr std::size_t kFrameHeaderBytes = 48;
inline constexpr std::uint16_t kFrameVersion = 1;
inline constexpr std::array<std::byte, 4> kFrameMagic = {std::byte{0xda}, std::byte{0x64},
                                                         std::byte{0x74}, std::byte{0x6d}};

enum class FrameKind : std::uint8_t {
  hello = 1,        // first frame of a client: who it is and whom it means (hello.h)
  hello_reply = 2,  // first frame of a server; instead, an error with id 0 refuses
  request = 3,
  reply = 4,
  error = 5,    // instead of a reply; the header is an encoded Error
  message = 6,  // one way
};

struct FrameHeader {
  FrameKind kind = FrameKind::message;
  Method method = 0;
  std::uint32_t header_bytes = 0;
  std::uint32_t payload_bytes = 0;
  std::uint64_t request_id = 0;
  bool payload_sealed = false;
  std::uint64_t content_checksum = 0;
};

struct Frame {
  FrameKind kind = FrameKind::message;
  Method method = 0;
  std::uint64_t request_id = 0;
  Message message;

  std::size_t wire_bytes() const {
    return kFrameHeaderBytes + message.header.size() + message.payload.size();
  }
};

// What a connection accepts; less before the hello than after it.
struct FrameBounds {
  std::size_t max_header_bytes = kMaxHeaderBytes;
  std::size_t max_payload_bytes = kMaxPayloadBytes;
};

using EncodedFrameHeader = std::array<std::byte, kFrameHeaderBytes>;

// The frame header of `frame`, checksums included. REQUIRES: within the bounds of rpc.h.
EncodedFrameHeader encode_frame_header(const Frame& frame);

// Throws Error{corrupt} where the magic, version, kind, reserved fields or checksum are wrong,
// Error{too_large} where a length is over its bound. REQUIRES: kFrameHeaderBytes bytes.
FrameHeader decode_frame_header(ByteView bytes, const FrameBounds& bounds);

std::uint64_t content_checksum(const Message& message);

// An Error as the header of an error frame: its code (u16), then its message, cut to 4 KiB.
std::string encode_error(const Error& error);
// Throws Error{corrupt} if it is too short to hold a code.
Error decode_error(std::string_view header);

}  // namespace datom::rpc

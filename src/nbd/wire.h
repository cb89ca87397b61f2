// The NBD wire format: numbers, and the encoding and parsing of every message. Pure: bytes in,
// values or Error out. Integers are big-endian on the wire. Names and numbers are those of
// https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/bytes.h"
#include "nbd/export.h"

namespace datom::nbd {

inline constexpr std::uint64_t kServerMagic = 0x4e42444d41474943;  // "NBDMAGIC"
inline constexpr std::uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
inline constexpr std::uint64_t kOptionReplyMagic = 0x0003e889045565a9;
inline constexpr std::uint32_t kRequestMagic = 0x25609513;
inline constexpr std::uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr std::uint32_t kStructuredReplyMagic = 0x668e33ef;

// Handshake flags; a client answers with the same bits in 32.
inline constexpr std::uint16_t kFixedNewstyle = 1 << 0;
inline constexpr std::uint16_t kNoZeroes = 1 << 1;

// Transmission flags.
inline constexpr std::uint16_t kHasFlags = 1 << 0;
inline constexpr std::uint16_t kReadOnly = 1 << 1;
inline constexpr std::uint16_t kSendFlush = 1 << 2;
inline constexpr std::uint16_t kSendFua = 1 << 3;
inline constexpr std::uint16_t kSendTrim = 1 << 5;
inline constexpr std::uint16_t kSendWriteZeroes = 1 << 6;
inline constexpr std::uint16_t kSendDf = 1 << 7;
inline constexpr std::uint16_t kCanMultiConn = 1 << 8;
inline constexpr std::uint16_t kSendFastZero = 1 << 11;

enum class Option : std::uint32_t {
  export_name = 1,
  abort = 2,
  list = 3,
  start_tls = 5,
  info = 6,
  go = 7,
  structured_reply = 8,
  list_meta_context = 9,
  set_meta_context = 10,
};

enum class OptionReply : std::uint32_t {
  ack = 1,
  server = 2,
  info = 3,
  meta_context = 4,
  unsupported = 0x80000001,
  policy = 0x80000002,
  invalid = 0x80000003,
  unknown = 0x80000006,
  shutdown = 0x80000007,
  too_big = 0x80000009,
};

enum class Info : std::uint16_t { export_info = 0, name = 1, description = 2, block_size = 3 };

enum class Command : std::uint16_t {
  read = 0,
  write = 1,
  disconnect = 2,
  flush = 3,
  trim = 4,
  write_zeroes = 6,
  block_status = 7,
};

// Command flags.
inline constexpr std::uint16_t kFua = 1 << 0;
inline constexpr std::uint16_t kNoHole = 1 << 1;
inline constexpr std::uint16_t kDontFragment = 1 << 2;
inline constexpr std::uint16_t kRequestOne = 1 << 3;
inline constexpr std::uint16_t kFastZero = 1 << 4;

// Types of structured reply chunks, and their one flag.
inline constexpr std::uint16_t kChunkNone = 0;
inline constexpr std::uint16_t kChunkOffsetData = 1;
inline constexpr std::uint16_t kChunkBlockStatus = 5;
inline constexpr std::uint16_t kChunkError = 0x8001;
inline constexpr std::uint16_t kChunkDone = 1 << 0;

// Flags of a base:allocation extent.
inline constexpr std::uint32_t kStateHole = 1 << 0;
inline constexpr std::uint32_t kStateZero = 1 << 1;

inline constexpr std::string_view kBaseAllocation = "base:allocation";
inline constexpr std::uint32_t kBaseAllocationId = 1;

// The error numbers that may cross the wire, whatever errno is on either machine.
enum class Errno : std::uint32_t {
  none = 0,
  eperm = 1,
  eio = 5,
  enomem = 12,
  einval = 22,
  enospc = 28,
  enotsup = 95,
  eshutdown = 108,
};

inline constexpr std::size_t kGreetingBytes = 18;
inline constexpr std::size_t kOptionHeaderBytes = 16;
inline constexpr std::size_t kRequestBytes = 28;
inline constexpr std::size_t kSimpleReplyBytes = 16;
inline constexpr std::size_t kChunkHeaderBytes = 20;
inline constexpr std::size_t kMaxStringBytes = 4096;  // of names, queries and messages

// --- handshake: what a client sends

struct OptionHeader {
  Option option{};  // perhaps none that we know
  std::uint32_t length = 0;
};
// Throws Error{corrupt} for a wrong magic number.
OptionHeader parse_option_header(std::span<const std::byte, kOptionHeaderBytes> bytes);

// The name of an export: at most kMaxStringBytes, no NUL. Throws Error{invalid_argument}.
std::string parse_export_name(ByteView data);

// Data of INFO and GO.
struct InfoRequest {
  std::string export_name;
  bool name = false;  // which items were asked for; unknown ones are ignored
  bool description = false;
  bool block_size = false;
};
// Throws Error{invalid_argument} saying what is wrong with the data.
InfoRequest parse_info_request(ByteView data);

// Data of LIST_META_CONTEXT and SET_META_CONTEXT.
struct MetaContextRequest {
  std::string export_name;
  std::vector<std::string> queries;
};
// Throws Error{invalid_argument} saying what is wrong with the data.
MetaContextRequest parse_meta_context_request(ByteView data);
// Whether base:allocation is what they ask for. `listing`: "base:" and no query at all match too.
bool selects_base_allocation(const MetaContextRequest& request, bool listing);

// --- handshake: what the server sends

// Appends big-endian fields to a growing message.
class Encoder {
 public:
  Encoder& u16(std::uint16_t value);
  Encoder& u32(std::uint32_t value);
  Encoder& u64(std::uint64_t value);
  Encoder& text(std::string_view value);
  Encoder& zeros(std::size_t count);
  ByteView view() const { return bytes_; }
  std::size_t size() const { return bytes_.size(); }

 private:
  std::vector<std::byte> bytes_;
};

void encode_greeting(Encoder& out);
void encode_option_reply(Encoder& out, Option option, OptionReply type, ByteView data);
// An error reply, or ack with an empty message. The message is cut to what clients accept.
void encode_option_reply(Encoder& out, Option option, OptionReply type, std::string_view message);
// One entry of LIST.
void encode_server(Encoder& out, const ExportInfo& info);
// The replies to INFO or GO (`option`), without the final ack.
void encode_info(Encoder& out, Option option, const InfoRequest& request, const ExportInfo& info,
                 std::uint16_t transmission_flags);
void encode_meta_context(Encoder& out, Option option, std::uint32_t id);
// The reply to EXPORT_NAME.
void encode_export_name_reply(Encoder& out, const ExportInfo& info,
                              std::uint16_t transmission_flags, bool zeroes);

std::uint16_t transmission_flags(const ExportInfo& info, bool structured);

// --- transmission

struct Request {
  std::uint16_t flags = 0;
  Command command{};         // perhaps none that we know
  std::uint64_t cookie = 0;  // the client's, given back in the reply
  std::uint64_t offset = 0;
  std::uint32_t length = 0;
};
// Throws Error{corrupt} for a wrong magic number.
Request parse_request(std::span<const std::byte, kRequestBytes> bytes);

// A reply on its way out: its fixed fields, and what follows them.
struct Reply {
  std::array<std::byte, kChunkHeaderBytes + 8> head;
  std::size_t head_size = 0;
  Buffer body;

  ByteView head_view() const { return {head.data(), head_size}; }
};

// A simple reply. `body`: what a read without structured replies gives, else empty.
Reply simple_reply(std::uint64_t cookie, Errno error, Buffer body = {});
// Structured replies of one chunk each, the final one.
Reply data_reply(std::uint64_t cookie, std::uint64_t offset, Buffer data);
Reply empty_reply(std::uint64_t cookie);
Reply error_reply(std::uint64_t cookie, Errno error, std::string_view message);
// The extents from the start of a request for `length` bytes: equal neighbours become one, what
// goes beyond `length` is cut off. Without any, the whole range is told to be allocated data.
// REQUIRES: length > 0.
Reply block_status_reply(std::uint64_t cookie, std::uint32_t length, std::size_t max_extents,
                         const std::vector<StatusExtent>& extents);

// `text` from a client made fit for a log line or a message: control characters and bytes outside
// ASCII as \xNN, cut to about 200 characters.
std::string printable(std::string_view text);

}  // namespace datom::nbd

#include "nbd/wire.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/error.h"
#include "nbd/server.h"

namespace datom::nbd {
namespace {

template <typename Integer>
Integer swap_bytes(Integer value) {
  if constexpr (sizeof(Integer) == 2) return __builtin_bswap16(value);
  if constexpr (sizeof(Integer) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(Integer) == 8) return __builtin_bswap64(value);
}
template <typename Integer>
Integer load_be(const std::byte* from) {
  return swap_bytes(load_le<Integer>(from));
}
template <typename Integer>
std::byte* store_be(std::byte* to, Integer value) {
  store_le(to, swap_bytes(value));
  return to + sizeof value;
}

// What is left of an option's data.
class Cursor {
 public:
  explicit Cursor(ByteView data) : rest_(data) {}

  std::uint16_t u16(std::string_view what) { return load_be<std::uint16_t>(take(2, what).data()); }
  std::uint32_t u32(std::string_view what) { return load_be<std::uint32_t>(take(4, what).data()); }
  // A 32 bit length and as many bytes.
  ByteView counted(std::string_view what) { return take(u32(what), what); }
  void expect_end() const {
    if (!rest_.empty()) {
      throw Error(Code::invalid_argument, "{} bytes too many at the end of the option",
                  rest_.size());
    }
  }

 private:
  ByteView take(std::size_t size, std::string_view what) {
    if (size > rest_.size()) {
      throw Error(Code::invalid_argument,
                  "the option ends within its {}: {} bytes expected, {} there", what, size,
                  rest_.size());
    }
    const ByteView taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }

  ByteView rest_;
};

std::string parse_string(ByteView data, std::string_view what) {
  if (data.size() > kMaxStringBytes) {
    throw Error(Code::invalid_argument, "{} of {} bytes; at most {} are allowed", what, data.size(),
                kMaxStringBytes);
  }
  const std::string_view text = as_text(data);
  if (text.find('\0') != std::string_view::npos) {
    throw Error(Code::invalid_argument, "{} holds a NUL character", what);
  }
  return std::string(text);
}

// At most `limit` bytes of `text`, not ending within a UTF-8 character.
std::string_view cut(std::string_view text, std::size_t limit) {
  if (text.size() <= limit) return text;
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xc0) == 0x80) --limit;
  return text.substr(0, limit);
}

Reply chunk(std::uint64_t cookie, std::uint16_t type, std::size_t length) {
  Reply reply;
  std::byte* to = reply.head.data();
  to = store_be(to, kStructuredReplyMagic);
  to = store_be(to, kChunkDone);
  to = store_be(to, type);
  to = store_be(to, cookie);
  to = store_be(to, static_cast<std::uint32_t>(length));
  reply.head_size = kChunkHeaderBytes;
  return reply;
}

std::uint32_t state_of(const StatusExtent& extent) {
  return (extent.hole ? kStateHole : 0) | (extent.zero ? kStateZero : 0);
}

}  // namespace

OptionHeader parse_option_header(std::span<const std::byte, kOptionHeaderBytes> bytes) {
  const auto magic = load_be<std::uint64_t>(bytes.data());
  if (magic != kOptionMagic) {
    throw Error(Code::corrupt, "an option begins with {:#x} instead of IHAVEOPT", magic);
  }
  return {Option{load_be<std::uint32_t>(bytes.data() + 8)},
          load_be<std::uint32_t>(bytes.data() + 12)};
}

std::string parse_export_name(ByteView data) {
  return parse_string(data, "export name");
}

InfoRequest parse_info_request(ByteView data) {
  Cursor cursor(data);
  InfoRequest request;
  request.export_name = parse_export_name(cursor.counted("export name"));
  const std::uint16_t count = cursor.u16("number of items");
  for (std::uint16_t i = 0; i < count; ++i) {
    switch (Info{cursor.u16("items")}) {
      case Info::name:
        request.name = true;
        break;
      case Info::description:
        request.description = true;
        break;
      case Info::block_size:
        request.block_size = true;
        break;
      case Info::export_info:
        break;  // always sent
    }
  }
  cursor.expect_end();
  return request;
}

MetaContextRequest parse_meta_context_request(ByteView data) {
  Cursor cursor(data);
  MetaContextRequest request;
  request.export_name = parse_export_name(cursor.counted("export name"));
  const std::uint32_t count = cursor.u32("number of queries");
  for (std::uint32_t i = 0; i < count; ++i) {
    request.queries.push_back(parse_string(cursor.counted("query"), "query"));
  }
  cursor.expect_end();
  return request;
}

bool selects_base_allocation(const MetaContextRequest& request, bool listing) {
  if (listing && request.queries.empty()) return true;
  return std::any_of(request.queries.begin(), request.queries.end(), [&](const auto& query) {
    return query == kBaseAllocation || (listing && query == "base:");
  });
}

Encoder& Encoder::u16(std::uint16_t value) {
  std::byte bytes[sizeof value];
  store_be(bytes, value);
  bytes_.insert(bytes_.end(), bytes, bytes + sizeof value);
  return *this;
}
Encoder& Encoder::u32(std::uint32_t value) {
  std::byte bytes[sizeof value];
  store_be(bytes, value);
  bytes_.insert(bytes_.end(), bytes, bytes + sizeof value);
  return *this;
}
Encoder& Encoder::u64(std::uint64_t value) {
  std::byte bytes[sizeof value];
  store_be(bytes, value);
  bytes_.insert(bytes_.end(), bytes, bytes + sizeof value);
  return *this;
}
Encoder& Encoder::text(std::string_view value) {
  const ByteView bytes = as_bytes(value);
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  return *this;
}
Encoder& Encoder::zeros(std::size_t count) {
  bytes_.insert(bytes_.end(), count, std::byte{0});
  return *this;
}

void encode_greeting(Encoder& out) {
  out.u64(kServerMagic).u64(kOptionMagic).u16(kFixedNewstyle | kNoZeroes);
}

void encode_option_reply(Encoder& out, Option option, OptionReply type, ByteView data) {
  out.u64(kOptionReplyMagic)
      .u32(static_cast<std::uint32_t>(option))
      .u32(static_cast<std::uint32_t>(type))
      .u32(static_cast<std::uint32_t>(data.size()))
      .text(as_text(data));
}

void encode_option_reply(Encoder& out, Option option, OptionReply type, std::string_view message) {
  encode_option_reply(out, option, type, as_bytes(cut(message, kMaxStringBytes)));
}

void encode_server(Encoder& out, const ExportInfo& info) {
  Encoder data;
  data.u32(static_cast<std::uint32_t>(info.name.size())).text(info.name);
  data.text(cut(info.description, kMaxStringBytes));
  encode_option_reply(out, Option::list, OptionReply::server, data.view());
}

void encode_info(Encoder& out, Option option, const InfoRequest& request, const ExportInfo& info,
                 std::uint16_t flags) {
  const auto item = [&](Info type, const auto& fill) {
    Encoder data;
    data.u16(static_cast<std::uint16_t>(type));
    fill(data);
    encode_option_reply(out, option, OptionReply::info, data.view());
  };
  item(Info::export_info, [&](Encoder& data) { data.u64(info.size).u16(flags); });
  if (request.name) item(Info::name, [&](Encoder& data) { data.text(info.name); });
  if (request.description && !info.description.empty()) {
    item(Info::description,
         [&](Encoder& data) { data.text(cut(info.description, kMaxStringBytes)); });
  }
  if (request.block_size) {
    item(Info::block_size,
         [&](Encoder& data) { data.u32(1).u32(info.preferred_block).u32(kMaxRequestBytes); });
  }
}

void encode_meta_context(Encoder& out, Option option, std::uint32_t id) {
  Encoder data;
  data.u32(id).text(kBaseAllocation);
  encode_option_reply(out, option, OptionReply::meta_context, data.view());
}

void encode_export_name_reply(Encoder& out, const ExportInfo& info, std::uint16_t flags,
                              bool zeroes) {
  out.u64(info.size).u16(flags);
  if (zeroes) out.zeros(124);
}

std::uint16_t transmission_flags(const ExportInfo& info, bool structured) {
  std::uint16_t flags = kHasFlags | kSendFlush | kSendFua;
  flags |= info.read_only ? kReadOnly : (kSendTrim | kSendWriteZeroes | kSendFastZero);
  if (structured) flags |= kSendDf;
  if (info.multi_conn) flags |= kCanMultiConn;
  return flags;
}

Request parse_request(std::span<const std::byte, kRequestBytes> bytes) {
  const auto magic = load_be<std::uint32_t>(bytes.data());
  if (magic != kRequestMagic) {
    throw Error(Code::corrupt, "a request begins with {:#x} instead of {:#x}", magic,
                kRequestMagic);
  }
  Request request;
  request.flags = load_be<std::uint16_t>(bytes.data() + 4);
  request.command = Command{load_be<std::uint16_t>(bytes.data() + 6)};
  request.cookie = load_be<std::uint64_t>(bytes.data() + 8);
  request.offset = load_be<std::uint64_t>(bytes.data() + 16);
  request.length = load_be<std::uint32_t>(bytes.data() + 24);
  return request;
}

Reply simple_reply(std::uint64_t cookie, Errno error, Buffer body) {
  Reply reply;
  std::byte* to = reply.head.data();
  to = store_be(to, kSimpleReplyMagic);
  to = store_be(to, static_cast<std::uint32_t>(error));
  store_be(to, cookie);
  reply.head_size = kSimpleReplyBytes;
  reply.body = std::move(body);
  return reply;
}

Reply data_reply(std::uint64_t cookie, std::uint64_t offset, Buffer data) {
  Reply reply = chunk(cookie, kChunkOffsetData, 8 + data.size());
  store_be(reply.head.data() + reply.head_size, offset);
  reply.head_size += 8;
  reply.body = std::move(data);
  return reply;
}

Reply empty_reply(std::uint64_t cookie) {
  return chunk(cookie, kChunkNone, 0);
}

Reply error_reply(std::uint64_t cookie, Errno error, std::string_view message) {
  const std::string_view text = cut(message, kMaxStringBytes);
  Encoder body;
  body.u32(static_cast<std::uint32_t>(error)).u16(static_cast<std::uint16_t>(text.size()));
  body.text(text);
  Reply reply = chunk(cookie, kChunkError, body.size());
  reply.body = Buffer::copy_of(body.view());
  return reply;
}

Reply block_status_reply(std::uint64_t cookie, std::uint32_t length, std::size_t max_extents,
                         const std::vector<StatusExtent>& extents) {
  DATOM_CHECK(length > 0);
  std::vector<std::pair<std::uint32_t, std::uint32_t>> told;  // length, state
  std::uint32_t left = length;
  for (const StatusExtent& extent : extents) {
    const auto size = static_cast<std::uint32_t>(std::min<std::uint64_t>(extent.length, left));
    if (size == 0) continue;
    if (!told.empty() && told.back().second == state_of(extent)) {
      told.back().first += size;
    } else if (told.size() < max_extents) {
      told.emplace_back(size, state_of(extent));
    } else {
      break;
    }
    left -= size;
  }
  if (told.empty()) told.emplace_back(length, 0);

  Encoder body;
  body.u32(kBaseAllocationId);
  for (const auto& [size, state] : told) body.u32(size).u32(state);
  Reply reply = chunk(cookie, kChunkBlockStatus, body.size());
  reply.body = Buffer::copy_of(body.view());
  return reply;
}

std::string printable(std::string_view text) {
  constexpr std::size_t kLimit = 200;
  std::string result;
  for (const char c : text) {
    if (result.size() >= kLimit) return result + "...";
    if (c >= ' ' && c <= '~') {
      result += c;
    } else {
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return result;
}

}  // namespace datom::nbd

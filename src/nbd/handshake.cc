#include "nbd/handshake.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <exception>
#include <utility>
#include <vector>

#include "common/error.h"

namespace datom::nbd {

using runtime::Stream;
using runtime::Task;

namespace {

constexpr std::uint32_t kMaxOptionBytes = 64 << 10;
// Data of an option that is not ours or too large is read and dropped up to this size.
constexpr std::uint32_t kMaxDroppedBytes = 1 << 20;
constexpr std::size_t kMaxNamesInMessage = 8;

Task<void> send(Stream& stream, Encoder message) {
  const ByteView pieces[] = {message.view()};
  co_await stream.write(pieces);
}

Task<void> drop(Stream& stream, std::uint32_t size) {
  std::array<std::byte, 4096> dropped;
  while (size > 0) {
    const std::size_t part = std::min<std::size_t>(size, dropped.size());
    co_await read_exactly(stream, MutableBytes(dropped).first(part));
    size -= static_cast<std::uint32_t>(part);
  }
}

bool is_known(Option option) {
  switch (option) {
    case Option::export_name:
    case Option::abort:
    case Option::list:
    case Option::info:
    case Option::go:
    case Option::structured_reply:
    case Option::list_meta_context:
    case Option::set_meta_context:
      return true;
    case Option::start_tls:  // encryption is left to a tunnel
      return false;
  }
  return false;
}

OptionReply reply_for(Code code) {
  switch (code) {
    case Code::permission_denied:
      return OptionReply::policy;
    case Code::invalid_argument:
      return OptionReply::invalid;
    case Code::closed:
    case Code::cancelled:
      return OptionReply::shutdown;
    default:
      return OptionReply::unknown;  // "the requested export is not available"
  }
}

std::string join_names(const std::vector<ExportInfo>& exports) {
  std::string names;
  for (std::size_t i = 0; i < exports.size() && i < kMaxNamesInMessage; ++i) {
    names += (i == 0 ? "" : ", ") + printable(exports[i].name);
  }
  if (exports.size() > kMaxNamesInMessage) {
    names += fmt::format(" and {} more", exports.size() - kMaxNamesInMessage);
  }
  return names;
}

}  // namespace

// What an option leads to.
struct Handshake::Answer {
  Encoder message;               // to be sent
  std::optional<Choice> choice;  // the client has chosen
  bool left = false;             // the client has said good-bye
};

Task<void> Handshake::greet(Stream& stream) {
  Encoder greeting;
  encode_greeting(greeting);
  co_await send(stream, std::move(greeting));

  std::array<std::byte, 4> bytes;
  co_await read_exactly(stream, bytes);
  std::uint32_t flags = 0;
  for (const std::byte byte : bytes) flags = flags << 8 | std::to_integer<std::uint32_t>(byte);
  if ((flags & ~std::uint32_t{kFixedNewstyle | kNoZeroes}) != 0) {
    throw Error(Code::corrupt, "the client sets unknown flags: {:#x}", flags);
  }
  zeroes_ = (flags & kNoZeroes) == 0;
}

Task<std::optional<Choice>> Handshake::haggle(Stream& stream) {
  while (true) {
    std::array<std::byte, kOptionHeaderBytes> bytes;
    co_await read_exactly(stream, bytes);
    const OptionHeader header = parse_option_header(bytes);
    const bool known = is_known(header.option);
    if (!known || header.length > kMaxOptionBytes) {
      if (header.length > kMaxDroppedBytes || header.option == Option::export_name) {
        throw Error(Code::corrupt, "option {} brings {} bytes",
                    static_cast<std::uint32_t>(header.option), header.length);
      }
      co_await drop(stream, header.length);
      Encoder message;
      if (known) {
        encode_option_reply(message, header.option, OptionReply::too_big,
                            fmt::format("at most {} bytes are taken", kMaxOptionBytes));
      } else {
        encode_option_reply(message, header.option, OptionReply::unsupported,
                            header.option == Option::start_tls ? "this server does not offer TLS"
                                                               : "unknown option");
      }
      co_await send(stream, std::move(message));
      continue;
    }
    Buffer data = Buffer::allocate(header.length);
    co_await read_exactly(stream, data.mutable_view());
    Answer answered = co_await answer(header.option, std::move(data));
    if (answered.message.size() > 0) co_await send(stream, std::move(answered.message));
    if (answered.choice) co_return std::move(answered.choice);
    if (answered.left) co_return std::nullopt;
  }
}

// Errors of the option become error replies here.
Task<Handshake::Answer> Handshake::answer(Option option, Buffer data) {
  std::exception_ptr failure;
  OptionReply type = OptionReply::ack;
  std::string message;
  try {
    switch (option) {
      case Option::list: {
        Answer answer = co_await list(data.view());
        co_return answer;
      }
      case Option::info:
      case Option::go: {
        Answer answer = co_await info(option, data.view());
        co_return answer;
      }
      case Option::list_meta_context:
      case Option::set_meta_context: {
        Answer answer = co_await meta_context(option, data.view());
        co_return answer;
      }
      case Option::export_name: {
        Answer answer = co_await export_name(data.view());
        co_return answer;
      }
      case Option::structured_reply:
        if (!data.empty()) throw Error(Code::invalid_argument, "the option takes no data");
        structured_ = true;
        break;
      case Option::abort:
      case Option::start_tls:
        break;
    }
  } catch (const Error& error) {
    if (option == Option::export_name) throw;
    type = reply_for(error.code());
    message = error.what();
  }
  Answer answer;
  answer.left = option == Option::abort;
  encode_option_reply(answer.message, option, type, message);
  co_return answer;
}

Task<Handshake::Answer> Handshake::list(ByteView data) {
  if (!data.empty()) throw Error(Code::invalid_argument, "LIST takes no data");
  const std::vector<ExportInfo> exports = co_await exports_.list();
  Answer answer;
  for (const ExportInfo& info : exports) encode_server(answer.message, info);
  encode_option_reply(answer.message, Option::list, OptionReply::ack, "");
  co_return answer;
}

Task<Handshake::Answer> Handshake::info(Option option, ByteView data) {
  InfoRequest request = parse_info_request(data);
  const ExportInfo info = co_await find(request.export_name);
  Answer answer;
  if (option == Option::go) {
    answer.choice = Choice{option, std::move(request)};
  } else {
    encode_info(answer.message, option, request, info, transmission_flags(info, structured_));
    encode_option_reply(answer.message, option, OptionReply::ack, "");
  }
  co_return answer;
}

// The option knows no error reply: what fails ends the connection.
Task<Handshake::Answer> Handshake::export_name(ByteView data) {
  Choice choice{Option::export_name, {}};
  choice.request.export_name = parse_export_name(data);
  co_await find(choice.request.export_name);
  Answer answer;
  answer.choice = std::move(choice);
  co_return answer;
}

Task<Handshake::Answer> Handshake::meta_context(Option option, ByteView data) {
  const bool listing = option == Option::list_meta_context;
  if (!listing) context_export_.reset();  // even when this fails
  if (!structured_) {
    throw Error(Code::invalid_argument, "metadata contexts need structured replies");
  }
  const MetaContextRequest request = parse_meta_context_request(data);
  co_await find(request.export_name);
  Answer answer;
  if (selects_base_allocation(request, listing)) {
    encode_meta_context(answer.message, option, listing ? 0 : kBaseAllocationId);
    if (!listing) context_export_ = request.export_name;
  }
  encode_option_reply(answer.message, option, OptionReply::ack, "");
  co_return answer;
}

Task<ExportInfo> Handshake::find(std::string name) {
  if (name.empty()) {
    const std::vector<ExportInfo> exports = co_await exports_.list();
    if (exports.empty()) throw Error(Code::not_found, "this server has no exports yet");
    throw Error(Code::not_found, "there is no default export; name one of: {}",
                join_names(exports));
  }
  ExportInfo info = co_await exports_.describe(std::move(name));
  co_return info;
}

Task<Session> Handshake::accept(Stream& stream, Choice choice, ExportInfo info) {
  const std::uint16_t flags = transmission_flags(info, structured_);
  Encoder message;
  if (choice.option == Option::export_name) {
    encode_export_name_reply(message, info, flags, zeroes_);
  } else {
    encode_info(message, choice.option, choice.request, info, flags);
    encode_option_reply(message, choice.option, OptionReply::ack, "");
  }
  co_await send(stream, std::move(message));
  Session session;
  session.size = info.size;
  session.block = info.preferred_block;
  session.read_only = info.read_only;
  session.structured = structured_;
  session.base_allocation = context_export_ == choice.request.export_name;
  co_return session;
}

Task<bool> Handshake::refuse(Stream& stream, Choice choice, Error why) {
  if (choice.option == Option::export_name) co_return false;
  Encoder message;
  encode_option_reply(message, choice.option, reply_for(why.code()), why.what());
  co_await send(stream, std::move(message));
  co_return true;
}

}  // namespace datom::nbd

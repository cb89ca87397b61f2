#include <algorithm>
#include <array>
#include <exception>
#include <utility>

#include "http/http.h"
#include "http/message.h"

namespace datom::http {
namespace {

using runtime::Address;
using runtime::Stream;
using runtime::Task;
using ResponseParser = beast_http::response_parser<beast_http::string_body>;

// Would end the line that it is written into.
bool has_controls_or_spaces(const std::string& text) {
  return std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) <= ' '; });
}

std::string request_header(const Address& to, const Request& request) {
  if (has_controls_or_spaces(request.query) || has_controls_or_spaces(request.method)) {
    throw Error(Code::invalid_argument, "the method or query of {} {} is not encoded",
                request.method, request.path);
  }
  std::string target = percent_encode(request.path);
  if (!request.query.empty()) target += "?" + request.query;
  beast_http::request<beast_http::empty_body> message;
  message.version(11);
  message.method_string(request.method);
  message.target(target);
  message.set(beast_http::field::host, to.unix_path.empty() ? to.to_string() : "localhost");
  if (!request.content_type.empty()) {
    message.set(beast_http::field::content_type, request.content_type);
  }
  if (!request.body.empty()) message.content_length(request.body.size());
  message.keep_alive(false);
  return header_text(message);
}

[[noreturn]] void refuse_answer(const Address& to, error_code error) {
  if (error == beast_http::error::header_limit || error == beast_http::error::body_limit) {
    throw Error(Code::too_large, "the answer of {} is too large: {}", to.to_string(),
                error.message());
  }
  throw Error(Code::corrupt, "the answer of {} is malformed: {}", to.to_string(), error.message());
}

Task<void> read_response(Stream& stream, const Address& to, ResponseParser& parser) {
  std::string pending;
  for (;;) {
    error_code error = feed(parser, pending);
    if (error) refuse_answer(to, error);
    if (parser.is_done()) co_return;
    const bool more = co_await read_more(stream, pending);
    if (more) continue;
    if (!parser.got_some()) {
      throw Error(Code::closed, "{} closed the connection without an answer", to.to_string());
    }
    parser.put_eof(error);
    if (error == beast_http::error::partial_message) {
      throw Error(Code::closed, "{} closed the connection within its answer", to.to_string());
    }
    if (error) refuse_answer(to, error);
  }
}

Task<Response> exchange(Stream& stream, Address to, std::string header, Request request) {
  const std::array<ByteView, 2> pieces = {as_bytes(header), as_bytes(request.body)};
  co_await stream.write(pieces);
  ResponseParser parser;
  parser.eager(true);
  parser.header_limit(kMaxHeader);
  parser.body_limit(kMaxResponseBody);
  parser.skip(request.method == "HEAD");
  co_await read_response(stream, to, parser);
  Response response;
  response.status = parser.get().result_int();
  response.content_type = std::string(parser.get()[beast_http::field::content_type]);
  response.body = std::move(parser.get().body());
  co_return response;
}

}  // namespace

Task<Response> request(runtime::Loop& loop, runtime::Network& network, Address to, Request request,
                       runtime::Duration timeout) {
  std::string header = request_header(to, request);
  const runtime::Time start = loop.now();
  const std::unique_ptr<Stream> stream = co_await network.connect(to, timeout);
  const Deadline deadline(loop, *stream, start + timeout - loop.now());
  try {
    Response response = co_await exchange(*stream, to, std::move(header), std::move(request));
    co_return response;
  } catch (const Error& error) {
    if (error.code() != Code::closed) throw;
    if (deadline.passed()) throw Error(Code::timeout, "{} did not answer in time", to.to_string());
    throw Error(Code::outcome_unknown, "{}", error.what());
  }
}

}  // namespace datom::http

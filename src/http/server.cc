#include <array>
#include <exception>
#include <utility>

#include "http/http.h"
#include "http/message.h"

namespace datom::http {
namespace {

using runtime::Task;
using RequestParser = beast_http::request_parser<beast_http::string_body>;

// After an answer that ends the connection: how much and how long the peer may still send. Closing
// at once would discard the answer together with what the peer has sent.
constexpr std::size_t kMaxDiscarded = 4 << 20;
constexpr runtime::Duration kDiscardTime = std::chrono::seconds(2);

constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

Response text_response(int status, std::string text) {
  Response response;
  response.status = status;
  response.body = std::move(text) + "\n";
  return response;
}

Response refusal(error_code error) {
  if (error == beast_http::error::header_limit) {
    return text_response(431, fmt::format("the header is longer than {} bytes", kMaxHeader));
  }
  if (error == beast_http::error::body_limit) {
    return text_response(413, fmt::format("the body is longer than {} bytes", kMaxRequestBody));
  }
  if (error == beast_http::error::bad_transfer_encoding) {
    return text_response(411, "a body must come with its Content-Length");
  }
  return text_response(400, fmt::format("malformed request: {}", error.message()));
}

// nullopt: no path of ours.
std::optional<Request> to_request(beast_http::request<beast_http::string_body> message) {
  const std::string target(message.target());
  const std::size_t mark = std::min(target.find('?'), target.size());
  const std::optional<std::string> path = percent_decode(target.substr(0, mark));
  if (!path || !path->starts_with('/')) return std::nullopt;
  Request request;
  request.method = std::string(message.method_string());
  request.path = *path;
  if (mark < target.size()) request.query = target.substr(mark + 1);
  request.content_type = std::string(message[beast_http::field::content_type]);
  request.body = std::move(message.body());
  return request;
}

class Connection {
 public:
  Connection(runtime::Loop& loop, runtime::Stream& stream, std::string pending, Handler handler,
             ServeOptions options)
      : loop_(loop),
        stream_(stream),
        pending_(std::move(pending)),
        handler_(std::move(handler)),
        options_(options) {}

  Task<void> serve();

 private:
  Task<bool> serve_one();
  Task<error_code> read_request(RequestParser& parser);
  Task<Response> handle(Request request);
  Task<void> answer(const Response& response, bool head_only, bool keep_alive);
  Task<void> refuse(Response response);

  runtime::Loop& loop_;
  runtime::Stream& stream_;
  std::string pending_;  // read and not parsed yet
  Handler handler_;
  ServeOptions options_;
};

Task<void> Connection::serve() {
  try {
    for (;;) {
      const bool more = co_await serve_one();
      if (!more) break;
    }
  } catch (const Error&) {
    // The connection broke or was closed; there is nobody to tell.
  }
  stream_.close();
}

// False: that was the last one.
Task<bool> Connection::serve_one() {
  RequestParser parser;
  parser.header_limit(kMaxHeader);
  parser.body_limit(kMaxRequestBody);
  const error_code error = co_await read_request(parser);
  if (error == beast_http::error::end_of_stream) co_return false;
  if (error) {
    co_await refuse(refusal(error));
    co_return false;
  }
  const bool keep_alive = parser.keep_alive();
  std::optional<Request> request = to_request(parser.release());
  if (!request) {
    co_await refuse(text_response(400, "malformed request: the target is not a path"));
    co_return false;
  }
  const bool head_only = request->method == "HEAD";
  const Response response = co_await handle(std::move(*request));
  co_await answer(response, head_only, keep_alive);
  co_return keep_alive;
}

Task<error_code> Connection::read_request(RequestParser& parser) {
  const Deadline deadline(loop_, stream_, options_.patience);
  bool continued = false;
  for (;;) {
    error_code error = feed_header(parser, pending_);
    if (!error && parser.is_header_done()) {
      // Beast 1.81 asserts on some malformed chunks: a body says its length.
      if (parser.chunked()) co_return beast_http::error::bad_transfer_encoding;
      parser.eager(true);
      error = feed(parser, pending_);
    }
    if (error || parser.is_done()) co_return error;
    if (parser.is_header_done() && !std::exchange(continued, true) &&
        parser.get()[beast_http::field::expect] == "100-continue") {
      const ByteView piece = as_bytes(kContinue);
      co_await stream_.write({&piece, 1});
    }
    const bool more = co_await read_more(stream_, pending_);
    if (more) continue;
    const bool between = !parser.got_some() && pending_.empty();
    co_return between ? beast_http::error::end_of_stream : beast_http::error::partial_message;
  }
}

Task<Response> Connection::handle(Request request) {
  try {
    Response response = co_await handler_(std::move(request));
    co_return response;
  } catch (const Error& error) {
    co_return text_response(status_of(error.code()),
                            fmt::format("{}: {}", name(error.code()), error.what()));
  } catch (const std::exception& error) {
    co_return text_response(500, fmt::format("internal: {}", error.what()));
  }
}

Task<void> Connection::answer(const Response& response, bool head_only, bool keep_alive) {
  const Deadline deadline(loop_, stream_, options_.patience);
  beast_http::response<beast_http::empty_body> message;
  message.version(11);
  message.result(static_cast<unsigned>(response.status));
  message.set(beast_http::field::content_type, response.content_type);
  message.set("X-Content-Type-Options", "nosniff");
  message.content_length(response.body.size());
  message.keep_alive(keep_alive);
  const std::string header = header_text(message);
  std::array<ByteView, 2> pieces = {as_bytes(header), as_bytes(response.body)};
  if (head_only) pieces[1] = {};
  co_await stream_.write(pieces);
}

Task<void> Connection::refuse(Response response) {
  co_await answer(response, false, false);
  const Deadline deadline(loop_, stream_, kDiscardTime);
  for (std::size_t discarded = 0; discarded < kMaxDiscarded;) {
    pending_.clear();
    const bool more = co_await read_more(stream_, pending_);
    if (!more) break;
    discarded += pending_.size();
  }
}

}  // namespace

Task<void> serve(runtime::Loop& loop, runtime::Stream& stream, std::string read, Handler handler,
                 ServeOptions options) {
  Connection connection(loop, stream, std::move(read), std::move(handler), options);
  co_await connection.serve();
}

int status_of(Code code) {
  switch (code) {
    case Code::invalid_argument:
      return 400;
    case Code::permission_denied:
      return 403;
    case Code::not_found:
      return 404;
    case Code::already_exists:
    case Code::conflict:
      return 409;
    case Code::too_large:
      return 413;
    case Code::unsupported:
      return 501;
    case Code::unavailable:
    case Code::closed:
    case Code::not_leader:
    case Code::stale_term:
    case Code::session_expired:
    case Code::cancelled:
      return 503;
    case Code::timeout:
    case Code::outcome_unknown:
      return 504;
    case Code::no_space:
      return 507;
    case Code::internal:
    case Code::corrupt:
    case Code::io_error:
      break;
  }
  return 500;
}

}  // namespace datom::http

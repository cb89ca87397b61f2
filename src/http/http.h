// HTTP/1.1 for people, scrapers and the JSON API: small requests and answers held whole in memory.
// Serves one connection at a time over any Stream; and a client for the command line and tests.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "common/error.h"
#include "runtime/loop.h"
#include "runtime/network.h"
#include "runtime/task.h"

namespace datom::http {

inline constexpr std::size_t kMaxHeader = 16 << 10;
inline constexpr std::size_t kMaxRequestBody = 1 << 20;
inline constexpr std::size_t kMaxResponseBody = 64 << 20;

struct Request {
  std::string method = "GET";
  std::string path = "/";    // percent-decoded, begins with '/', holds no NUL
  std::string query;         // as sent, without the '?'
  std::string content_type;  // as sent; empty if there was none
  std::string body;
};

struct Response {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

// What it throws is answered too: an Error with its status (below) and "NAME: MESSAGE" as text,
// anything else with 500. A HEAD request is answered like a GET whose body is left out.
using Handler = std::function<runtime::Task<Response>(Request)>;

struct ServeOptions {
  // A connection is closed when this passes without a whole request or while an answer waits to be
  // taken.
  runtime::Duration patience = std::chrono::seconds(60);
};

// Serves the connection, of which `read` has been read already, until the peer is done, breaks the
// protocol, or the stream is closed (by its owner too, to stop). A malformed request is answered
// with 400, a header above kMaxHeader with 431, a body above kMaxRequestBody with 413; then the
// connection ends. Throws nothing. `loop` is the stream's; both must outlive the task.
runtime::Task<void> serve(runtime::Loop& loop, runtime::Stream& stream, std::string read,
                          Handler handler, ServeOptions options = {});

// The status that tells a client of an Error.
int status_of(Code code);

// One request on a connection of its own. Error{unavailable} if there is no connection; after that
// Error{timeout}, Error{outcome_unknown} if it breaks, Error{corrupt} if the answer is no HTTP,
// Error{too_large} if it is above kMaxResponseBody. `loop` is the network's.
runtime::Task<Response> request(runtime::Loop& loop, runtime::Network& network, runtime::Address to,
                                Request request, runtime::Duration timeout);

// "a%2Fb" -> "a/b"; nullopt if a '%' is not followed by two hexadecimal digits, or for a NUL.
std::optional<std::string> percent_decode(std::string_view text);
// Everything except letters, digits and "-._~/" as %XX.
std::string percent_encode(std::string_view text);
// The value of the first `name` in a query "a=1&b=x%20y", decoded ('+' is a space); nullopt if it
// is not there or malformed.
std::optional<std::string> query_value(std::string_view query, std::string_view name);

}  // namespace datom::http

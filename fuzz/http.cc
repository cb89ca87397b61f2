// HTTP requests, and what handlers take out of them. First byte: size of the pieces that arrive.
#include "http/http.h"

#include "fuzz/feed_stream.h"
#include "fuzz/input.h"
#include "fuzz/target.h"
#include "runtime/virtual_loop.h"

namespace datom::fuzz {
namespace {

runtime::Task<http::Response> answer(http::Request request) {
  DATOM_CHECK(!request.path.empty() && request.path.front() == '/');
  DATOM_CHECK(request.path.find('\0') == std::string::npos);
  DATOM_CHECK(request.body.size() <= http::kMaxRequestBody);
  http::Response response;
  response.body = http::query_value(request.query, "after").value_or("none") + request.body;
  DATOM_CHECK(http::percent_decode(http::percent_encode(request.path)) == request.path);
  co_return response;
}

}  // namespace

void run(ByteView bytes) {
  Input input(bytes);
  const std::size_t piece = input.byte();
  const std::size_t before = input.byte() % 8;
  runtime::VirtualLoop loop;
  std::string read(as_text(input.piece(before)));
  FeedStream stream(loop, input.rest(), piece);
  loop.run(http::serve(loop, stream, std::move(read), answer));
}

std::map<std::string, std::string> seeds() {
  const auto seed = [](char piece, std::string_view text) {
    return std::string(1, piece) + '\4' + std::string(text);
  };
  return {{"get", seed(0, "GET /api/v1/volumes?after=a%20b&x=1 HTTP/1.1\r\nHost: x\r\n\r\n")},
          {"pieces", seed(3,
                          "HEAD /metrics HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
                          "GET / HTTP/1.1\r\nHost: x\r\n\r\n")},
          {"post", seed(0,
                        "POST /api/v1/volumes HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                        "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")},
          {"chunked", seed(0,
                           "PUT /a%2fb HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                           "3\r\nabc\r\n0\r\n\r\n")}};
}

}  // namespace datom::fuzz

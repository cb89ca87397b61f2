// Between Beast's parsers and serializers and a Stream: for the .cc files of this folder only.
#pragma once

#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/serializer.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/system/error_code.hpp>
#include <string>

#include "http/http.h"

namespace datom::http {

namespace beast_http = boost::beast::http;
using boost::system::error_code;

// Gives a parser that is not eager what is pending up to the end of the header; what it did not
// take stays. No error: go on, or is_header_done().
template <typename Parser>
error_code feed_header(Parser& parser, std::string& pending) {
  error_code error;
  while (!pending.empty() && !parser.is_header_done() && !error) {
    const std::size_t taken = parser.put(boost::asio::buffer(pending), error);
    pending.erase(0, taken);
    if (taken == 0 && !error) break;
  }
  if (error == beast_http::error::need_more) error = {};
  return error;
}

// Gives the parser what is pending; what it did not take stays. No error: go on, or is_done().
template <typename Parser>
error_code feed(Parser& parser, std::string& pending) {
  error_code error;
  while (!pending.empty() && !parser.is_done() && !error) {
    const std::size_t taken = parser.put(boost::asio::buffer(pending), error);
    pending.erase(0, taken);
    if (taken == 0 && !error) break;
  }
  if (error == beast_http::error::need_more) error = {};
  // The parser looks for the end of a header itself, but for that of a chunk's as long as it takes.
  if (!error && !parser.is_done() && pending.size() > kMaxHeader) {
    error = beast_http::error::header_limit;
  }
  return error;
}

// The bytes of the message's header.
template <bool is_request>
std::string header_text(beast_http::message<is_request, beast_http::empty_body>& message) {
  beast_http::serializer<is_request, beast_http::empty_body> serializer(message);
  std::string text;
  error_code error;
  while (!error && !serializer.is_done()) {
    serializer.next(error, [&](error_code&, const auto& buffers) {
      std::size_t size = 0;
      for (auto at = boost::asio::buffer_sequence_begin(buffers);
           at != boost::asio::buffer_sequence_end(buffers); ++at) {
        const boost::asio::const_buffer buffer = *at;
        text.append(static_cast<const char*>(buffer.data()), buffer.size());
        size += buffer.size();
      }
      serializer.consume(size);
    });
  }
  return text;
}

// Appends what the peer sends next; false at its end.
runtime::Task<bool> read_more(runtime::Stream& stream, std::string& pending);

// Closes the stream when it takes too long; until destroyed.
class Deadline {
 public:
  Deadline(runtime::Loop& loop, runtime::Stream& stream, runtime::Duration timeout)
      : loop_(loop), timer_(loop.start_timer(loop.now() + timeout, [this, &stream] {
          passed_ = true;
          stream.close();
        })) {}
  ~Deadline() { loop_.cancel_timer(timer_); }
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

  bool passed() const { return passed_; }

 private:
  runtime::Loop& loop_;
  bool passed_ = false;
  runtime::Loop::TimerId timer_;
};

}  // namespace datom::http

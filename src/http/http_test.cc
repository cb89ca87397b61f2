#include "http/http.h"

#include <gmock/gmock.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "runtime/event_loop.h"
#include "runtime/socket_network.h"
#include "runtime/task_group.h"

namespace datom::http {
namespace {

using runtime::Address;
using runtime::Stream;
using runtime::Task;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr runtime::Duration kEnough = seconds(20);

// Echoes what it understood; some paths fail.
Task<Response> echo(Request request) {
  if (request.path == "/missing") throw Error(Code::not_found, "volume {} is not there", "db");
  if (request.path == "/broken") throw std::runtime_error("a bug");
  Response response;
  if (request.path == "/large") {
    response.body.assign(3 << 20, 'x');
    co_return response;
  }
  response.status = request.path == "/teapot" ? 418 : 200;
  response.content_type = "text/x-echo";
  response.body = fmt::format("{}|{}|{}|{}|{}", request.method, request.path, request.query,
                              request.content_type, request.body);
  co_return response;
}

Task<void> write_text(Stream& stream, std::string text) {
  const ByteView piece = as_bytes(text);
  co_await stream.write({&piece, 1});
}

// A refusal, whole: its text ends with its only newline.
bool is_refusal(const std::string& answer) {
  const std::size_t body = answer.find("\r\n\r\n");
  return answer.starts_with("HTTP/1.1 4") && body != answer.npos && body + 4 < answer.size() &&
         answer.ends_with('\n');
}

// Until the peer closes, or has refused: it waits for us to close then.
Task<void> read_to_end(Stream& stream, std::string& all) {
  std::array<std::byte, 4096> chunk{};
  while (!is_refusal(all)) {
    const std::size_t count = co_await stream.read_some(chunk);
    if (count == 0) break;
    all += as_text(ByteView(chunk).first(count));
  }
  stream.close();
}

// Lets everything that is on its way on this machine arrive.
Task<void> settle(runtime::EventLoop& loop) {
  for (int i = 0; i < 1000; ++i) co_await runtime::switch_to(loop);
}

Task<void> write_pieces(runtime::EventLoop& loop, Stream& stream, std::vector<std::string> pieces) {
  try {
    for (const std::string& piece : pieces) {
      co_await write_text(stream, piece);
      co_await settle(loop);
    }
  } catch (const Error&) {
    // refused already
  }
}

class HttpTest : public ::testing::Test {
 protected:
  // Answers one connection as `serve` does.
  Task<void> serve_one(std::string already_read, ServeOptions options) {
    const std::unique_ptr<Stream> stream = co_await listener_->accept();
    co_await serve(loop_, *stream, std::move(already_read), echo, options);
  }
  Task<void> ask(Request question, Response& answer) {
    runtime::TaskGroup group(loop_,
                             [](std::exception_ptr error) { std::rethrow_exception(error); });
    group.spawn(serve_one("", {}));
    answer = co_await request(loop_, *network_, listener_->address(), std::move(question), kEnough);
    co_await group.close();
  }
  // Sends the pieces one by one and reads until the server closes.
  Task<void> say(std::string already_read, std::vector<std::string> pieces, ServeOptions options,
                 std::string& answer) {
    runtime::TaskGroup group(loop_,
                             [](std::exception_ptr error) { std::rethrow_exception(error); });
    group.spawn(serve_one(std::move(already_read), options));
    const auto stream = co_await network_->connect(listener_->address(), kEnough);
    group.spawn(read_to_end(*stream, answer));
    co_await write_pieces(loop_, *stream, std::move(pieces));
    co_await group.close();
  }

  Task<void> close_while_serving() {
    const auto client = co_await network_->connect(listener_->address(), kEnough);
    const auto served = co_await listener_->accept();
    runtime::TaskGroup group(loop_, [](std::exception_ptr) { ADD_FAILURE(); });
    group.spawn(serve(loop_, *served, "", echo));
    co_await runtime::switch_to(loop_);
    EXPECT_EQ(group.running(), 1u);
    served->close();
    co_await group.close();
  }

  Response answer_to(Request question) {
    Response answer;
    loop_.run(ask(std::move(question), answer));
    return answer;
  }
  std::string said(std::vector<std::string> pieces, std::string already_read = "",
                   ServeOptions options = {}) {
    std::string answer;
    loop_.run(say(std::move(already_read), std::move(pieces), options, answer));
    return answer;
  }

  runtime::EventLoop loop_;
  std::unique_ptr<runtime::Network> network_ = runtime::make_network(loop_);
  std::unique_ptr<runtime::Listener> listener_ = network_->listen(Address::parse("127.0.0.1:0"));
};

TEST_F(HttpTest, CarriesARequestToTheHandlerAndItsAnswerBack) {
  Request question;
  question.method = "POST";
  question.path = "/volumes/my db?";
  question.query = "a=1&b=%20";
  question.content_type = "application/json";
  question.body = "{}";
  const Response answer = answer_to(question);
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.content_type, "text/x-echo");
  EXPECT_EQ(answer.body, "POST|/volumes/my db?|a=1&b=%20|application/json|{}");
}

TEST_F(HttpTest, CarriesTheStatus) {
  Request question;
  question.path = "/teapot";
  EXPECT_EQ(answer_to(question).status, 418);
}

TEST_F(HttpTest, CarriesMegabytesBack) {
  Request question;
  question.path = "/large";
  EXPECT_EQ(answer_to(question).body, std::string(3 << 20, 'x'));
}

TEST_F(HttpTest, TakesABodyUpToTheLimitAndNoByteMore) {
  Request question;
  question.method = "PUT";
  question.body.assign(kMaxRequestBody, 'b');
  EXPECT_EQ(answer_to(question).body, "PUT|/|||" + question.body);
  question.body += 'b';
  EXPECT_EQ(answer_to(question).status, 413);
}

TEST_F(HttpTest, AnswersAnErrorOfTheHandlerWithItsStatusAndText) {
  Request question;
  question.path = "/missing";
  const Response answer = answer_to(question);
  EXPECT_EQ(answer.status, 404);
  EXPECT_EQ(answer.body, "not_found: volume db is not there\n");
  question.path = "/broken";
  EXPECT_EQ(answer_to(question).status, 500);
}

TEST_F(HttpTest, AnswersHeadWithoutTheBody) {
  const std::string answer = said({"HEAD /x HTTP/1.1\r\nConnection: close\r\n\r\n"});
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Length: 10\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n"));
  Request question;
  question.method = "HEAD";
  EXPECT_EQ(answer_to(question).body, "");
}

TEST_F(HttpTest, ServesOneAfterAnotherOnOneConnection) {
  const std::string answer = said({"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3 HT",
                                   "TP/1.1\r\nConnection: close\r\n\r\nGET /4 HTTP/1.1\r\n\r\n"});
  EXPECT_THAT(answer, HasSubstr("GET|/1|"));
  EXPECT_THAT(answer, HasSubstr("GET|/2|"));
  EXPECT_THAT(answer, EndsWith("GET|/3|||"));
}

TEST_F(HttpTest, BeginsWithWhatHasBeenReadAlready) {
  EXPECT_THAT(said({"/1.0\r\n\r\n"}, "GET /early HTTP"), EndsWith("GET|/early|||"));
}

TEST_F(HttpTest, TakesARequestByteByByte) {
  std::vector<std::string> pieces;
  for (char c :
       std::string("POST /p HTTP/1.1\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc")) {
    pieces.emplace_back(1, c);
  }
  EXPECT_THAT(said(pieces), EndsWith("POST|/p|||abc"));
}

TEST_F(HttpTest, RefusesAChunkedBody) {
  const std::string head = "POST /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const std::string chunks :
       {"3\r\nabc\r\n0\r\n\r\n", "\r\n0\r\nabc\r\n&\r\n\r\n", "zz\r\n"}) {
    EXPECT_THAT(said({head + chunks}), StartsWith("HTTP/1.1 411 "));
  }
}

TEST_F(HttpTest, TellsAClientThatWaitsForItToGoOn) {
  const std::string answer =
      said({"POST /p HTTP/1.1\r\nConnection: close\r\nExpect: 100-continue\r\n"
            "Content-Length: 3\r\n\r\n",
            "abc"});
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"));
}

constexpr ServeOptions kImpatient{.patience = milliseconds(20)};

TEST_F(HttpTest, RefusesWhatIsMalformed) {
  const std::vector<std::string> malformed = {
      "\x01\x02garbage\r\n\r\n",
      "GET / HTTP/9.9\r\n\r\n",
      "GET /%zz HTTP/1.1\r\n\r\n",
      "GET /%00 HTTP/1.1\r\n\r\n",
      "GET http://elsewhere/ HTTP/1.1\r\n\r\n",
      "GET / HTTP/1.1\r\nno colon\r\n\r\n",
      "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
      "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
  };
  for (const std::string& text : malformed) {
    const std::string answer = said({text});
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 400 Bad Request\r\n")) << text;
    EXPECT_THAT(answer, HasSubstr("Connection: close\r\n")) << text;
  }
}

TEST_F(HttpTest, RefusesAHeaderThatIsTooLong) {
  const std::string long_line = "GET /" + std::string(kMaxHeader, 'x');
  EXPECT_THAT(said({long_line}), StartsWith("HTTP/1.1 431 "));
  const std::string many = "GET / HTTP/1.1\r\nX: " + std::string(kMaxHeader, 'x') + "\r\n\r\n";
  EXPECT_THAT(said({many}), StartsWith("HTTP/1.1 431 "));
}

TEST_F(HttpTest, RefusesABodyAnnouncedTooLargeBeforeItComes) {
  const std::string head = "POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n";
  EXPECT_THAT(said({head}), StartsWith("HTTP/1.1 413 "));
}

TEST_F(HttpTest, ClosesAConnectionThatDoesNotCompleteARequest) {
  EXPECT_THAT(said({"GET / HT"}, "", kImpatient), IsEmpty());
  EXPECT_THAT(said({}, "", kImpatient), IsEmpty());
}

TEST_F(HttpTest, AStreamClosedByItsOwnerEndsServing) {
  loop_.run(close_while_serving());
}

class ClientTest : public HttpTest {
 protected:
  // What the client makes of a server that says `answer` and closes, or says nothing more.
  Task<void> answer_with(std::string answer, bool close) {
    std::unique_ptr<Stream> stream = co_await listener_->accept();
    std::array<std::byte, 4096> ignored{};
    co_await stream->read_some(ignored);
    co_await write_text(*stream, answer);
    if (close) co_return;
    std::string rest;
    co_await read_to_end(*stream, rest);
  }
  Task<void> ask_raw(std::string answer, bool close, runtime::Duration timeout, Response& response,
                     Code& code) {
    runtime::TaskGroup group(loop_, [](std::exception_ptr) {});
    group.spawn(answer_with(std::move(answer), close));
    try {
      response = co_await request(loop_, *network_, listener_->address(), Request{}, timeout);
    } catch (const Error& error) {
      code = error.code();
    }
    co_await group.close();
  }
  Code failure_of(std::string answer, bool close, runtime::Duration timeout = kEnough) {
    Response response;
    Code code{};
    loop_.run(ask_raw(std::move(answer), close, timeout, response, code));
    return code;
  }
};

TEST_F(ClientTest, TakesAnAnswerThatEndsWithTheConnection) {
  Response response;
  Code code{};
  loop_.run(ask_raw("HTTP/1.0 200 OK\r\n\r\nto the end", true, kEnough, response, code));
  EXPECT_EQ(code, Code{});
  EXPECT_EQ(response.body, "to the end");
}

TEST_F(ClientTest, DoesNotKnowTheOutcomeOfWhatWasNotAnswered) {
  EXPECT_EQ(failure_of("", true), Code::outcome_unknown);
  EXPECT_EQ(failure_of("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", true),
            Code::outcome_unknown);
}

TEST_F(ClientTest, RefusesAnAnswerThatIsNoHttp) {
  EXPECT_EQ(failure_of("SSH-2.0-OpenSSH_9.2\r\n\r\n", false), Code::corrupt);
}

TEST_F(ClientTest, RefusesAnAnswerThatIsTooLarge) {
  EXPECT_EQ(failure_of("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", false),
            Code::too_large);
}

TEST_F(ClientTest, GivesUpWhenThereIsNoAnswerInTime) {
  EXPECT_EQ(failure_of("HTTP/1.1 200 OK\r\n", false, milliseconds(20)), Code::timeout);
}

TEST(Target, PercentCodingGoesBothWays) {
  std::string all;
  for (int c = 1; c < 256; ++c) all += static_cast<char>(c);
  EXPECT_EQ(percent_decode(percent_encode(all)), all);
  EXPECT_EQ(percent_encode("/a b%"), "/a%20b%25");
  EXPECT_EQ(percent_decode("%2f%2F"), "//");
  for (const char* wrong : {"%", "%2", "%zz", "a%2", "%00"}) {
    EXPECT_EQ(percent_decode(wrong), std::nullopt) << wrong;
  }
}

TEST(Target, FindsAValueInAQuery) {
  const std::string query = "a=1&name=x%20y+z&empty=&bare&a=2";
  EXPECT_EQ(query_value(query, "a"), "1");
  EXPECT_EQ(query_value(query, "name"), "x y z");
  EXPECT_EQ(query_value(query, "empty"), "");
  EXPECT_EQ(query_value(query, "bare"), "");
  EXPECT_EQ(query_value(query, "nam"), std::nullopt);
  EXPECT_EQ(query_value("", "a"), std::nullopt);
  EXPECT_EQ(query_value("a=%", "a"), std::nullopt);
}

}  // namespace
}  // namespace datom::http

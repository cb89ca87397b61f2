#include "rpc/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rpc/frame_reader.h"
#include "rpc/hello.h"
#include "rpc/test_service.h"
#include "rpc/test_streams.h"
#include "runtime/task_group.h"
#include "runtime/virtual_loop.h"

namespace datom::rpc {
namespace {

using runtime::Task;
using std::chrono::seconds;
using test::text;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

const std::string kAddress = "192.0.2.9:7400";

std::string encoded(const Frame& frame) {
  std::string bytes(as_text(encode_frame_header(frame)));
  bytes += frame.message.header;
  bytes += as_text(frame.message.payload.view());
  return bytes;
}

std::string hello_bytes(Hello hello) {
  return encoded(Frame{FrameKind::hello, 0, 0, text(hello.encode())});
}

std::string request_bytes(std::uint64_t id, Method method, std::string header) {
  return encoded(Frame{FrameKind::request, method, id, text(std::move(header))});
}

// A client by hand, byte by byte if need be.
class RawClient {
 public:
  RawClient(runtime::VirtualLoop& loop, runtime::Network& network) : loop_(loop) {
    loop_.run(connect(&network, &stream_));
    reader_ = std::make_unique<FrameReader>(*stream_, FrameBounds{});
  }

  // Queues the bytes; they leave as the server reads.
  void say(std::string bytes) {
    said_.push_back(std::make_unique<std::string>(std::move(bytes)));
    writing_.spawn(write(stream_.get(), said_.back().get()));
    loop_.run_ready();
  }
  // The next frame; nullopt where the server has closed.
  std::optional<Frame> hear() {
    std::optional<Frame> frame;
    loop_.run(read(reader_.get(), &frame));
    return frame;
  }
  std::string hear_text() {
    std::string text(4096, '\0');
    std::size_t count = 0;
    loop_.run(read_text(stream_.get(), &text, &count));
    return text.substr(0, count);
  }
  void hang_up() { stream_->close(); }
  ~RawClient() {
    hang_up();
    loop_.run(writing_.close());
  }

 private:
  static Task<void> connect(runtime::Network* network, std::unique_ptr<runtime::Stream>* stream) {
    *stream = co_await network->connect(runtime::Address::parse(kAddress), seconds(1));
  }
  static Task<void> write(runtime::Stream* stream, const std::string* bytes) {
    const ByteView pieces[] = {as_bytes(*bytes)};
    try {
      co_await stream->write(pieces);
    } catch (const Error&) {  // refused
    }
  }
  static Task<void> read(FrameReader* reader, std::optional<Frame>* frame) {
    try {
      *frame = co_await reader->next();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::closed);
    }
  }
  static Task<void> read_text(runtime::Stream* stream, std::string* text, std::size_t* count) {
    try {
      *count = co_await stream->read_some(std::as_writable_bytes(std::span(*text)));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::closed);
    }
  }

  runtime::VirtualLoop& loop_;
  std::unique_ptr<runtime::Stream> stream_;
  std::unique_ptr<FrameReader> reader_;
  std::vector<std::unique_ptr<std::string>> said_;
  runtime::TaskGroup writing_{loop_, [](std::exception_ptr) { FAIL(); }};
};

Task<void> answer_http(std::unique_ptr<runtime::Stream> stream, std::string read) {
  const std::string reply = "HTTP: " + read;
  const ByteView pieces[] = {as_bytes(reply)};
  co_await stream->write(pieces);
  std::string more(100, '\0');
  const std::size_t count =
      co_await stream->read_some(std::as_writable_bytes(std::span(more)));  // until closed
  EXPECT_EQ(count, 0u);
}

class ServerTest : public testing::Test {
 protected:
  ServerTest() {
    options.domain = "prod";
    options.self = "vs2";
  }
  void serve() {
    server = std::make_unique<Server>(
        std::vector<ServingLoop>{{&loop, &network, &behaviour.router}},
        network.listen(runtime::Address::parse(kAddress)), options, answer_http);
    server->start();
  }
  void TearDown() override {
    behaviour.release.set();
    loop.run(server->stop());
  }
  // A client that was let in.
  std::unique_ptr<RawClient> greeted() {
    auto client = std::make_unique<RawClient>(loop, network);
    client->say(hello_bytes({1, 0, "prod", "vs1", "vs2"}));
    EXPECT_EQ(client->hear()->kind, FrameKind::hello_reply);
    return client;
  }
  void expect_serving() {
    const auto client = greeted();
    client->say(request_bytes(1, test::kEcho, "still"));
    EXPECT_EQ(client->hear()->message.header, "vs1:still");
  }
  Error refusal(Hello hello) {
    RawClient client(loop, network);
    client.say(hello_bytes(std::move(hello)));
    const std::optional<Frame> frame = client.hear();
    if (!frame || frame->kind != FrameKind::error) return Error(Code::internal, "not refused");
    EXPECT_FALSE(client.hear().has_value()) << "not closed";
    return decode_error(frame->message.header);
  }

  runtime::VirtualLoop loop;
  test::MemoryStreams network{loop};
  test::Behaviour behaviour{loop};
  ServerOptions options;
  std::unique_ptr<Server> server;
};

TEST_F(ServerTest, AnswersTheHelloSayingWhoItIs) {
  serve();
  RawClient client(loop, network);
  client.say(hello_bytes({1, 0, "prod", "vs1", "vs2"}));
  const Hello hello = Hello::decode(client.hear()->message.header);
  EXPECT_EQ(hello.domain, "prod");
  EXPECT_EQ(hello.sender, "vs2");
  EXPECT_EQ(hello.meant, "vs1");
}

TEST_F(ServerTest, RefusesAnotherDomainServiceOrVersionSayingWhy) {
  serve();
  const Error domain = refusal({1, 0, "test", "vs1", "vs2"});
  EXPECT_EQ(domain.code(), Code::invalid_argument);
  EXPECT_THAT(domain.what(), HasSubstr("\"vs1\" belongs to domain \"test\""));
  const Error service = refusal({1, 0, "prod", "vs1", "vs3"});
  EXPECT_EQ(service.code(), Code::invalid_argument);
  EXPECT_THAT(service.what(), HasSubstr("meant for service \"vs3\""));
  EXPECT_EQ(refusal({9, 0, "prod", "vs1", "vs2"}).code(), Code::unsupported);
}

TEST_F(ServerTest, AnswersRequestsByTheirIdsAsTheyGetReady) {
  serve();
  const auto client = greeted();
  client->say(request_bytes(1, test::kHang, "first") + request_bytes(2, test::kEcho, "second") +
              request_bytes(3, test::kFail, "") + request_bytes(4, 999, ""));
  const Frame echoed = *client->hear();
  EXPECT_EQ(echoed.request_id, 2u);
  EXPECT_EQ(echoed.message.header, "vs1:second");
  const Frame failed = *client->hear();
  EXPECT_EQ(failed.request_id, 3u);
  EXPECT_EQ(failed.kind, FrameKind::error);
  EXPECT_EQ(decode_error(failed.message.header).code(), Code::not_leader);
  const Frame unknown = *client->hear();
  EXPECT_EQ(decode_error(unknown.message.header).code(), Code::unsupported);
  behaviour.release.set();
  EXPECT_EQ(client->hear()->request_id, 1u);
}

TEST_F(ServerTest, GarbageClosesItsConnectionAndNothingElse) {
  serve();
  const auto bystander = greeted();
  for (const std::string& garbage :
       {std::string("SSH-2.0-OpenSSH_9.2\r\n"), std::string(1000, '\0'),
        std::string("\xda"
                    "d"),
        hello_bytes({1, 0, "prod", "vs1", "vs2"}).replace(20, 1, "x"),
        encoded(Frame{FrameKind::hello, 0, 0, text("short")}),
        request_bytes(1, test::kEcho, "no hello before"),
        hello_bytes({1, 0, "prod", "vs1", "vs2"}) + "more at once"}) {
    RawClient client(loop, network);
    client.say(garbage);
    if (garbage.size() < 4) client.hang_up();
    std::optional<Frame> last = client.hear();
    if (last) {
      EXPECT_EQ(last->kind, FrameKind::error);
      last = client.hear();
    }
    EXPECT_FALSE(last.has_value());
  }
  bystander->say(request_bytes(1, test::kEcho, "here"));
  EXPECT_EQ(bystander->hear()->message.header, "vs1:here");
  expect_serving();
}

TEST_F(ServerTest, GarbageAfterTheHelloClosesTheConnection) {
  serve();
  const auto client = greeted();
  client->say(request_bytes(1, test::kEcho, "x").replace(48, 1, "y"));
  EXPECT_FALSE(client->hear().has_value());
  const auto second = greeted();
  second->say(encoded(Frame{FrameKind::reply, test::kEcho, 1, text("a server asks, not answers")}));
  EXPECT_FALSE(second->hear().has_value());
  expect_serving();
}

TEST_F(ServerTest, WhoSaysTooLittleIsClosed) {
  serve();
  RawClient silent(loop, network);
  RawClient slow(loop, network);
  slow.say(hello_bytes({1, 0, "prod", "vs1", "vs2"}).substr(0, 60));
  const runtime::Time begin = loop.now();
  EXPECT_FALSE(silent.hear().has_value());
  EXPECT_FALSE(slow.hear().has_value());
  EXPECT_LT(loop.now() - begin, seconds(6));
}

TEST_F(ServerTest, HandsHttpOnWithWhatWasReadAndClosesItWhenItStops) {
  serve();
  RawClient browser(loop, network);
  browser.say("GET /metrics HTTP/1.1\r\n\r\n");
  EXPECT_EQ(browser.hear_text(), "HTTP: GET /metrics HTTP/1.1\r\n\r\n");
  loop.run(server->stop());
  EXPECT_EQ(browser.hear_text(), "");
}

TEST_F(ServerTest, TakesNoMoreConnectionsThanItMay) {
  options.max_connections = 2;
  serve();
  auto first = greeted();
  const auto second = greeted();
  RawClient third(loop, network);
  EXPECT_FALSE(third.hear().has_value());
  first.reset();
  loop.run_ready();
  expect_serving();
}

TEST_F(ServerTest, ReadsNoMoreWhileTooManyRequestsAreUnderWay) {
  options.max_in_flight = 3;
  serve();
  const auto client = greeted();
  std::string requests;
  for (int i = 0; i < 10; ++i) requests += request_bytes(i, test::kHang, "");
  client->say(requests);
  EXPECT_EQ(behaviour.hanging, 3);
  behaviour.release.set();
  for (int i = 0; i < 10; ++i) EXPECT_EQ(client->hear()->request_id, static_cast<unsigned>(i));
}

TEST_F(ServerTest, ReadsNoMoreWhileRequestsOrRepliesOfASlowReaderFillItsMemory) {
  options.max_queued_bytes = 1 << 20;
  serve();
  const auto client = greeted();
  const std::string large(200 << 10, 'x');
  constexpr int kRequests = 200;
  for (int i = 0; i < kRequests; ++i) client->say(request_bytes(i, test::kHang, large));
  EXPECT_EQ(behaviour.hanging, 6) << "until 1 MiB of requests was exceeded";
  behaviour.release.set();
  loop.run_ready();
  EXPECT_LT(behaviour.hanging, 20) << "1 MiB in the stream, 1 MiB queued, a write under way";
  for (int i = 0; i < kRequests; ++i) {
    EXPECT_EQ(client->hear()->message.header.size(), large.size());
  }
  EXPECT_EQ(behaviour.hanging, kRequests);
}

TEST_F(ServerTest, AThrowingMessageHandlerHurtsNobody) {
  behaviour.router.on_message(50, [](const Peer&, Message) { throw Error(Code::corrupt, "bad"); });
  behaviour.router.on_message(51, [](const Peer&, Message) { throw std::out_of_range("worse"); });
  serve();
  const auto client = greeted();
  for (const Method method : {50, 51, 52}) {
    client->say(encoded(Frame{FrameKind::message, method, 0, text("")}));
  }
  client->say(encoded(Frame{FrameKind::message, test::kNote, 0, text("x")}));
  EXPECT_THAT(behaviour.notes, ElementsAre("vs1:x"));
}

TEST_F(ServerTest, StopWaitsForHandlersAndClosesEveryConnection) {
  serve();
  const auto client = greeted();
  RawClient stranger(loop, network);
  client->say(request_bytes(1, test::kHang, ""));
  ASSERT_EQ(behaviour.hanging, 1);
  runtime::TaskGroup stopping(loop, [](std::exception_ptr) { FAIL(); });
  stopping.spawn(server->stop());
  EXPECT_FALSE(client->hear().has_value());
  EXPECT_FALSE(stranger.hear().has_value());
  EXPECT_EQ(stopping.running(), 1u) << "the handler has not ended";
  behaviour.release.set();
  loop.run_ready();
  EXPECT_EQ(stopping.running(), 0u);
  loop.run(stopping.close());
}

}  // namespace
}  // namespace datom::rpc

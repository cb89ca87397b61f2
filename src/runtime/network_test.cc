#include "runtime/network.h"

#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <thread>
#include <vector>

#include "common/error.h"
#include "runtime/event_loop.h"
#include "runtime/socket_network.h"
#include "runtime/task_group.h"

namespace datom::runtime {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr Duration kEnough = seconds(20);

Code code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return Code::internal;
}

TEST(Address, ParsesWhatItPrints) {
  for (const char* text :
       {"192.0.2.7:7400", "[2001:db8::1]:7400", "unix:/run/a b.sock", "0.0.0.0:0"}) {
    EXPECT_EQ(Address::parse(text).to_string(), text);
  }
  EXPECT_EQ(Address::parse("[::1]:80").host, "::1");
  EXPECT_EQ(Address::parse("[::1]:80").port, 80);
  EXPECT_EQ(Address::parse("unix:/x").unix_path, "/x");
}

TEST(Address, RefusesWhatIsNoAddress) {
  using std::string_literals::operator""s;
  const std::vector<std::string> wrong = {"",
                                          ":",
                                          "192.0.2.7",
                                          "192.0.2.7:",
                                          "192.0.2.7:65536",
                                          "192.0.2.7:-1",
                                          "192.0.2.7:+1",
                                          "192.0.2.7:1x",
                                          "host:1",
                                          "::1:80",
                                          "[::1]80",
                                          "[::1:80",
                                          "[]:80",
                                          "[192.0.2.7]:1",
                                          "unix:",
                                          "127.0.0.1\0x:1"s,
                                          "unix:/a\0b"s,
                                          "unix:/" + std::string(120, 'x')};
  for (const std::string& text : wrong) {
    EXPECT_EQ(code_of([&] { Address::parse(text); }), Code::invalid_argument) << text;
  }
}

class NetworkTest : public ::testing::TestWithParam<EventLoop::Waiting> {
 protected:
  NetworkTest() {
    std::string name = (std::filesystem::temp_directory_path() / "datom-network-XXXXXX").string();
    directory_ = ::mkdtemp(name.data());
  }
  ~NetworkTest() override { std::filesystem::remove_all(directory_); }

  Address unix_address() const { return Address::parse("unix:" + directory_ + "/socket"); }

  std::string directory_;
  EventLoop loop_{GetParam()};
  std::unique_ptr<Network> network_ = make_network(loop_);
};

INSTANTIATE_TEST_SUITE_P(Every, NetworkTest,
                         ::testing::Values(EventLoop::Waiting::automatic,
                                           EventLoop::Waiting::epoll),
                         [](const auto& parameter) {
                           return parameter.param == EventLoop::Waiting::epoll ? "epoll"
                                                                               : "automatic";
                         });

struct Pair {
  std::unique_ptr<Stream> client;
  std::unique_ptr<Stream> server;
};

Task<Pair> connected_pair(Network& network, Address at) {
  std::unique_ptr<Listener> listener = network.listen(at);
  Pair pair;
  pair.client = co_await network.connect(listener->address(), kEnough);
  pair.server = co_await listener->accept();
  co_return pair;
}

Task<void> write_text(Stream& stream, std::string text) {
  const ByteView piece = as_bytes(text);
  co_await stream.write({&piece, 1});
}

Task<std::string> read_text(Stream& stream, std::size_t size) {
  std::string text(size, '\0');
  co_await read_exactly(stream, {reinterpret_cast<std::byte*>(text.data()), size});
  co_return text;
}

Task<void> exchange_words(Network& network, Address at) {
  Pair pair = co_await connected_pair(network, at);
  co_await write_text(*pair.client, "hello");
  const std::string heard = co_await read_text(*pair.server, 5);
  EXPECT_EQ(heard, "hello");
  co_await write_text(*pair.server, "and back");
  const std::string answer = co_await read_text(*pair.client, 8);
  EXPECT_EQ(answer, "and back");
  EXPECT_THAT(pair.client->peer(), HasSubstr(at.unix_path.empty() ? at.host : "unix"));
  pair.client->close();
  std::byte one{};
  const std::size_t count = co_await pair.server->read_some({&one, 1});
  EXPECT_EQ(count, 0u);
}

TEST_P(NetworkTest, CarriesBytesOverTcp) {
  loop_.run(exchange_words(*network_, Address::parse("127.0.0.1:0")));
}

TEST_P(NetworkTest, CarriesBytesOverAUnixSocket) {
  loop_.run(exchange_words(*network_, unix_address()));
}

Task<void> write_pattern(Stream& stream, std::size_t pieces, std::size_t size) {
  std::vector<std::vector<std::byte>> memory;
  std::vector<ByteView> views;
  for (std::size_t i = 0; i < pieces; ++i) {
    memory.emplace_back(i % 7 == 0 ? 0 : size, std::byte(i));
  }
  for (const auto& piece : memory) views.emplace_back(piece);
  co_await stream.write(views);
}

Task<void> write_much_while_reading(Network& network, EventLoop& loop) {
  Pair pair = co_await connected_pair(network, Address::parse("127.0.0.1:0"));
  TaskGroup group(loop, [](std::exception_ptr error) { std::rethrow_exception(error); });
  constexpr std::size_t kPieces = 300;
  constexpr std::size_t kSize = 100'003;
  group.spawn(write_pattern(*pair.client, kPieces, kSize));
  EXPECT_EQ(group.running(), 1u);  // far more than the sockets buffer
  for (std::size_t i = 0; i < kPieces; ++i) {
    if (i % 7 == 0) continue;
    const std::string piece = co_await read_text(*pair.server, kSize);
    EXPECT_EQ(piece, std::string(kSize, static_cast<char>(i)));
  }
  co_await group.close();
}

TEST_P(NetworkTest, WritesManyPiecesInOrderWhateverTheSocketTakes) {
  loop_.run(write_much_while_reading(*network_, loop_));
}

Task<void> read_until_error(Stream& stream, Code& code) {
  std::byte one{};
  try {
    co_await stream.read_some({&one, 1});
  } catch (const Error& error) {
    code = error.code();
  }
}

Task<void> write_until_error(Stream& stream, Code& code) {
  try {
    for (;;) co_await write_text(stream, std::string(1 << 20, 'x'));
  } catch (const Error& error) {
    code = error.code();
  }
}

Task<void> close_under_way(Network& network, EventLoop& loop) {
  Pair pair = co_await connected_pair(network, Address::parse("127.0.0.1:0"));
  TaskGroup group(loop, [](std::exception_ptr) {});
  Code read_code = Code::internal;
  Code write_code = Code::internal;
  group.spawn(read_until_error(*pair.client, read_code));
  group.spawn(write_until_error(*pair.client, write_code));
  co_await switch_to(loop);
  EXPECT_EQ(group.running(), 2u);
  pair.client->close();
  pair.client->close();
  EXPECT_EQ(group.running(), 2u);  // they resume through the loop, not inside close()
  co_await group.close();
  EXPECT_EQ(read_code, Code::closed);
  EXPECT_EQ(write_code, Code::closed);
  Code later = Code::internal;
  co_await write_until_error(*pair.client, later);
  EXPECT_EQ(later, Code::closed);
}

TEST_P(NetworkTest, CloseEndsReadsAndWritesUnderWay) {
  loop_.run(close_under_way(*network_, loop_));
}

Task<void> write_to_a_gone_peer(Network& network) {
  Pair pair = co_await connected_pair(network, Address::parse("127.0.0.1:0"));
  pair.server.reset();
  Code code = Code::internal;
  co_await write_until_error(*pair.client, code);
  EXPECT_EQ(code, Code::closed);
}

TEST_P(NetworkTest, WritingToAPeerThatIsGoneFailsWithClosed) {
  loop_.run(write_to_a_gone_peer(*network_));
}

Task<void> end_early(Network& network) {
  Pair pair = co_await connected_pair(network, Address::parse("127.0.0.1:0"));
  co_await write_text(*pair.client, "abc");
  pair.client.reset();
  try {
    co_await read_text(*pair.server, 4);
    ADD_FAILURE() << "read four of three bytes";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::closed);
    EXPECT_THAT(error.what(), HasSubstr("3 of 4"));
  }
}

TEST_P(NetworkTest, ReadExactlyFailsWhenTheStreamEndsFirst) {
  loop_.run(end_early(*network_));
}

Task<void> connect_expecting(Network& network, Address to, Duration timeout, Code expected) {
  try {
    co_await network.connect(to, timeout);
    ADD_FAILURE() << "connected";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), expected) << error.what();
  }
}

TEST_P(NetworkTest, ConnectingWhereNobodyListensIsUnavailable) {
  Address nobody;
  {
    std::unique_ptr<Listener> listener = network_->listen(Address::parse("127.0.0.1:0"));
    nobody = listener->address();
  }
  loop_.run(connect_expecting(*network_, nobody, kEnough, Code::unavailable));
  loop_.run(connect_expecting(*network_, unix_address(), kEnough, Code::unavailable));
}

// A raw listener whose backlog is full: the system drops further connection requests unanswered.
class DeafListener {
 public:
  DeafListener() : descriptor_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address_;
    EXPECT_EQ(::bind(descriptor_, reinterpret_cast<sockaddr*>(&address_), length), 0);
    EXPECT_EQ(::listen(descriptor_, 0), 0);
    EXPECT_EQ(::getsockname(descriptor_, reinterpret_cast<sockaddr*>(&address_), &length), 0);
    for (int i = 0; i < 4; ++i) fill();
  }
  ~DeafListener() {
    ::close(descriptor_);
    for (int client : clients_) ::close(client);
  }
  Address address() const {
    return Address{.host = "127.0.0.1", .port = ntohs(address_.sin_port), .unix_path = ""};
  }

 private:
  void fill() {
    const int client = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    clients_.push_back(client);
    [[maybe_unused]] const int pending =
        ::connect(client, reinterpret_cast<sockaddr*>(&address_), sizeof address_);
  }

  int descriptor_;
  sockaddr_in address_{};
  std::vector<int> clients_;
};

TEST_P(NetworkTest, ConnectingToOneWhoDoesNotAnswerTimesOut) {
  DeafListener deaf;
  loop_.run(
      connect_expecting(*network_, deaf.address(), std::chrono::milliseconds(20), Code::timeout));
}

TEST_P(NetworkTest, ListeningTwiceAtOneAddressSaysItIsInUse) {
  std::unique_ptr<Listener> first = network_->listen(Address::parse("127.0.0.1:0"));
  EXPECT_NE(first->address().port, 0);
  EXPECT_EQ(code_of([&] { network_->listen(first->address()); }), Code::already_exists);
  std::unique_ptr<Listener> local = network_->listen(unix_address());
  EXPECT_EQ(code_of([&] { network_->listen(unix_address()); }), Code::already_exists);
}

TEST_P(NetworkTest, AUnixListenerRemovesItsFileAtTheEnd) {
  {
    std::unique_ptr<Listener> listener = network_->listen(unix_address());
    EXPECT_TRUE(std::filesystem::exists(unix_address().unix_path));
  }
  EXPECT_FALSE(std::filesystem::exists(unix_address().unix_path));
}

TEST_P(NetworkTest, AUnixListenerLeavesAnothersFileAlone) {
  std::unique_ptr<Listener> listener = network_->listen(unix_address());
  std::filesystem::remove(unix_address().unix_path);
  std::unique_ptr<Listener> successor = network_->listen(unix_address());
  listener->close();
  EXPECT_TRUE(std::filesystem::exists(unix_address().unix_path));
}

TEST_P(NetworkTest, AUnixListenerReplacesTheFileOfOneThatDied) {
  const std::string path = unix_address().unix_path;
  sockaddr_un raw{};
  raw.sun_family = AF_UNIX;
  path.copy(raw.sun_path, sizeof raw.sun_path - 1);
  const int dead = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::bind(dead, reinterpret_cast<sockaddr*>(&raw), sizeof raw), 0);
  ::close(dead);
  ASSERT_TRUE(std::filesystem::exists(path));
  loop_.run(exchange_words(*network_, unix_address()));
}

TEST_P(NetworkTest, AUnixListenerNeverRemovesAFileThatIsNoSocket) {
  const std::string path = unix_address().unix_path;
  std::filesystem::create_directory(path);
  EXPECT_EQ(code_of([&] { network_->listen(unix_address()); }), Code::already_exists);
  EXPECT_TRUE(std::filesystem::is_directory(path));
}

Task<void> accept_until_error(Listener& listener, Code& code) {
  try {
    co_await listener.accept();
  } catch (const Error& error) {
    code = error.code();
  }
}

Task<void> close_listener_under_way(Network& network, EventLoop& loop) {
  std::unique_ptr<Listener> listener = network.listen(Address::parse("127.0.0.1:0"));
  TaskGroup group(loop, [](std::exception_ptr) {});
  Code code = Code::internal;
  group.spawn(accept_until_error(*listener, code));
  co_await switch_to(loop);
  EXPECT_EQ(group.running(), 1u);
  listener->close();
  co_await group.close();
  EXPECT_EQ(code, Code::closed);
}

TEST_P(NetworkTest, CloseEndsAnAcceptUnderWay) {
  loop_.run(close_listener_under_way(*network_, loop_));
}

// Twice as many reads begin in one turn of the loop as an io_uring takes at once.
Task<void> read_from_many(Network& network, EventLoop& loop, Address at) {
  constexpr int kPairs = 300;
  std::vector<Pair> pairs;
  for (int i = 0; i < kPairs; ++i) {
    Pair pair = co_await connected_pair(network, at);
    pairs.push_back(std::move(pair));
  }
  TaskGroup group(loop, [](std::exception_ptr error) { std::rethrow_exception(error); });
  int heard = 0;
  const auto hear = [](Stream& stream, int& count) -> Task<void> {
    const std::string text = co_await read_text(stream, 2);
    if (text == "hi") ++count;
  };
  for (Pair& pair : pairs) {
    group.spawn(hear(*pair.client, heard));
    group.spawn(hear(*pair.server, heard));
  }
  for (Pair& pair : pairs) {
    group.spawn(write_text(*pair.server, "hi"));
    group.spawn(write_text(*pair.client, "hi"));
  }
  co_await group.close();
  EXPECT_EQ(heard, 2 * kPairs);
}

TEST_P(NetworkTest, ServesMoreStreamsThanOneSystemCallTakes) {
  loop_.run(read_from_many(*network_, loop_, unix_address()));
}

Task<void> echo_once(Network& network, NativeSocket socket) {
  std::unique_ptr<Stream> stream = network.adopt(std::move(socket));
  const std::string text = co_await read_text(*stream, 4);
  co_await write_text(*stream, text + text);
}

Task<void> move_to_another_loop(Network& network, Address at) {
  Pair pair = co_await connected_pair(network, at);
  co_await write_text(*pair.client, "1234");
  NativeSocket moving = pair.server->release();
  Code code = Code::internal;
  co_await read_until_error(*pair.server, code);
  EXPECT_EQ(code, Code::closed);
  std::thread other([&moving] {
    EventLoop other_loop;
    std::unique_ptr<Network> other_network = make_network(other_loop);
    other_loop.run(echo_once(*other_network, std::move(moving)));
  });
  const std::string answer = co_await read_text(*pair.client, 8);
  EXPECT_EQ(answer, "12341234");
  other.join();
}

TEST_P(NetworkTest, AStreamMovesToAnotherLoop) {
  loop_.run(move_to_another_loop(*network_, Address::parse("127.0.0.1:0")));
  loop_.run(move_to_another_loop(*network_, unix_address()));
}

Task<void> drop_unadopted(Network& network) {
  Pair pair = co_await connected_pair(network, Address::parse("127.0.0.1:0"));
  {
    NativeSocket dropped = pair.server->release();
  }
  std::byte one{};
  const std::size_t count = co_await pair.client->read_some({&one, 1});
  EXPECT_EQ(count, 0u);
}

TEST_P(NetworkTest, ASocketThatNobodyAdoptsIsClosed) {
  loop_.run(drop_unadopted(*network_));
}

}  // namespace
}  // namespace datom::runtime

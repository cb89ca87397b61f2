// What only ZooKeeper has: a server that dies, stops or is not there, and threads of its own.
#include "coordination/zookeeper/zookeeper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "common/error.h"
#include "coordination/zookeeper/test_proxy.h"
#include "coordination/zookeeper/test_server.h"
#include "runtime/event_loop.h"
#include "runtime/task_group.h"
#include "runtime/wait.h"

// The C client forgets, and leaks, completions that are queued when it is closed
// (CloseEndsTheCallsUnderWay): known, and bounded by the calls under way.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() {
  return "leak:libzookeeper_mt.so\n";
}

namespace datom::coordination {
namespace {

using namespace std::chrono_literals;
using runtime::EventLoop;
using runtime::Task;
using ::testing::Each;
using ::testing::HasSubstr;

constexpr auto kPatience = 60s;
constexpr CreateOptions kEphemeral{true, false};
constexpr CreateOptions kSequential{false, true};
constexpr Code kNone{};

std::shared_ptr<ZooKeeperSession> open(const std::string& servers,
                                       std::chrono::milliseconds session_timeout = 3s) {
  ZooKeeperOptions options;
  options.servers = servers;
  options.session_timeout = session_timeout;
  return ZooKeeperSession::open(options);
}

template <typename T>
Task<Code> code_of(Task<T> task) {
  try {
    co_await std::move(task);
  } catch (const Error& error) {
    co_return error.code();
  }
  co_return kNone;
}

template <typename T>
Task<void> store_code(Task<T> task, Code& code) {
  const Code result = co_await code_of(std::move(task));
  code = result;
}

Task<void> wait_for_state(EventLoop& loop, Client& client, SessionState state) {
  runtime::Event changed(loop);
  const WatchHandle watch = client.watch_session([&changed](SessionState) { changed.wake_all(); });
  while (client.state() != state) co_await changed.wait();
}

class ZooKeeperTest : public ::testing::Test {
 protected:
  ~ZooKeeperTest() override {
    if (session_) session_->close();
  }
  Client& connect(const std::string& chroot = "") {
    session_ = open(server_.address() + chroot);
    client_ = session_->make_client(loop_);
    loop_.run(session_->wait_connected(loop_, kPatience));
    return *client_;
  }

  ZooKeeperServer server_;
  EventLoop loop_;
  runtime::TaskGroup calls_{loop_, [](std::exception_ptr) { FAIL(); }};
  std::shared_ptr<ZooKeeperSession> session_;
  std::unique_ptr<Client> client_;
};

TEST_F(ZooKeeperTest, SessionAndNodesSurviveTheServersDeath) {
  Client& client = connect();
  struct Test {
    static Task<void> run(EventLoop& loop, Client& of, ZooKeeperServer& server) {
      const std::int64_t id = of.session_id();
      co_await of.create("/ephemeral", "", kEphemeral);
      server.kill();
      co_await wait_for_state(loop, of, SessionState::connecting);
      EXPECT_EQ(co_await code_of(of.get("/ephemeral")), Code::unavailable);
      server.start();
      co_await wait_for_state(loop, of, SessionState::connected);
      EXPECT_EQ(of.session_id(), id);
      const std::optional<Node> node = co_await of.get("/ephemeral");
      EXPECT_TRUE(node.has_value());
      if (node) EXPECT_EQ(node->stat.ephemeral_owner, id);
    }
  };
  loop_.run(Test::run(loop_, client, server_));
}

TEST_F(ZooKeeperTest, CallsUnderWayWhenTheServerDiesMayHaveHappened) {
  Client& client = connect();
  Code codes[3] = {};
  struct Test {
    static Task<void> run(Client& of, ZooKeeperServer& server, runtime::TaskGroup& calls,
                          Code (&to)[3]) {
      co_await of.create("/a", "");
      server.pause();
      std::vector<Operation> steps = {Set{"/a", "1"}, Create{"/b", ""}};
      calls.spawn(store_code(of.create("/c", ""), to[0]));
      calls.spawn(store_code(of.multi(std::move(steps)), to[1]));
      calls.spawn(store_code(of.get("/a"), to[2]));
      server.kill();
      co_await calls.close();
    }
  };
  loop_.run(Test::run(client, server_, calls_, codes));
  EXPECT_THAT(codes, Each(Code::outcome_unknown));
}

// The server does not answer, yet its connections stay open: the session timeout decides.
TEST_F(ZooKeeperTest, ASilentServerIsGivenUpAndFoundAgain) {
  Client& client = connect();
  Code code{};
  struct Test {
    static Task<void> run(EventLoop& loop, Client& of, ZooKeeperServer& server, Code& to) {
      server.pause();
      to = co_await code_of(of.create("/a", ""));
      co_await wait_for_state(loop, of, SessionState::connecting);
      server.resume();
      co_await wait_for_state(loop, of, SessionState::connected);
      co_await of.sync();
    }
  };
  loop_.run(Test::run(loop_, client, server_, code));
  EXPECT_EQ(code, Code::outcome_unknown);
}

TEST_F(ZooKeeperTest, CloseEndsTheCallsUnderWay) {
  Client& client = connect();
  constexpr int kCalls = 50;
  std::vector<Code> codes(kCalls);
  WatchHandle watch;
  int heard = 0;
  struct Test {
    static Task<void> watch(Client& of, WatchHandle& to, int& count) {
      co_await of.get("/a", [&count] { ++count; }, to);
    }
    static Task<void> call(Client& of, runtime::TaskGroup& calls, std::vector<Code>& to) {
      for (int i = 0; i < kCalls; ++i) calls.spawn(store_code(of.create("/a", ""), to[i]));
      co_return;
    }
  };
  loop_.run(Test::watch(client, watch, heard));
  server_.pause();
  loop_.run(Test::call(client, calls_, codes));
  session_->close();
  loop_.run(calls_.close());
  EXPECT_THAT(codes, Each(Code::outcome_unknown));
  EXPECT_EQ(heard, 0);
  EXPECT_EQ(client.state(), SessionState::expired);

  Code late{};
  loop_.run(store_code(client.get("/a"), late));
  EXPECT_EQ(late, Code::session_expired);
  loop_.run(store_code(session_->wait_connected(loop_, kPatience), late = {}));
  EXPECT_EQ(late, Code::session_expired);
  // A watch may outlive all it came from.
  client_.reset();
  session_.reset();
  watch.reset();
}

TEST_F(ZooKeeperTest, CloseWaitsForTheAnswersUnderWay) {
  Client& client = connect();
  constexpr int kCalls = 50;
  std::vector<Code> codes(kCalls, Code::internal);
  struct Test {
    static Task<void> call(Client& of, runtime::TaskGroup& calls, std::vector<Code>& to) {
      for (Code& code : to) calls.spawn(store_code(of.create("/s-", "", kSequential), code));
      co_return;
    }
  };
  loop_.run(Test::call(client, calls_, codes));
  session_->close();
  loop_.run(calls_.close());
  EXPECT_THAT(codes, Each(kNone));
}

TEST_F(ZooKeeperTest, EnsurePathMakesTheChroot) {
  Client& client = connect("/prod");
  struct Test {
    static Task<void> run(Client& of) {
      EXPECT_EQ(co_await code_of(of.create("/datom", "")), Code::not_found);
      EXPECT_EQ(co_await of.get("/"), std::nullopt);
      co_await ensure_path(of, "/datom/domains");
    }
    static Task<void> look(Client& of) {
      const std::optional<Node> node = co_await of.get("/prod/datom/domains");
      EXPECT_TRUE(node.has_value());
    }
  };
  loop_.run(Test::run(client));
  session_->close();
  loop_.run(Test::look(connect()));
}

TEST_F(ZooKeeperTest, ServesClientsOnSeveralThreads) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 50;
  connect();
  struct Test {
    static Task<void> create(Client& client) { co_await client.create("/n", "0"); }
    // Each adds one kRounds times, by compare and set, waiting for a change after each conflict.
    static Task<void> count(EventLoop& loop, Client& client) {
      runtime::Event changed(loop);
      for (int i = 0; i < kRounds;) {
        WatchHandle watch;
        changed.clear();
        const std::optional<Node> node = co_await client.get(
            "/n",
            [&] {
              EXPECT_TRUE(loop.is_current());
              changed.set();
            },
            watch);
        EXPECT_TRUE(loop.is_current());
        const std::string next = std::to_string(std::stoi(node->data) + 1);
        const Code code = co_await code_of(client.set("/n", next, node->stat.version));
        EXPECT_TRUE(code == kNone || code == Code::conflict);
        if (code == kNone) ++i;
        co_await changed.wait();
      }
    }
    static Task<void> expect(Client& client, std::string data) {
      const std::optional<Node> node = co_await client.get("/n");
      EXPECT_EQ(node->data, data);
    }
  };
  loop_.run(Test::create(*client_));
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([this] {
      EventLoop loop;
      const std::unique_ptr<Client> client = session_->make_client(loop);
      loop.run(Test::count(loop, *client));
    });
  }
  for (std::thread& thread : threads) thread.join();
  loop_.run(Test::expect(*client_, std::to_string(kThreads * kRounds)));
}

TEST(ZooKeeperSession, SaysWhichServersDoNotAnswer) {
  const int listener = listen_on_loopback();
  const std::string servers = "127.0.0.1:" + std::to_string(port_of(listener));
  ::close(listener);
  const auto session = open(servers);
  EventLoop loop;
  const auto client = session->make_client(loop);
  try {
    loop.run(session->wait_connected(loop, 20ms));
    ADD_FAILURE() << "connected to nobody";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::timeout);
    EXPECT_THAT(error.what(), HasSubstr(servers));
  }
  Code code{};
  loop.run(store_code(client->create("/a", ""), code));
  EXPECT_EQ(code, Code::unavailable);
  EXPECT_EQ(client->session_id(), 0);
}

TEST(ZooKeeperSession, RefusesMalformedOptions) {
  EXPECT_THROW(open("nonsense:port"), Error);
  EXPECT_THROW(open(""), Error);
  EXPECT_THROW(open("127.0.0.1:2181", 0ms), Error);
}

}  // namespace
}  // namespace datom::coordination

// The whole room over real sockets, with two loops on two threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "coordination/memory/memory.h"
#include "rpc/connection_cache.h"
#include "rpc/server.h"
#include "rpc/test_service.h"
#include "runtime/event_loop.h"
#include "runtime/socket_network.h"
#include "runtime/task_group.h"
#include "runtime/virtual_loop.h"

namespace datom::rpc {
namespace {

using runtime::EventLoop;
using runtime::Task;
using std::chrono::seconds;
using test::text;

constexpr Method kWhere = 60;

Task<Message> where(std::string loop) {
  co_return text(loop);
}

// A loop, what it serves, and a cache on it.
struct Side {
  Side(const std::string& name_) : name(name_) {
    behaviour.router.on_call(
        kWhere, [this](Peer, Message) { return where(loop.is_current() ? name : "another loop"); });
  }
  void open_cache(std::uint32_t shard) {
    ConnectionCacheOptions options;
    options.domain = "prod";
    options.self = name;
    options.shard = shard;
    cache = std::make_unique<ConnectionCache>(loop, *network, *session, options);
  }

  const std::string name;
  EventLoop loop;
  std::unique_ptr<runtime::Network> network = make_network(loop);
  test::Behaviour behaviour{loop};
  coordination::MemoryTree tree;
  std::unique_ptr<coordination::Client> session = tree.open_session(loop);
  std::unique_ptr<ConnectionCache> cache;
};

Task<void> read_http(std::unique_ptr<runtime::Stream> stream, std::string read) {
  const ByteView pieces[] = {as_bytes(read)};
  co_await stream->write(pieces);
}

// What happens, in order, on the loop of `near`. `far` runs on another thread.
class SocketTest : public testing::Test {
 protected:
  SocketTest() : far_thread([this] { far.loop.run(); }) {
    ServerOptions options;
    options.domain = "prod";
    options.self = "vs2";
    std::vector<ServingLoop> loops{{&near.loop, near.network.get(), &near.behaviour.router},
                                   {&far.loop, far.network.get(), &far.behaviour.router}};
    auto listener = near.network->listen(runtime::Address{"127.0.0.1", 0, ""});
    address = listener->address();
    service = "@" + address.to_string();
    server = std::make_unique<Server>(std::move(loops), std::move(listener), options, read_http);
    near.open_cache(1);
    far.open_cache(0);
  }
  void TearDown() override {
    far.loop.stop();
    far_thread.join();
  }
  // Runs `body` while the service is up.
  void run(Task<void> body) { near.loop.run(within(std::move(body))); }

  Task<void> within(Task<void> body) {
    server->start();
    co_await std::move(body);
    near.behaviour.release.set();
    co_await switch_to(far.loop);
    far.behaviour.release.set();
    co_await far.cache->stop();
    co_await switch_to(near.loop);
    co_await near.cache->stop();
    co_await server->stop();
  }

  Side near{"near"};
  Side far{"far"};
  std::thread far_thread;
  runtime::Address address;
  std::string service;
  std::unique_ptr<Server> server;
};

Task<std::string> ask(ConnectionCache* cache, std::string service, Method method) {
  Message reply = co_await cache->call(service, method, text("x"), seconds(60));
  co_return reply.header;
}

Task<void> ask_both(Side* near, Side* far, std::string service) {
  const std::string answered = co_await ask(near->cache.get(), service, kWhere);
  EXPECT_EQ(answered, "far");
  co_await switch_to(far->loop);
  const std::string answered_to_far = co_await ask(far->cache.get(), service, kWhere);
  EXPECT_EQ(answered_to_far, "near");
  co_await switch_to(near->loop);
}

TEST_F(SocketTest, AConnectionIsServedOnTheLoopItAsksFor) {
  run(ask_both(&near, &far, service));
}

Buffer filled(std::size_t size, std::uint64_t seed) {
  Buffer buffer = Buffer::allocate(size);
  runtime::SeededRandom random(seed);
  for (std::size_t i = 0; i + 8 <= size; i += 8) store_le(buffer.mutable_data() + i, random.next());
  return buffer;
}

Task<void> echo_rounds(ConnectionCache* cache, std::string service, std::size_t size, int rounds,
                       std::uint64_t seed) {
  for (int round = 0; round < rounds; ++round) {
    const Buffer payload = filled(size, seed + round);
    Message request{std::to_string(seed), payload};
    Message reply = co_await cache->call(service, test::kEcho, std::move(request), seconds(60));
    EXPECT_TRUE(reply.header.ends_with(":" + std::to_string(seed))) << reply.header;
    EXPECT_TRUE(std::ranges::equal(reply.payload.view(), payload.view()));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(reply.payload.data()) % 4096, 0u);
  }
}

Task<void> load(Side* side, std::string service, std::size_t size, int callers, int rounds) {
  co_await switch_to(side->loop);
  runtime::TaskGroup tasks(side->loop, [](std::exception_ptr) { ADD_FAILURE(); });
  for (int i = 0; i < callers; ++i) {
    tasks.spawn(echo_rounds(side->cache.get(), service, size, rounds, i * 1000));
  }
  co_await tasks.close();
}

Task<void> load_from_both(Side* near, Side* far, std::string service, std::size_t size, int callers,
                          int rounds) {
  runtime::TaskGroup tasks(near->loop, [](std::exception_ptr) { ADD_FAILURE(); });
  tasks.spawn(load(near, service, size, callers, rounds));
  co_await load(far, service, size, callers, rounds);
  co_await switch_to(near->loop);
  co_await tasks.close();
}

TEST_F(SocketTest, ManyCallsAtOnceFromTwoLoopsGetTheirOwnReplies) {
  run(load_from_both(&near, &far, service, 4096, 200, 10));
}

TEST_F(SocketTest, LargePayloadsComeThroughWhole) {
  run(load_from_both(&near, &far, service, kMaxPayloadBytes, 3, 2));
}

// Speaks nonsense until it is hung up on, or has said it all.
Task<void> babble(Side* side, runtime::Address address, std::string nonsense) {
  std::unique_ptr<runtime::Stream> stream = co_await side->network->connect(address, seconds(10));
  const ByteView pieces[] = {as_bytes(nonsense)};
  try {
    co_await stream->write(pieces);
    std::string reply(4096, '\0');
    for (;;) {
      const std::size_t count =
          co_await stream->read_some(std::as_writable_bytes(std::span(reply)));
      if (count == 0) break;
    }
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::closed);
  }
}

Task<void> babble_then_ask(Side* near, runtime::Address address, std::string service) {
  runtime::SeededRandom random(7);
  for (int i = 0; i < 200; ++i) {
    std::string nonsense(4 + random.below(10000), '\0');
    for (char& byte : nonsense) byte = static_cast<char>(random.next());
    if (i % 2 == 0)
      nonsense.replace(0, 4,
                       "\xda"
                       "dtm");
    co_await babble(near, address, nonsense);
  }
  const std::string answered = co_await ask(near->cache.get(), service, test::kEcho);
  EXPECT_EQ(answered, "near:x");
}

TEST_F(SocketTest, GarbageOnThePortLeavesTheServerServing) {
  run(babble_then_ask(&near, address, service));
}

Task<void> browse(Side* near, runtime::Address address) {
  std::unique_ptr<runtime::Stream> stream = co_await near->network->connect(address, seconds(10));
  const std::string request = "GET / HTTP/1.1\r\n\r\n";
  const ByteView pieces[] = {as_bytes(request)};
  co_await stream->write(pieces);
  std::string reply(request.size(), '\0');
  co_await read_exactly(*stream, std::as_writable_bytes(std::span(reply)));
  EXPECT_EQ(reply, request);
}

TEST_F(SocketTest, HttpIsServedOnTheSamePort) {
  run(browse(&near, address));
}

struct Tally {
  int replies = 0;
  int not_executed = 0;
  int unknown = 0;
  bool enough = false;
};

Task<void> call_until_told(Side* side, std::string service, Tally* tally) {
  while (!tally->enough) {
    try {
      Message request{"", Buffer::zeroed(16 << 10)};
      co_await side->cache->call(service, test::kEcho, std::move(request), seconds(60));
      ++tally->replies;
    } catch (const Error& error) {
      ++(error.code() == Code::outcome_unknown ? tally->unknown : tally->not_executed);
      EXPECT_THAT(error.code(), testing::AnyOf(Code::outcome_unknown, Code::unavailable));
    }
  }
}

Task<void> stop_under_load(Side* side, Server* server, std::string service, Tally* tally) {
  runtime::TaskGroup tasks(side->loop, [](std::exception_ptr) { ADD_FAILURE(); });
  for (int i = 0; i < 50; ++i) tasks.spawn(call_until_told(side, service, tally));
  while (tally->replies < 1000) co_await switch_to(side->loop);
  co_await server->stop();
  while (tally->not_executed < 100) co_await switch_to(side->loop);
  tally->enough = true;
  co_await tasks.close();
}

TEST_F(SocketTest, AServerStopsUnderLoadAndEveryCallEnds) {
  Tally tally;
  run(stop_under_load(&near, server.get(), service, &tally));
  EXPECT_GE(tally.replies, 1000);
  EXPECT_LE(tally.unknown, 50);
}

}  // namespace
}  // namespace datom::rpc

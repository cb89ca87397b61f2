#include "rpc/memory_network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "runtime/task_group.h"
#include "runtime/virtual_loop.h"
#include "runtime/wait.h"

namespace datom::rpc {
namespace {

using runtime::Task;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr Method kEcho = 1;
constexpr Method kFail = 2;
constexpr Method kHang = 3;
constexpr Method kNote = 4;

Message text(std::string header) {
  return Message{std::move(header), {}};
}

Task<Message> echo(Peer peer, Message request) {
  request.header = peer.service + ":" + request.header;
  co_return request;
}

Task<Message> fail(Peer, Message) {
  throw Error(Code::not_leader, "vs2 leads");
  co_return Message{};
}

Task<Message> hang(runtime::Event* release) {
  co_await release->wait();
  co_return text("late");
}

// A service with the methods above.
struct Service {
  Service(runtime::Loop& loop, MemoryNetwork& network, const std::string& name) : release(loop) {
    router.on_call(kEcho, echo);
    router.on_call(kFail, fail);
    router.on_call(kHang, [this](Peer, Message) { return hang(&release); });
    router.on_message(kNote, [this](const Peer& peer, Message message) {
      notes.push_back(peer.service + ":" + message.header);
    });
    endpoint = network.join(name, router);
    watch = endpoint->watch_peers([this](const std::string& peer) { news.push_back("+" + peer); },
                                  [this](const std::string& peer) { news.push_back("-" + peer); });
  }

  runtime::Event release;
  Router router;
  std::vector<std::string> notes;
  std::vector<std::string> news;
  std::unique_ptr<MemoryEndpoint> endpoint;
  std::unique_ptr<Caller::Subscription> watch;
};

struct Outcome {
  std::optional<std::string> reply;
  std::optional<Error> error;

  Code code() const { return error ? error->code() : Code{}; }
};

Task<void> call_into(Caller* caller, std::string service, Method method, Outcome* outcome) {
  try {
    Message reply = co_await caller->call(service, method, text("x"), seconds(1));
    outcome->reply = reply.header;
  } catch (const Error& error) {
    outcome->error = error;
  }
}

class MemoryNetworkTest : public testing::Test {
 protected:
  void TearDown() override {
    tasks.spawn(stop());
    loop.advance(seconds(10));
    ASSERT_EQ(tasks.running(), 0u);
  }
  Task<void> stop() {
    a.release.set();
    b.release.set();
    co_await a.endpoint->stop();
    co_await b.endpoint->stop();
  }

  void start(Outcome& outcome, Method method) {
    tasks.spawn(call_into(a.endpoint.get(), "b", method, &outcome));
  }
  Outcome call(Method method) {
    Outcome outcome;
    loop.run(call_into(a.endpoint.get(), "b", method, &outcome));
    return outcome;
  }

  runtime::VirtualLoop loop;
  MemoryNetwork network{loop};
  Service a{loop, network, "a"};
  Service b{loop, network, "b"};
  runtime::TaskGroup tasks{loop, [](std::exception_ptr) { FAIL(); }};
};

TEST_F(MemoryNetworkTest, CarriesRequestAndReplyAndTellsWhoAsks) {
  EXPECT_EQ(call(kEcho).reply, "a:x");
  EXPECT_THAT(a.news, ElementsAre("+b"));
  EXPECT_THAT(b.news, IsEmpty());
}

TEST_F(MemoryNetworkTest, CarriesTheHandlersErrorWithCodeAndMessage) {
  const Outcome outcome = call(kFail);
  EXPECT_EQ(outcome.code(), Code::not_leader);
  EXPECT_STREQ(outcome.error->what(), "vs2 leads");
}

TEST_F(MemoryNetworkTest, AnUnknownMethodIsUnsupported) {
  EXPECT_EQ(call(77).code(), Code::unsupported);
}

TEST_F(MemoryNetworkTest, MessagesArriveInTheOrderTheyWereSent) {
  for (int i = 0; i < 5; ++i) a.endpoint->send("b", kNote, text(std::to_string(i)));
  EXPECT_THAT(b.notes, IsEmpty()) << "delivered from inside send()";
  loop.run_ready();
  EXPECT_THAT(b.notes, ElementsAre("a:0", "a:1", "a:2", "a:3", "a:4"));
}

TEST_F(MemoryNetworkTest, ACallEndsAtItsDeadlineAndTheLateReplyIsIgnored) {
  const runtime::Time begin = loop.now();
  EXPECT_EQ(call(kHang).code(), Code::timeout);
  EXPECT_EQ(loop.now() - begin, seconds(1));
  b.release.set();
  loop.run_ready();
  EXPECT_EQ(call(kEcho).reply, "a:x");
}

TEST_F(MemoryNetworkTest, AServiceThatDiesLeavesItsCallersWithAnUnknownOutcome) {
  Outcome outcome;
  start(outcome, kHang);
  loop.run_ready();
  network.take_down("b");
  loop.run_ready();
  EXPECT_EQ(outcome.code(), Code::outcome_unknown);
  EXPECT_THAT(a.news, ElementsAre("+b", "-b"));
  EXPECT_EQ(call(kEcho).code(), Code::unavailable);
  EXPECT_THAT(a.news, ElementsAre("+b", "-b", "-b"));
}

TEST_F(MemoryNetworkTest, WhatADeadServiceHadSentIsLost) {
  a.endpoint->send("b", kNote, text("x"));
  network.take_down("a");
  loop.run_ready();
  EXPECT_THAT(b.notes, IsEmpty());
}

TEST_F(MemoryNetworkTest, OwnCallsOfADeadServiceEndAndItHearsNothingAnyMore) {
  Outcome outcome;
  start(outcome, kHang);
  network.take_down("a");
  network.take_down("b");
  loop.run_ready();
  EXPECT_EQ(outcome.code(), Code::closed);
  EXPECT_THAT(a.news, IsEmpty()) << "even what was on its way to the watcher";
}

TEST_F(MemoryNetworkTest, ANewIncarnationIsReachedUnderTheSameName) {
  EXPECT_EQ(call(kEcho).reply, "a:x");
  a.endpoint->send("b", kNote, text("to the old one"));
  network.take_down("b");
  Service again(loop, network, "b");
  a.endpoint->send("b", kNote, text("to the new one"));
  EXPECT_EQ(call(kEcho).reply, "a:x");
  EXPECT_THAT(b.notes, IsEmpty());
  EXPECT_THAT(again.notes, ElementsAre("a:to the new one"));
  EXPECT_THAT(a.news, ElementsAre("+b", "-b", "+b"));
  loop.run(again.endpoint->stop());
}

TEST_F(MemoryNetworkTest, ACutLosesSilentlyAndHealsBothWays) {
  EXPECT_EQ(call(kEcho).reply, "a:x");
  a.endpoint->send("b", kNote, text("on its way"));
  network.cut("a", "b");
  EXPECT_EQ(call(kEcho).code(), Code::timeout);
  EXPECT_THAT(b.notes, IsEmpty());
  EXPECT_THAT(a.news, ElementsAre("+b"));
  network.heal("b", "a");
  EXPECT_EQ(call(kEcho).reply, "a:x");
}

TEST_F(MemoryNetworkTest, AOneWayCutLosesTheReplyOnly) {
  EXPECT_EQ(call(kEcho).reply, "a:x");
  network.cut_one_way("b", "a");
  a.endpoint->send("b", kNote, text("x"));
  b.endpoint->send("a", kNote, text("x"));
  EXPECT_EQ(call(kEcho).code(), Code::timeout);
  EXPECT_THAT(b.notes, ElementsAre("a:x"));
  EXPECT_THAT(a.notes, IsEmpty());
}

TEST_F(MemoryNetworkTest, NoConnectionIsMadeAcrossACutSoACallCertainlyHadNoEffect) {
  network.cut_one_way("b", "a");
  const Outcome outcome = call(kEcho);
  EXPECT_EQ(outcome.code(), Code::unavailable);
  EXPECT_THAT(a.news, IsEmpty());
}

TEST_F(MemoryNetworkTest, ADeathBehindACutIsNotHeardOf) {
  EXPECT_EQ(call(kEcho).reply, "a:x");
  network.cut("a", "b");
  network.take_down("b");
  loop.run_ready();
  EXPECT_THAT(a.news, ElementsAre("+b"));
  network.heal("a", "b");
  EXPECT_EQ(call(kEcho).code(), Code::unavailable);
  EXPECT_THAT(a.news, ElementsAre("+b", "-b"));
}

TEST_F(MemoryNetworkTest, RefusesWhatIsOverTheBounds) {
  const auto send = [this](Message message) { a.endpoint->send("b", kNote, std::move(message)); };
  EXPECT_THROW(send(text(std::string(kMaxHeaderBytes + 1, 'x'))), Error);
  EXPECT_THROW(send(Message{"", Buffer::zeroed(kMaxPayloadBytes + 1)}), Error);
  send(Message{std::string(kMaxHeaderBytes, 'x'), Buffer::zeroed(kMaxPayloadBytes)});
  loop.run_ready();
  EXPECT_EQ(b.notes.size(), 1u);
}

TEST_F(MemoryNetworkTest, AWatcherMayEndItsWatchFromInside) {
  std::unique_ptr<Caller::Subscription> second;
  int heard = 0;
  second = a.endpoint->watch_peers(
      [&](const std::string&) {
        ++heard;
        second.reset();
      },
      {});
  EXPECT_EQ(call(kEcho).reply, "a:x");
  network.take_down("b");
  loop.run_ready();
  EXPECT_EQ(heard, 1);
}

}  // namespace
}  // namespace datom::rpc

#include "rpc/connection_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordination/memory/memory.h"
#include "protocol/records.h"
#include "rpc/frame_reader.h"
#include "rpc/hello.h"
#include "rpc/server.h"
#include "rpc/test_service.h"
#include "rpc/test_streams.h"
#include "runtime/task_group.h"
#include "runtime/virtual_loop.h"

namespace datom::rpc {
namespace {

using runtime::Task;
using std::chrono::milliseconds;
using std::chrono::seconds;
using test::Outcome;
using test::text;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

const std::string kOne = "192.0.2.9:7400";
const std::string kOther = "192.0.2.10:7400";

// A service that listens at an address until it is stopped.
struct Served {
  Served(runtime::VirtualLoop& loop_, runtime::Network& network, const std::string& address,
         const std::string& name = "vs2", const std::string& domain = "prod")
      : loop(loop_), behaviour(loop_) {
    ServerOptions options;
    options.domain = domain;
    options.self = name;
    server = std::make_unique<Server>(
        std::vector<ServingLoop>{{&loop, &network, &behaviour.router}},
        network.listen(runtime::Address::parse(address)), options, Server::OnHttp());
    server->start();
  }
  ~Served() { stop(); }
  void stop() {
    behaviour.release.set();
    loop.run(server->stop());
  }

  runtime::VirtualLoop& loop;
  test::Behaviour behaviour;
  std::unique_ptr<Server> server;
};

Task<void> publish(coordination::Client* client, std::string service, std::string address) {
  const std::string path = protocol::paths::service_instance("prod", service);
  co_await ensure_path(*client, protocol::paths::service("prod", service));
  const Instance instance{address, "", "an epoch of " + address, 1};
  bool exists = false;
  try {
    co_await client->create(path, instance.to_json());
  } catch (const Error& error) {
    exists = error.code() == Code::already_exists;
  }
  if (exists) co_await client->set(path, instance.to_json());
}

Task<void> retract(coordination::Client* client, std::string service) {
  co_await client->remove(protocol::paths::service_instance("prod", service));
}

class ConnectionCacheTest : public testing::Test {
 protected:
  ConnectionCacheTest() {
    options.domain = "prod";
    options.self = "vs1";
  }
  void SetUp() override { open(); }
  void open() {
    cache = std::make_unique<ConnectionCache>(loop, network, *session, options);
    watch = cache->watch_peers([this](const std::string& peer) { news.push_back("+" + peer); },
                               [this](const std::string& peer) { news.push_back("-" + peer); });
  }
  void close() {
    watch.reset();
    loop.run(cache->stop());
    cache.reset();
  }
  void TearDown() override {
    if (cache) close();
    loop.run(tasks.close());
  }

  void publish(const std::string& address) {
    loop.run(rpc::publish(admin.get(), "vs2", address));
    loop.run_ready();
  }
  void retract() {
    loop.run(rpc::retract(admin.get(), "vs2"));
    loop.run_ready();
  }
  // Begins a call and lets happen what needs no time.
  void start(Outcome& outcome, Method method, Message request = text("x")) {
    tasks.spawn(call_into(cache.get(), "vs2", method, std::move(request), seconds(10), &outcome));
    loop.run_ready();
  }
  Outcome call(const std::string& service, Method method, Message request = text("x")) {
    Outcome outcome;
    loop.run(call_into(cache.get(), service, method, std::move(request), seconds(10), &outcome));
    return outcome;
  }
  Outcome call(Method method) { return call("vs2", method); }
  void note(const std::string& header) { cache->send("vs2", test::kNote, text(header)); }

  runtime::VirtualLoop loop;
  test::MemoryStreams network{loop};
  coordination::MemoryTree tree;
  std::unique_ptr<coordination::Client> admin = tree.open_session(loop);
  std::unique_ptr<coordination::Client> session = tree.open_session(loop);
  ConnectionCacheOptions options;
  std::vector<std::string> news;
  std::unique_ptr<ConnectionCache> cache;
  std::unique_ptr<Caller::Subscription> watch;
  runtime::TaskGroup tasks{loop, [](std::exception_ptr) { FAIL(); }};
};

TEST_F(ConnectionCacheTest, FindsAServiceAndKeepsTheConnection) {
  Served service(loop, network, kOne);
  publish(kOne);
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  EXPECT_EQ(network.connects, 1);
  EXPECT_THAT(news, ElementsAre("+vs2"));
}

TEST_F(ConnectionCacheTest, CarriesPayloadsAndErrors) {
  Served service(loop, network, kOne);
  publish(kOne);
  Message request{std::string(kMaxHeaderBytes - 4, 'h'), Buffer::zeroed(kMaxPayloadBytes)};
  request.payload.mutable_data()[kMaxPayloadBytes - 1] = std::byte{7};
  const Outcome echoed = call("vs2", test::kEcho, std::move(request));
  ASSERT_TRUE(echoed.reply.has_value()) << echoed.message();
  EXPECT_EQ(echoed.reply->header.size(), kMaxHeaderBytes);
  EXPECT_EQ(echoed.reply->payload.size(), kMaxPayloadBytes);
  EXPECT_EQ(echoed.reply->payload.data()[kMaxPayloadBytes - 1], std::byte{7});

  const Outcome failed = call(test::kFail);
  EXPECT_EQ(failed.code(), Code::not_leader);
  EXPECT_EQ(failed.message(), "vs2 leads");
  EXPECT_EQ(call(999).code(), Code::unsupported);
}

TEST_F(ConnectionCacheTest, WhatIsOverTheBoundsIsRefusedOnBothSides) {
  Served service(loop, network, kOne);
  publish(kOne);
  EXPECT_EQ(call("vs2", test::kEcho, text(std::string(kMaxHeaderBytes + 1, 'x'))).code(),
            Code::too_large);
  EXPECT_EQ(call("vs2", test::kEcho, text(std::string(kMaxHeaderBytes, 'x'))).code(),
            Code::too_large)
      << "the reply would be over the bound";
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
}

TEST_F(ConnectionCacheTest, TellsNotRegisteredFromNotUp) {
  const Outcome unknown = call("vs9", test::kEcho);
  EXPECT_EQ(unknown.code(), Code::not_found);
  EXPECT_THAT(unknown.message(), HasSubstr("vs9"));
  publish(kOne);
  retract();
  EXPECT_EQ(call(test::kEcho).code(), Code::unavailable);
  EXPECT_EQ(call("No Name", test::kEcho).code(), Code::invalid_argument);
}

TEST_F(ConnectionCacheTest, AServiceIsFoundAsSoonAsItIsUp) {
  publish(kOne);
  retract();
  EXPECT_EQ(call(test::kEcho).code(), Code::unavailable);
  EXPECT_EQ(call(test::kEcho).code(), Code::unavailable);
  EXPECT_EQ(network.connects, 0);
  Served service(loop, network, kOne);
  publish(kOne);
  const runtime::Time begin = loop.now();
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  EXPECT_LT(loop.now() - begin, milliseconds(1)) << "waited for no pause";
}

TEST_F(ConnectionCacheTest, ARefusedConnectionIsUnavailableAndDown) {
  publish(kOne);
  const runtime::Time begin = loop.now();
  const Outcome refused = call(test::kEcho);
  EXPECT_EQ(refused.code(), Code::unavailable);
  EXPECT_THAT(refused.message(), HasSubstr(kOne));
  EXPECT_LT(loop.now() - begin, milliseconds(1)) << "it is not known at once";
  loop.run_ready();
  EXPECT_THAT(news, ElementsAre("-vs2"));
}

TEST_F(ConnectionCacheTest, TriesAgainOnDemandWithABoundedPause) {
  publish(kOne);
  note("into the void");
  loop.advance(seconds(10));
  EXPECT_EQ(network.connects, 1) << "nobody demands it";
  for (int i = 0; i < 1000; ++i) {
    note("into the void");
    loop.advance(milliseconds(10));
  }
  EXPECT_GT(network.connects, 10000 / 170);
  EXPECT_LT(network.connects, 10000 / 140);
  Served service(loop, network, kOne);
  const runtime::Time begin = loop.now();
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  EXPECT_LE(loop.now() - begin, milliseconds(200));
}

TEST_F(ConnectionCacheTest, ABrokenConnectionLeavesTheOutcomeUnknownAndIsMadeAnew) {
  Served service(loop, network, kOne);
  publish(kOne);
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  Outcome outcome;
  start(outcome, test::kHang);
  ASSERT_EQ(service.behaviour.hanging, 1);
  network.break_connections(kOne);
  loop.run_ready();
  EXPECT_EQ(outcome.code(), Code::outcome_unknown);
  EXPECT_THAT(news, ElementsAre("+vs2", "-vs2"));
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  EXPECT_THAT(news, ElementsAre("+vs2", "-vs2", "+vs2"));
}

TEST_F(ConnectionCacheTest, AServiceThatClosesIsDownAtOnceEvenIfNobodyCalls) {
  Served service(loop, network, kOne);
  publish(kOne);
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  service.stop();
  loop.run_ready();
  EXPECT_THAT(news, ElementsAre("+vs2", "-vs2"));
}

TEST_F(ConnectionCacheTest, ACallEndsAtItsDeadlineAndALateReplyIsIgnored) {
  Served service(loop, network, kOne);
  publish(kOne);
  const runtime::Time begin = loop.now();
  EXPECT_EQ(call(test::kHang).code(), Code::timeout);
  EXPECT_EQ(loop.now() - begin, seconds(10));
  service.behaviour.release.set();
  loop.run_ready();
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  EXPECT_EQ(network.connects, 1);
}

// A peer by hand: takes a connection, answers the hello after `delay`, then reads one frame if it
// is given somewhere to leave it, and nothing more.
Task<void> greet_late(runtime::Loop* loop, runtime::Listener* listener, runtime::Duration delay,
                      std::unique_ptr<runtime::Stream>* kept, Frame* first) {
  *kept = co_await listener->accept();
  FrameReader reader(**kept, kHelloBounds);
  std::optional<Frame> hello = co_await reader.next();
  EXPECT_TRUE(hello.has_value());
  runtime::Timer timer(*loop);
  co_await timer.sleep_for(delay);
  const Frame reply{FrameKind::hello_reply, 0, 0, text(Hello{1, 0, "prod", "vs2", "vs1"}.encode())};
  const EncodedFrameHeader frame_header = encode_frame_header(reply);
  const ByteView pieces[] = {frame_header, as_bytes(reply.message.header)};
  co_await (*kept)->write(pieces);
  if (first == nullptr) co_return;
  std::optional<Frame> frame = co_await reader.next();
  if (frame) *first = *frame;
}

TEST_F(ConnectionCacheTest, ACallThatFoundNoConnectionInTimeWasNotSentAndNeverIs) {
  close();
  options.connect_timeout = seconds(20);
  open();
  publish(kOne);
  const auto listener = network.listen(runtime::Address::parse(kOne));
  std::unique_ptr<runtime::Stream> peer;
  Frame first;
  tasks.spawn(greet_late(&loop, listener.get(), seconds(11), &peer, &first));
  Outcome early;
  Outcome later;
  start(early, test::kEcho, text("early"));
  loop.advance(seconds(10));
  EXPECT_EQ(early.code(), Code::unavailable);
  start(later, test::kEcho, text("later"));
  loop.advance(seconds(2));
  EXPECT_EQ(first.message.header, "later");
  loop.advance(seconds(10));
  EXPECT_EQ(later.code(), Code::timeout);
}

TEST_F(ConnectionCacheTest, AnotherDomainOrServiceAtThatAddressIsUnavailableSayingWhy) {
  {
    Served service(loop, network, kOne, "vs2", "test");
    publish(kOne);
    const Outcome refused = call(test::kEcho);
    EXPECT_EQ(refused.code(), Code::unavailable);
    EXPECT_THAT(refused.message(),
                HasSubstr("\"vs1\" belongs to domain \"prod\", but \"vs2\" to domain \"test\""));
  }
  Served service(loop, network, kOne, "vs3");
  const Outcome refused = call(test::kEcho);
  EXPECT_EQ(refused.code(), Code::unavailable);
  EXPECT_THAT(refused.message(), HasSubstr("meant for service \"vs2\", but this is service"));
  EXPECT_THAT(news, Not(testing::Contains("+vs2")));
}

TEST_F(ConnectionCacheTest, SomethingElseAtThatAddressIsUnavailable) {
  publish(kOne);
  const auto listener = network.listen(runtime::Address::parse(kOne));
  const Outcome silent = call(test::kEcho);
  EXPECT_EQ(silent.code(), Code::unavailable);
  EXPECT_THAT(silent.message(), HasSubstr("does not answer the hello"));
}

TEST_F(ConnectionCacheTest, MovesToTheAddressThatCoordinationReports) {
  Served old_one(loop, network, kOne);
  Served new_one(loop, network, kOther);
  publish(kOne);
  Outcome outcome;
  start(outcome, test::kHang);
  loop.advance(milliseconds(1));
  ASSERT_EQ(old_one.behaviour.hanging, 1);
  publish(kOther);
  EXPECT_EQ(outcome.code(), Code::outcome_unknown);
  note("x");
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  EXPECT_THAT(new_one.behaviour.notes, ElementsAre("vs1:x"));
  EXPECT_THAT(old_one.behaviour.notes, IsEmpty());
  EXPECT_THAT(news, ElementsAre("+vs2", "-vs2", "+vs2"));
}

TEST_F(ConnectionCacheTest, WhatWaitsForAConnectionMovesAlong) {
  publish(kOne);
  network.black_holes = {kOne};
  Outcome outcome;
  start(outcome, test::kEcho);
  note("waiting");
  loop.advance(milliseconds(100));
  Served new_one(loop, network, kOther);
  publish(kOther);
  loop.advance(milliseconds(1));
  EXPECT_EQ(outcome.header(), "vs1:x");
  EXPECT_THAT(new_one.behaviour.notes, ElementsAre("vs1:waiting"));
  loop.advance(seconds(10));  // the attempt at the old address ends and disturbs nobody
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  EXPECT_EQ(network.connects, 2);
}

TEST_F(ConnectionCacheTest, ADepartureFailsWhatIsUnderWay) {
  Served service(loop, network, kOne);
  publish(kOne);
  Outcome sent;
  start(sent, test::kHang);
  loop.advance(milliseconds(1));
  ASSERT_EQ(service.behaviour.hanging, 1);
  retract();
  EXPECT_EQ(sent.code(), Code::outcome_unknown);
  EXPECT_THAT(news, ElementsAre("+vs2", "-vs2"));
  EXPECT_EQ(call(test::kEcho).code(), Code::unavailable);
  EXPECT_EQ(network.connects, 1);
}

TEST_F(ConnectionCacheTest, ADepartureFailsWhatWaitsForAConnection) {
  publish(kOne);
  network.black_holes = {kOne};
  Outcome waiting;
  start(waiting, test::kEcho);
  loop.advance(milliseconds(100));
  retract();
  EXPECT_EQ(waiting.code(), Code::unavailable);
}

TEST_F(ConnectionCacheTest, AKnownAddressServesWhileCoordinationIsAway) {
  Served service(loop, network, kOne);
  publish(kOne);
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  tree.disconnect(session->session_id());
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  network.break_connections(kOne);
  loop.run_ready();
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  EXPECT_EQ(network.connects, 2);
  const Outcome never_known = call("vs3", test::kEcho);
  EXPECT_EQ(never_known.code(), Code::unavailable);
  EXPECT_THAT(never_known.message(), HasSubstr("coordination cannot say"));
}

TEST_F(ConnectionCacheTest, AKnownAddressServesEvenAfterTheSessionExpired) {
  Served service(loop, network, kOne);
  publish(kOne);
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  tree.expire(session->session_id());
  loop.run_ready();
  network.break_connections(kOne);
  loop.run_ready();
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
}

TEST_F(ConnectionCacheTest, LearnsWhatChangedWhileCoordinationWasAway) {
  Served old_one(loop, network, kOne);
  Served new_one(loop, network, kOther);
  publish(kOne);
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  tree.disconnect(session->session_id());
  publish(kOther);
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  EXPECT_EQ(network.connects, 1) << "nobody could tell it";
  tree.reconnect(session->session_id());
  loop.run_ready();
  note("x");
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  EXPECT_THAT(new_one.behaviour.notes, ElementsAre("vs1:x"));
}

Task<void> watch_instance(coordination::Client* client, coordination::OnChange on_change,
                          coordination::WatchHandle* handle) {
  const std::string path = protocol::paths::service_instance("prod", "vs2");
  std::optional<coordination::Node> node =
      co_await client->get(path, std::move(on_change), *handle);
  EXPECT_TRUE(node.has_value());
}

TEST_F(ConnectionCacheTest, AsksAgainWhenCoordinationIsBackIfItLeftBeforeItCouldSay) {
  Served old_one(loop, network, kOne);
  Served new_one(loop, network, kOther);
  publish(kOne);
  coordination::WatchHandle first_to_hear;
  const auto leave = [this] { tree.disconnect(session->session_id()); };
  loop.run(watch_instance(session.get(), leave, &first_to_hear));
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  publish(kOther);
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  EXPECT_EQ(network.connects, 1) << "it could not ask for the new address";
  tree.reconnect(session->session_id());
  loop.run_ready();
  EXPECT_THAT(news, ElementsAre("+vs2", "-vs2"));
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  EXPECT_EQ(network.connects, 2);
}

TEST_F(ConnectionCacheTest, AddressesNeedNoCoordination) {
  Served service(loop, network, kOne, "config");
  tree.disconnect(session->session_id());
  EXPECT_EQ(call("@" + kOne, test::kEcho).header(), "vs1:x");
  EXPECT_EQ(call("@nonsense", test::kEcho).code(), Code::invalid_argument);
}

TEST_F(ConnectionCacheTest, MessagesArriveInTheOrderTheyWereSent) {
  Served service(loop, network, kOne);
  publish(kOne);
  std::vector<std::string> expected;
  for (int i = 0; i < 3000; ++i) {
    note(std::to_string(i));  // some before there is a connection, some after
    expected.push_back("vs1:" + std::to_string(i));
    if (i % 100 == 99) loop.advance(std::chrono::microseconds(20));
  }
  loop.advance(milliseconds(1));
  EXPECT_EQ(service.behaviour.notes, expected);
}

TEST_F(ConnectionCacheTest, WhatIsQueuedForAPeerIsBounded) {
  close();
  options.max_queued_bytes = 100 << 10;
  open();
  publish(kOne);
  network.black_holes = {kOne};
  for (int i = 0; i < 1000; ++i) note(std::string(1000, 'x'));
  EXPECT_EQ(call("vs2", test::kEcho, text(std::string(1000, 'x'))).code(), Code::too_large);
  network.black_holes.clear();
  publish(kOther);
  Served service(loop, network, kOther);
  loop.advance(milliseconds(1));
  // 1048 bytes each on the wire.
  EXPECT_EQ(service.behaviour.notes.size(), (100 << 10) / 1048u);
}

TEST_F(ConnectionCacheTest, APeerThatDoesNotReadCostsBoundedMemoryAndHurtsNobodyElse) {
  close();
  options.max_queued_bytes = 8 << 20;
  open();
  publish(kOne);
  const auto listener = network.listen(runtime::Address::parse(kOne));
  std::unique_ptr<runtime::Stream> frozen;
  tasks.spawn(greet_late(&loop, listener.get(), milliseconds(1), &frozen, nullptr));
  const Buffer payload = Buffer::zeroed(1 << 20);
  Outcome first;
  start(first, test::kEcho);
  for (int i = 0; i < 100; ++i) {
    cache->send("vs2", test::kNote, Message{"", payload});
    loop.advance(milliseconds(1));
  }
  Served other(loop, network, kOther, "vs3");
  EXPECT_EQ(call("vs2", test::kEcho, Message{"", payload}).code(), Code::too_large);
  EXPECT_EQ(call("@" + kOther, test::kEcho).header(), "vs1:x");
  // What is queued behind it and not sent certainly had no effect.
  Outcome behind;
  start(behind, test::kEcho);
  loop.advance(seconds(11));
  EXPECT_EQ(first.code(), Code::timeout);
  EXPECT_EQ(behind.code(), Code::unavailable);
}

TEST_F(ConnectionCacheTest, RequestsUnderWayAreBounded) {
  close();
  options.max_in_flight = 2;
  open();
  Served service(loop, network, kOne);
  publish(kOne);
  Outcome first;
  Outcome second;
  start(first, test::kHang);
  start(second, test::kHang);
  EXPECT_EQ(call(test::kEcho).code(), Code::too_large);
  loop.advance(milliseconds(1));
  service.behaviour.release.set();
  loop.run_ready();
  EXPECT_EQ(first.header(), "x");
  EXPECT_EQ(second.header(), "x");
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
}

TEST_F(ConnectionCacheTest, StopFailsWhatIsUnderWayAndWhatComesAfter) {
  Served service(loop, network, kOne);
  publish(kOne);
  Outcome sent;
  Outcome waiting;
  start(sent, test::kHang);
  loop.advance(milliseconds(1));
  tasks.spawn(call_into(cache.get(), "@" + kOther, test::kEcho, text("x"), seconds(10), &waiting));
  loop.run(cache->stop());
  EXPECT_EQ(sent.code(), Code::closed);
  EXPECT_EQ(waiting.code(), Code::closed);
  EXPECT_EQ(call(test::kEcho).code(), Code::closed);
  EXPECT_EQ(call("vs7", test::kEcho).code(), Code::closed);
  note("ignored");
}

TEST_F(ConnectionCacheTest, AWatcherMayCallAndUnwatchFromInside) {
  Served service(loop, network, kOne);
  publish(kOne);
  Outcome outcome;
  std::unique_ptr<Caller::Subscription> once;
  once = cache->watch_peers(
      [&](const std::string& peer) {
        tasks.spawn(
            call_into(cache.get(), peer, test::kEcho, text("inside"), seconds(1), &outcome));
        once.reset();
      },
      {});
  EXPECT_EQ(call(test::kEcho).header(), "vs1:x");
  loop.advance(milliseconds(1));
  EXPECT_EQ(outcome.header(), "vs1:inside");
}

TEST(Instance, ComesThroughJson) {
  const Instance instance{"192.0.2.7:7400", "192.0.2.7:10809", "an epoch", 4711};
  const Instance found = Instance::from_json(instance.to_json());
  EXPECT_EQ(found.address, instance.address);
  EXPECT_EQ(found.nbd_address, instance.nbd_address);
  EXPECT_EQ(found.epoch, instance.epoch);
  EXPECT_EQ(found.pid, 4711);
}

TEST(Instance, NamesWhatIsWrong) {
  const auto complaint = [](const std::string& json) -> std::string {
    try {
      Instance::from_json(json);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::corrupt);
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(complaint("{"), HasSubstr("not JSON"));
  EXPECT_THAT(complaint("[]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(complaint("{}"), HasSubstr("no field \"address\""));
  EXPECT_THAT(complaint(R"({"address": 7})"), HasSubstr("\"address\""));
  EXPECT_THAT(complaint(R"({"address": "a", "nbd_address": "", "epoch": "e", "pid": "1"})"),
              HasSubstr("\"pid\""));
  EXPECT_EQ(complaint(R"({"address": "a", "nbd_address": "", "epoch": "e", "pid": 1, "later": 2})"),
            "");
}

}  // namespace
}  // namespace datom::rpc

#include "nbd/server.h"

#include <gmock/gmock.h>

#include "nbd/testing/virtual_server.h"

namespace datom::nbd::testing {
namespace {

using ::testing::SizeIs;

TEST(ServerTest, TurnsAwayMoreClientsThanItMayHave) {
  ServerOptions options;
  options.max_connections = 2;
  VirtualServer server(options);
  TestClient first = server.connect();
  TestClient second = server.connect();
  TestClient third = server.connect();
  EXPECT_TRUE(third.peer->closed);
  first.greet();
  first.ask(Option::abort);
  TestClient fourth = server.connect();
  fourth.greet();
  EXPECT_THAT(fourth.ask(Option::list), SizeIs(3));
}

TEST(ServerTest, StopEndsClientsInEveryPhase) {
  VirtualServer server;
  TestClient silent = server.connect();
  TestClient greeted = server.connect();
  greeted.greet();
  TestClient haggling = server.connect();
  haggling.greet();
  haggling.peer->send(Encoder().u64(kOptionMagic).view());
  TestClient attached = server.connect();
  attached.attach("db");
  TestClient half = server.connect();
  half.attach("db");
  half.peer->send(Encoder().u32(kRequestMagic).view());
  server.loop.run_ready();
  server.stop();
  for (const TestClient* client : {&silent, &greeted, &haggling, &attached, &half}) {
    EXPECT_TRUE(client->peer->closed);
  }
  EXPECT_EQ(server.control.closed, 2u);
}

TEST(ServerTest, StopEndsAClientThatIsAboutToBeAttached) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  client.peer->send(TestClient::option(7, as_text(TestClient::info_request("db").view())).view());
  server.stop();
  EXPECT_TRUE(client.peer->closed);
  EXPECT_EQ(server.control.opened, server.control.closed);
}

TEST(ServerTest, StopEndsAClientThatDoesNotTakeTheAnswerToGo) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  client.peer->limit_writes(3);
  client.send(TestClient::option(7, as_text(TestClient::info_request("db").view())));
  EXPECT_EQ(server.control.opened, 1u);
  server.stop();
  EXPECT_TRUE(client.peer->closed);
  EXPECT_EQ(server.control.closed, 1u);
}

TEST(ServerTest, AClientThatDoesNotTakeTheAnswerToGoTimesOut) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  client.peer->limit_writes(3);
  client.send(TestClient::option(7, as_text(TestClient::info_request("db").view())));
  server.loop.advance(std::chrono::seconds(31));
  EXPECT_TRUE(client.peer->closed);
  EXPECT_EQ(server.control.closed, 1u);
}

}  // namespace
}  // namespace datom::nbd::testing

#include "nbd/transmission.h"

#include <gmock/gmock.h>

#include "nbd/testing/virtual_server.h"

namespace datom::nbd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::uint32_t kEperm = 1;
constexpr std::uint32_t kEio = 5;
constexpr std::uint32_t kEinval = 22;
constexpr std::uint32_t kEnospc = 28;
constexpr std::uint32_t kEnotsup = 95;
constexpr std::uint32_t kEshutdown = 108;

std::string stored(const VirtualServer& server, std::uint64_t offset, std::size_t size) {
  std::string text(size, '?');
  server.volume->read(offset, std::as_writable_bytes(std::span(text)));
  return text;
}

// Each of these with simple and with structured replies.
class Transmission : public ::testing::TestWithParam<bool> {
 protected:
  Transmission() : client(server.connect()) { client.attach("db", GetParam()); }

  VirtualServer server;
  TestClient client;
};
INSTANTIATE_TEST_SUITE_P(Replies, Transmission, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Structured" : "Simple"; });

TEST_P(Transmission, WritesAndReadsBackAtAnyAlignment) {
  EXPECT_EQ(client.call(Command::write, 4095, 6, 0, "abcdef").error, 0u);
  EXPECT_EQ(stored(server, 4094, 8), std::string("\0abcdef\0", 8));
  const Answer answer = client.call(Command::read, 4096, 4);
  EXPECT_EQ(answer.data, "bcde");
  EXPECT_EQ(answer.structured, GetParam());
  if (GetParam()) EXPECT_EQ(client.chunk_offset, 4096u);
}

TEST_P(Transmission, WriteTakesFua) {
  EXPECT_EQ(client.call(Command::write, 0, 1, kFua, "x").error, 0u);
  EXPECT_EQ(stored(server, 0, 1), "x");
}

TEST_P(Transmission, FlushReachesTheExport) {
  EXPECT_EQ(client.call(Command::flush, 0, 0).error, 0u);
  EXPECT_EQ(client.call(Command::flush, 0, 0, kFua).error, 0u);
  EXPECT_EQ(server.control.flushed, 2u);
}

TEST_P(Transmission, TrimGivesBlocksBack) {
  client.call(Command::write, 0, 8192, 0, std::string(8192, 'x'));
  EXPECT_EQ(client.call(Command::trim, 0, 4096, kFua).error, 0u);
  EXPECT_EQ(stored(server, 0, 4096), std::string(4096, '\0'));
  EXPECT_TRUE(server.volume->status(0, 1, 1).front().hole);
}

TEST_P(Transmission, WriteZeroesKeepsSpaceWhenAsked) {
  client.call(Command::write, 0, 12288, 0, std::string(12288, 'x'));
  EXPECT_EQ(client.call(Command::write_zeroes, 0, 4096, kFua | kNoHole).error, 0u);
  EXPECT_EQ(client.call(Command::write_zeroes, 4096, 4096, kFastZero).error, 0u);
  EXPECT_EQ(stored(server, 0, 8192), std::string(8192, '\0'));
  EXPECT_FALSE(server.volume->status(0, 1, 1).front().hole);
  EXPECT_TRUE(server.volume->status(4096, 1, 1).front().hole);
  EXPECT_EQ(client.call(Command::write_zeroes, 8192, 4096, kFastZero | kNoHole).error, kEnotsup);
  EXPECT_EQ(stored(server, 8192, 4096), std::string(4096, 'x')) << "a refusal changes nothing";
}

TEST_P(Transmission, NothingIsAFineLength) {
  for (const Command command :
       {Command::read, Command::write, Command::trim, Command::write_zeroes}) {
    EXPECT_EQ(client.call(command, kVolumeSize, 0).error, 0u);
  }
  EXPECT_EQ(server.control.started, 0u);
}

TEST_P(Transmission, RefusesWhatIsOutOfRange) {
  EXPECT_EQ(client.call(Command::read, kVolumeSize - 1, 2).error, kEinval);
  EXPECT_EQ(client.call(Command::trim, UINT64_MAX, 1).error, kEinval);
  EXPECT_EQ(client.call(Command::write_zeroes, kVolumeSize, 1).error, kEnospc);
  const Answer answer = client.call(Command::write, kVolumeSize - 1, 2, 0, "xy");
  EXPECT_EQ(answer.error, kEnospc);
  EXPECT_EQ(answer.structured, GetParam());
  if (GetParam()) EXPECT_THAT(answer.data, HasSubstr("beyond the end"));
  EXPECT_EQ(client.call(Command::read, 0, 1).error, 0u) << "the payload was not taken for requests";
}

TEST_P(Transmission, RefusesUnknownCommandsAndFlags) {
  EXPECT_EQ(client.call(Command{5}, 0, 4096).error, kEinval);
  EXPECT_EQ(client.call(Command{77}, 0, 0).error, kEinval);
  EXPECT_EQ(client.call(Command::write, 0, 3, 1 << 9, "abc").error, kEinval);
  EXPECT_EQ(client.call(Command::flush, 0, 0).error, 0u);
  EXPECT_EQ(stored(server, 0, 1), std::string(1, '\0'));
}

TEST_P(Transmission, DropsThePayloadOfAWriteThatIsTooLarge) {
  const std::uint32_t size = kMaxRequestBytes + 1;
  EXPECT_EQ(client.call(Command::write, 0, size, 0, std::string(size, 'x')).error, kEinval);
  EXPECT_EQ(client.call(Command::read, 0, kMaxRequestBytes + 1).error, kEinval);
  EXPECT_EQ(client.call(Command::read, 0, 1).data, std::string(1, '\0'));
}

TEST_P(Transmission, AWriteOfAbsurdSizeEndsTheConnection) {
  client.command(Command::write, 1, 0, UINT32_MAX, 0, "begin");
  EXPECT_TRUE(client.peer->closed);
  EXPECT_THAT(client.answers(), IsEmpty());
}

TEST_P(Transmission, ErrorsOfTheExportHaveTheirNumber) {
  const struct {
    Code code;
    std::uint32_t error;
  } cases[] = {{Code::permission_denied, kEperm},
               {Code::no_space, kEnospc},
               {Code::corrupt, kEio},
               {Code::invalid_argument, kEinval},
               {Code::closed, kEshutdown}};
  for (const auto& one : cases) {
    server.control.failure = Error(one.code, "block 7 is lost");
    for (const Command command : {Command::read, Command::trim, Command::write_zeroes}) {
      const Answer answer = client.call(command, 0, 4096);
      EXPECT_EQ(answer.error, one.error);
      if (GetParam()) EXPECT_EQ(answer.data, "block 7 is lost");
    }
    EXPECT_EQ(client.call(Command::write, 0, 1, 0, "x").error, one.error);
    EXPECT_EQ(client.call(Command::flush, 0, 0).error, one.error);
  }
}

TEST_P(Transmission, RepliesCarryTheCookieOfTheirRequest) {
  server.control.hold();
  client.command(Command::flush, 0xdeadbeefcafef00d, 0, 0);
  client.command(Command::read, 0, kVolumeSize, 1);  // refused at once
  EXPECT_EQ(client.answers().front().cookie, 0u);
  server.control.let_go();
  server.loop.run_ready();
  EXPECT_EQ(client.answers().front().cookie, 0xdeadbeefcafef00du);
}

TEST_P(Transmission, RequestsOverlapAndTheirRepliesLeaveTogether) {
  server.control.hold();
  Encoder burst;
  for (int i = 0; i < 100; ++i) {
    burst.text(as_text(
        TestClient::request(1, i, 4096 * i, 4096, 0, std::string(4096, 'a' + i % 26)).view()));
  }
  client.send(burst);
  EXPECT_EQ(server.control.running, 100u);
  const std::size_t writes = client.peer->writes;
  server.control.let_go();
  server.loop.run_ready();
  EXPECT_THAT(client.answers(), SizeIs(100));
  EXPECT_LE(client.peer->writes - writes, 3u);
  EXPECT_EQ(stored(server, 4096 * 99, 2), std::string(2, 'a' + 99 % 26));
}

TEST_P(Transmission, DisconnectFinishesWhatIsUnderWay) {
  server.control.hold();
  client.command(Command::write, 7, 0, 3, 0, "abc");
  client.command(Command::disconnect, 8, 0, 0);
  EXPECT_FALSE(client.peer->closed);
  EXPECT_EQ(server.control.closed, 0u);
  server.control.let_go();
  server.loop.run_ready();
  const std::vector<Answer> answers = client.answers();
  ASSERT_THAT(answers, SizeIs(1));
  EXPECT_EQ(answers[0].cookie, 7u);
  EXPECT_TRUE(client.peer->closed);
  EXPECT_EQ(server.control.closed, 1u);
}

TEST_P(Transmission, NothingIsTakenAfterDisconnect) {
  Encoder burst;
  burst.text(as_text(TestClient::request(2, 1, 0, 0).view()));
  burst.text(as_text(TestClient::request(1, 2, 0, 1, 0, "x").view()));
  client.send(burst);
  EXPECT_TRUE(client.peer->closed);
  EXPECT_EQ(stored(server, 0, 1), std::string(1, '\0'));
}

TEST_P(Transmission, ABadMagicNumberEndsTheConnectionAfterTheRepliesDue) {
  server.control.hold();
  client.command(Command::flush, 7, 0, 0);
  client.send(Encoder().zeros(kRequestBytes));
  server.control.let_go();
  server.loop.run_ready();
  EXPECT_THAT(client.answers(), SizeIs(1));
  EXPECT_TRUE(client.peer->closed);
}

TEST_P(Transmission, AVanishedClientEndsItsOperations) {
  for (const bool reset : {false, true}) {
    TestClient other = server.connect();
    other.attach("db", GetParam());
    server.control.hold();
    other.command(Command::write, 7, 0, 3, 0, "abc");
    other.command(Command::read, 8, 0, 4096);
    const std::size_t closed = server.control.closed;
    reset ? other.peer->reset() : other.peer->finish();
    server.loop.run_ready();
    EXPECT_EQ(server.control.closed, closed + 1);
    EXPECT_EQ(server.control.running, 0u);
    EXPECT_THAT(other.answers(), IsEmpty());
    server.control.let_go();
    EXPECT_EQ(client.call(Command::flush, 0, 0).error, 0u) << "others are not disturbed";
  }
}

TEST_P(Transmission, VanishingAtAnyByteOfAWriteChangesNothing) {
  const Encoder write = TestClient::request(1, 1, 0, 8, 0, "abcdefgh");
  for (std::size_t size = 0; size < write.size(); ++size) {
    TestClient other = server.connect();
    other.attach("db", GetParam());
    other.peer->send(write.view().first(size));
    other.peer->finish();
    server.loop.run_ready();
    EXPECT_TRUE(other.peer->closed);
    EXPECT_THAT(other.answers(), IsEmpty());
  }
  EXPECT_EQ(stored(server, 0, 8), std::string(8, '\0'));
  EXPECT_EQ(server.control.opened, server.control.closed + 1);
}

TEST_P(Transmission, StopAnswersWhatIsUnderWayAndTakesNothingMore) {
  server.control.hold();
  client.command(Command::write, 1, 0, 3, 0, "abc");
  client.peer->send(TestClient::request(1, 2, 0, 100, 0, "only a part").view());
  server.loop.run_ready();
  server.loop.post([&] { server.control.let_go(); });
  const runtime::Time begun = server.loop.now();
  server.stop();
  EXPECT_EQ(server.loop.now(), begun) << "the half request is not waited for";
  const std::vector<Answer> answers = client.answers();
  ASSERT_THAT(answers, SizeIs(1));
  EXPECT_EQ(answers[0].cookie, 1u);
  EXPECT_EQ(answers[0].error, 0u);
  EXPECT_TRUE(client.peer->closed);
  EXPECT_EQ(stored(server, 0, 3), "abc");
}

TEST_P(Transmission, StopDoesNotWaitForEver) {
  server.control.hold();
  client.command(Command::write, 1, 0, 3, 0, "abc");
  TestClient deaf = server.connect();
  deaf.attach("db", GetParam());
  deaf.peer->limit_writes(5);
  deaf.command(Command::read, 2, 0, kVolumeSize);
  const runtime::Time begun = server.loop.now();
  server.stop();
  EXPECT_EQ(server.loop.now() - begun, ServerOptions().stop_timeout);
  EXPECT_TRUE(client.peer->closed);
  EXPECT_TRUE(deaf.peer->closed);
}

TEST(TransmissionStructured, DontFragmentGivesOneChunk) {
  VirtualServer server;
  TestClient client = server.connect();
  client.attach("db");
  client.call(Command::write, 4096, 4, 0, "data");
  const Answer answer = client.call(Command::read, 0, 65536, kDontFragment);
  EXPECT_EQ(answer.data.size(), 65536u);
  EXPECT_EQ(answer.data.substr(4096, 4), "data");
}

std::vector<std::pair<std::uint32_t, std::uint32_t>> extents(const Answer& answer) {
  EXPECT_EQ(answer.type, kChunkBlockStatus);
  Received data(answer.data);
  EXPECT_EQ(data.u32(), kBaseAllocationId);
  std::vector<std::pair<std::uint32_t, std::uint32_t>> found;
  while (!data.empty()) {
    const std::uint32_t length = data.u32();
    found.emplace_back(length, data.u32());
  }
  return found;
}

TEST(TransmissionStructured, BlockStatusTellsDataZerosAndHoles) {
  VirtualServer server;
  TestClient client = server.connect();
  client.attach("db");
  client.call(Command::write, 4096, 4, 0, "data");
  client.call(Command::write_zeroes, 8192, 4096, kNoHole);
  EXPECT_THAT(
      extents(client.call(Command::block_status, 0, 16384)),
      ElementsAre(std::pair(4096, 3), std::pair(4096, 0), std::pair(4096, 2), std::pair(4096, 3)));
  EXPECT_THAT(extents(client.call(Command::block_status, 5000, 10000, kRequestOne)),
              ElementsAre(std::pair(3192, 0)));
  EXPECT_THAT(extents(client.call(Command::block_status, 0, kVolumeSize, kRequestOne | kFua)),
              ElementsAre(std::pair(4096, 3)));
}

TEST(TransmissionStructured, BlockStatusIsRefusedBeyondTheEndAndForNothing) {
  VirtualServer server;
  TestClient client = server.connect();
  client.attach("db");
  EXPECT_EQ(client.call(Command::block_status, kVolumeSize, 1).error, kEinval);
  EXPECT_EQ(client.call(Command::block_status, 0, 0).error, kEinval);
}

TEST(TransmissionStructured, AReadOnlyExportRefusesChanges) {
  VirtualServer server;
  TestClient client = server.connect();
  client.attach("archive");
  EXPECT_EQ(client.call(Command::write, 0, 3, 0, "abc").error, kEperm);
  EXPECT_EQ(client.call(Command::trim, 0, 4096).error, kEperm);
  EXPECT_EQ(client.call(Command::write_zeroes, 0, 4096).error, kEperm);
  EXPECT_EQ(client.call(Command::read, 0, 3).data, std::string(3, '\0'));
  EXPECT_EQ(client.call(Command::flush, 0, 0).error, 0u);
}

TEST(TransmissionBounds, NoMoreRequestsAreReadThanMayBeInFlight) {
  ServerOptions options;
  options.max_in_flight_requests = 8;
  VirtualServer server(options);
  TestClient client = server.connect();
  client.attach("db");
  server.control.hold();
  for (int i = 0; i < 50; ++i) client.command(Command::read, i, 0, 512);
  EXPECT_EQ(server.control.running, 8u);
  server.control.let_go();
  server.loop.run_ready();
  EXPECT_THAT(client.answers(), SizeIs(50));
  EXPECT_EQ(server.control.most_running, 8u);
}

TEST(TransmissionBounds, NoMoreBytesAreReadThanMayBeInFlight) {
  ServerOptions options;
  options.max_in_flight_bytes = 10000;
  VirtualServer server(options);
  TestClient client = server.connect();
  client.attach("db");
  server.control.hold();
  for (int i = 0; i < 20; ++i) {
    i % 2 == 0 ? client.command(Command::read, i, 0, 4096)
               : client.command(Command::write, i, 0, 4096, 0, std::string(4096, 'x'));
  }
  EXPECT_EQ(server.control.running, 2u);
  server.control.let_go();
  server.loop.run_ready();
  EXPECT_THAT(client.answers(), SizeIs(20));
  EXPECT_LE(server.control.most_running, 2u);
}

TEST(TransmissionBounds, ALoneRequestMayExceedTheBytes) {
  ServerOptions options;
  options.max_in_flight_bytes = 10000;
  VirtualServer server(options);
  TestClient client = server.connect();
  client.attach("db");
  EXPECT_EQ(client.call(Command::read, 0, 100000).data.size(), 100000u);
}

TEST(TransmissionBounds, AClientThatTakesNoRepliesIsNotRead) {
  ServerOptions options;
  options.max_in_flight_requests = 8;
  VirtualServer server(options);
  TestClient client = server.connect();
  client.attach("db");
  client.peer->limit_writes(0);
  for (int i = 0; i < 50; ++i) client.command(Command::read, i, 0, 512);
  for (int i = 0; i < 50; ++i) client.command(Command{99}, i, 0, 0);
  EXPECT_LE(server.control.started, 8u);
  client.peer->limit_writes(1 << 20);
  server.loop.run_ready();
  EXPECT_THAT(client.answers(), SizeIs(100));
}

TEST(TransmissionBounds, AClientMayVanishWhileItIsNotRead) {
  ServerOptions options;
  options.max_in_flight_requests = 1;
  VirtualServer server(options);
  TestClient client = server.connect();
  client.attach("db");
  server.control.hold();
  client.command(Command::flush, 1, 0, 0);
  client.command(Command::flush, 2, 0, 0);
  server.control.let_go();
  client.peer->reset();
  server.loop.run_ready();
  EXPECT_EQ(server.control.closed, 1u);
}

// Whatever comes after the handshake, the server neither breaks nor hangs.
TEST(TransmissionGarbage, IsSurvived) {
  runtime::SeededRandom random(42);
  for (int round = 0; round < 300; ++round) {
    VirtualServer server;
    TestClient client = server.connect();
    client.attach("db", round % 2 == 0);
    Encoder garbage;
    for (int i = 0; i < 20; ++i) {
      if (random.below(20) == 0) garbage.u32(static_cast<std::uint32_t>(random.next()));
      const auto length = static_cast<std::uint32_t>(
          random.below(4) == 0 ? random.next() : random.below(2 * kVolumeSize) >> random.below(20));
      garbage.text(as_text(TestClient::request(static_cast<std::uint16_t>(random.below(10)), i,
                                               random.next() >> (40 + random.below(24)), length,
                                               static_cast<std::uint16_t>(random.below(32)))
                               .view()));
      garbage.zeros(random.below(3) * length % 10000);
    }
    client.send(garbage);
    client.peer->finish();
    server.loop.run_ready();
    EXPECT_TRUE(client.peer->closed);
    EXPECT_EQ(server.control.closed, 1u);
  }
}

}  // namespace
}  // namespace datom::nbd::testing

#include "nbd/handshake.h"

#include <gmock/gmock.h>

#include "nbd/testing/virtual_server.h"

namespace datom::nbd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::uint16_t kAllItems[] = {0, 1, 2, 3};
constexpr std::uint16_t kPlainFlags =
    kHasFlags | kSendFlush | kSendFua | kSendTrim | kSendWriteZeroes | kSendFastZero;

std::vector<std::uint16_t> all_items() {
  return {std::begin(kAllItems), std::end(kAllItems)};
}

TEST(HandshakeTest, ClientFlagsThatAreUnknownEndTheConnection) {
  VirtualServer server;
  for (const std::uint32_t flags : {4u, 0x80000000u, 0xffffffffu}) {
    TestClient client = server.connect();
    client.greet(flags);
    EXPECT_TRUE(client.peer->closed);
  }
}

TEST(HandshakeTest, ListsAllExportsWithTheirDescriptions) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  const std::vector<OptionAnswer> answers = client.ask(Option::list);
  ASSERT_THAT(answers, SizeIs(3));
  EXPECT_EQ(answers[0].type, OptionReply::server);
  EXPECT_EQ(answers[0].option, 3u);
  EXPECT_EQ(answers[0].data, std::string("\0\0\0\7archive", 11));
  EXPECT_EQ(answers[1].data, std::string("\0\0\0\2dbthe database", 18));
  EXPECT_EQ(answers[2].type, OptionReply::ack);
}

TEST(HandshakeTest, ListWithDataIsInvalid) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  EXPECT_EQ(client.ask(Option::list, Encoder().u32(0)).front().type, OptionReply::invalid);
  EXPECT_THAT(client.ask(Option::list), SizeIs(3));
}

TEST(HandshakeTest, InfoTellsWhatWasAskedFor) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  std::vector<OptionAnswer> answers = client.ask(Option::info, TestClient::info_request("db"));
  ASSERT_THAT(answers, SizeIs(2));
  Received info(answers[0].data);
  EXPECT_EQ(answers[0].type, OptionReply::info);
  EXPECT_EQ(info.u16(), 0);
  EXPECT_EQ(info.u64(), kVolumeSize);
  EXPECT_EQ(info.u16(), kPlainFlags);
  EXPECT_TRUE(info.empty());
  EXPECT_EQ(answers[1].type, OptionReply::ack);

  answers = client.ask(Option::info, TestClient::info_request("db", all_items()));
  ASSERT_THAT(answers, SizeIs(5));
  EXPECT_EQ(answers[1].data, std::string("\0\1db", 4));
  EXPECT_EQ(answers[2].data, std::string("\0\2the database", 14));
  Received sizes(answers[3].data);
  EXPECT_EQ(sizes.u16(), 3);
  EXPECT_EQ(sizes.u32(), 1u);
  EXPECT_EQ(sizes.u32(), 4096u);
  EXPECT_EQ(sizes.u32(), 32u << 20);
}

TEST(HandshakeTest, GoBeginsTransmissionAndInfoDoesNot) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  client.ask(Option::info, TestClient::info_request("db"));
  EXPECT_EQ(server.control.opened, 0u);
  EXPECT_EQ(client.ask(Option::go, TestClient::info_request("db")).back().type, OptionReply::ack);
  EXPECT_EQ(server.control.opened, 1u);
  EXPECT_EQ(client.call(Command::flush, 0, 0).error, 0u);
}

TEST(HandshakeTest, AReadOnlyExportSaysSo) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  client.ask(Option::structured_reply);
  const auto answers = client.ask(Option::info, TestClient::info_request("archive", all_items()));
  Received info(answers[0].data);
  info.u16();
  info.u64();
  EXPECT_EQ(info.u16(), kHasFlags | kReadOnly | kSendFlush | kSendFua | kSendDf);
  EXPECT_THAT(answers, SizeIs(4)) << "no description where there is none";
}

TEST(HandshakeTest, AnUnknownExportIsRefusedByNameAndHagglingGoesOn) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  for (const Option option : {Option::info, Option::go}) {
    const auto answers = client.ask(option, TestClient::info_request("nope\n"));
    ASSERT_THAT(answers, SizeIs(1));
    EXPECT_EQ(answers[0].type, OptionReply::unknown);
    EXPECT_EQ(answers[0].data, "there is no export 'nope\\x0a'");
  }
  EXPECT_EQ(client.ask(Option::go, TestClient::info_request("db")).back().type, OptionReply::ack);
}

TEST(HandshakeTest, AnEmptyNameIsRefusedNamingWhatExists) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  const auto answers = client.ask(Option::go, TestClient::info_request(""));
  ASSERT_THAT(answers, SizeIs(1));
  EXPECT_EQ(answers[0].type, OptionReply::unknown);
  EXPECT_THAT(answers[0].data, HasSubstr("archive, db"));
}

TEST(HandshakeTest, BadDataOfAnOptionIsInvalid) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  const auto answers = client.ask(Option::go, Encoder().u32(100).text("db").u16(0));
  ASSERT_THAT(answers, SizeIs(1));
  EXPECT_EQ(answers[0].type, OptionReply::invalid);
  EXPECT_THAT(answers[0].data, HasSubstr("export name"));
}

TEST(HandshakeTest, ExportNameAnswersWithOrWithoutZeroes) {
  VirtualServer server;
  for (const bool zeroes : {false, true}) {
    TestClient client = server.connect();
    client.greet(zeroes ? kFixedNewstyle : kFixedNewstyle | kNoZeroes);
    client.send(TestClient::option(1, "db"));
    Received reply = client.receive();
    EXPECT_EQ(reply.u64(), kVolumeSize);
    EXPECT_EQ(reply.u16(), kPlainFlags);
    EXPECT_EQ(reply.left(), zeroes ? 124u : 0u);
    client.command(Command::read, 5, 0, 3);
    EXPECT_EQ(client.answers(3).front().data, std::string(3, '\0'));
  }
}

TEST(HandshakeTest, ExportNameOfAnUnknownExportEndsTheConnection) {
  VirtualServer server;
  for (const std::string name : {"nope", "", "nul\0"}) {
    TestClient client = server.connect();
    client.greet();
    client.send(TestClient::option(1, name));
    EXPECT_TRUE(client.peer->closed);
    EXPECT_THAT(client.peer->take(), IsEmpty());
  }
}

TEST(HandshakeTest, AbortIsAcknowledgedAndEnds) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  const auto answers = client.ask(Option::abort, Encoder().u32(7));
  ASSERT_THAT(answers, SizeIs(1));
  EXPECT_EQ(answers[0].type, OptionReply::ack);
  EXPECT_TRUE(client.peer->closed);
}

TEST(HandshakeTest, StartTlsAndUnknownOptionsAreUnsupported) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  for (const int number : {4, 5, 8 + 3, 0, 1000, -1}) {
    const auto option = Option{static_cast<std::uint32_t>(number)};
    const auto answers = client.ask(option, Encoder().zeros(10000));
    ASSERT_THAT(answers, SizeIs(1)) << number;
    EXPECT_EQ(answers[0].type, OptionReply::unsupported);
    EXPECT_EQ(answers[0].option, static_cast<std::uint32_t>(option));
  }
  EXPECT_THAT(client.ask(Option::list), SizeIs(3));
}

TEST(HandshakeTest, ALargeOptionIsTooBigAndHagglingGoesOn) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  const auto answers = client.ask(Option::go, Encoder().zeros((64 << 10) + 1));
  ASSERT_THAT(answers, SizeIs(1));
  EXPECT_EQ(answers[0].type, OptionReply::too_big);
  EXPECT_THAT(client.ask(Option::list), SizeIs(3));
}

TEST(HandshakeTest, AHugeOptionEndsTheConnection) {
  VirtualServer server;
  for (const Option option : {Option::go, Option::list, Option{1234}, Option::export_name}) {
    TestClient client = server.connect();
    client.greet();
    client.send(Encoder()
                    .u64(kOptionMagic)
                    .u32(static_cast<std::uint32_t>(option))
                    .u32(option == Option::export_name ? (64 << 10) + 1 : (1 << 20) + 1));
    EXPECT_TRUE(client.peer->closed);
  }
}

TEST(HandshakeTest, GarbageEndsTheConnection) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  client.send(Encoder().text("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_TRUE(client.peer->closed);
  EXPECT_THAT(client.peer->take(), IsEmpty());
}

TEST(HandshakeTest, StructuredReplyTakesNoData) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  EXPECT_EQ(client.ask(Option::structured_reply, Encoder().u16(1)).front().type,
            OptionReply::invalid);
  EXPECT_EQ(client.ask(Option::structured_reply).front().type, OptionReply::ack);
}

TEST(HandshakeTest, MetaContextsNeedStructuredReplies) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  for (const Option option : {Option::list_meta_context, Option::set_meta_context}) {
    EXPECT_EQ(client.ask(option, TestClient::context_request("db", {})).front().type,
              OptionReply::invalid);
  }
}

TEST(HandshakeTest, MetaContextsAreListedAndSelected) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  client.ask(Option::structured_reply);
  const auto names = [&](Option option, const std::vector<std::string>& queries) {
    std::vector<std::string> found;
    const auto answers = client.ask(option, TestClient::context_request("db", queries));
    EXPECT_EQ(answers.back().type, OptionReply::ack);
    for (const OptionAnswer& answer : answers) {
      if (answer.type == OptionReply::meta_context) found.push_back(answer.data.substr(4));
    }
    return found;
  };
  EXPECT_THAT(names(Option::list_meta_context, {}), ElementsAre("base:allocation"));
  EXPECT_THAT(names(Option::list_meta_context, {"base:", "base:allocation"}),
              ElementsAre("base:allocation"));
  EXPECT_THAT(names(Option::list_meta_context, {"qemu:dirty-bitmap:x"}), IsEmpty());
  EXPECT_THAT(names(Option::set_meta_context, {}), IsEmpty());
  EXPECT_THAT(names(Option::set_meta_context, {"base:"}), IsEmpty());
  EXPECT_THAT(names(Option::set_meta_context, {"x:y", "base:allocation"}),
              ElementsAre("base:allocation"));
}

TEST(HandshakeTest, MetaContextsOfAnUnknownExportAreRefused) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  client.ask(Option::structured_reply);
  EXPECT_EQ(client.ask(Option::set_meta_context, TestClient::context_request("x", {})).front().type,
            OptionReply::unknown);
}

TEST(HandshakeTest, TheLastSelectionCountsEvenWhenItFails) {
  VirtualServer server;
  const struct {
    std::string second_export;
    std::vector<std::string> second_queries;
    bool usable;
  } cases[] = {{"db", {"base:allocation"}, true},
               {"db", {}, false},
               {"archive", {"base:allocation"}, false},
               {"nope", {"base:allocation"}, false}};
  for (const auto& one : cases) {
    TestClient client = server.connect();
    client.greet();
    client.ask(Option::structured_reply);
    client.ask(Option::set_meta_context, TestClient::context_request("db", {"base:allocation"}));
    client.ask(Option::set_meta_context,
               TestClient::context_request(one.second_export, one.second_queries));
    client.ask(Option::go, TestClient::info_request("db"));
    client.command(Command::block_status, 1, 0, 4096);
    EXPECT_EQ(client.answers().front().error, one.usable ? 0u : 22u) << one.second_export;
  }
}

TEST(HandshakeTest, AnExportThatCannotBeOpenedIsRefusedWithTheReason) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  const struct {
    Code code;
    OptionReply reply;
  } cases[] = {{Code::unavailable, OptionReply::unknown},
               {Code::not_found, OptionReply::unknown},
               {Code::permission_denied, OptionReply::policy},
               {Code::closed, OptionReply::shutdown}};
  for (const auto& one : cases) {
    server.control.open_failure = Error(one.code, "not now");
    const auto answers = client.ask(Option::go, TestClient::info_request("db"));
    ASSERT_THAT(answers, SizeIs(1));
    EXPECT_EQ(answers[0].type, one.reply);
    EXPECT_EQ(answers[0].data, "not now");
  }
  server.control.open_failure.reset();
  EXPECT_EQ(client.ask(Option::go, TestClient::info_request("db")).back().type, OptionReply::ack);
}

TEST(HandshakeTest, AClientThatIsTooSlowIsClosed) {
  VirtualServer server;
  TestClient silent = server.connect();
  TestClient slow = server.connect();
  slow.greet();
  server.loop.advance(std::chrono::seconds(29));
  EXPECT_THAT(slow.ask(Option::list), SizeIs(3));
  EXPECT_FALSE(silent.peer->closed);
  server.loop.advance(std::chrono::seconds(2));
  EXPECT_TRUE(silent.peer->closed);
  EXPECT_TRUE(slow.peer->closed);
}

TEST(HandshakeTest, AnAttachedClientMayBeSilent) {
  VirtualServer server;
  TestClient client = server.connect();
  client.attach("db");
  server.loop.advance(std::chrono::hours(24));
  EXPECT_EQ(client.call(Command::flush, 0, 0).error, 0u);
}

TEST(HandshakeTest, MayArriveByteByByte) {
  VirtualServer server;
  TestClient client = server.connect();
  client.greet();
  const Encoder go = TestClient::option(7, as_text(TestClient::info_request("db").view()));
  for (std::size_t i = 0; i < go.size(); ++i) {
    client.peer->send(go.view().subspan(i, 1));
    server.loop.run_ready();
  }
  EXPECT_EQ(client.option_answers().back().type, OptionReply::ack);
}

TEST(HandshakeTest, VanishingAtAnyByteLeavesNothingBehind) {
  VirtualServer server;
  const Encoder go = TestClient::option(7, as_text(TestClient::info_request("db").view()));
  for (std::size_t size = 0; size <= go.size(); ++size) {
    TestClient client = server.connect();
    client.greet();
    client.peer->send(go.view().first(size));
    client.peer->finish();
    server.loop.run_ready();
    EXPECT_TRUE(client.peer->closed);
  }
  EXPECT_EQ(server.control.opened, 1u);
  EXPECT_EQ(server.control.closed, 1u);
}

}  // namespace
}  // namespace datom::nbd::testing

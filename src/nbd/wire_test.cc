#include "nbd/wire.h"

#include <fmt/core.h>
#include <gmock/gmock.h>

#include <algorithm>

#include "common/error.h"

namespace datom::nbd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string hex(ByteView bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<int>(byte));
  return text;
}
std::string hex(const Reply& reply) {
  return hex(reply.head_view()) + hex(reply.body.view());
}

template <typename Action>
std::string message_of(Code code, const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return {};
}

Encoder info_data(std::string_view name, const std::vector<std::uint16_t>& items) {
  Encoder data;
  data.u32(static_cast<std::uint32_t>(name.size())).text(name);
  data.u16(static_cast<std::uint16_t>(items.size()));
  for (const std::uint16_t item : items) data.u16(item);
  return data;
}

TEST(OptionHeaderTest, ReadsOptionAndLength) {
  Encoder bytes;
  bytes.u64(kOptionMagic).u32(7).u32(0x01020304);
  const OptionHeader header = parse_option_header(bytes.view().first<kOptionHeaderBytes>());
  EXPECT_EQ(header.option, Option::go);
  EXPECT_EQ(header.length, 0x01020304u);
}

TEST(OptionHeaderTest, RefusesAnotherMagicNumber) {
  Encoder bytes;
  bytes.u64(kOptionMagic + 1).u32(7).u32(0);
  const auto parse = [&] { parse_option_header(bytes.view().first<kOptionHeaderBytes>()); };
  EXPECT_THAT(message_of(Code::corrupt, parse), HasSubstr("0x49484156454f5055"));
}

TEST(InfoRequestTest, ReadsNameAndItemsAndIgnoresUnknownOnes) {
  const InfoRequest request = parse_info_request(info_data("db", {0, 3, 99, 1}).view());
  EXPECT_EQ(request.export_name, "db");
  EXPECT_TRUE(request.name);
  EXPECT_FALSE(request.description);
  EXPECT_TRUE(request.block_size);
}

TEST(InfoRequestTest, RefusesDataCutAtAnyByteAndDataTooLong) {
  Encoder data = info_data("db", {1, 2, 3});
  for (std::size_t size = 0; size < data.size(); ++size) {
    message_of(Code::invalid_argument, [&] { parse_info_request(data.view().first(size)); });
  }
  data.u16(0);
  EXPECT_THAT(message_of(Code::invalid_argument, [&] { parse_info_request(data.view()); }),
              HasSubstr("2 bytes too many"));
}

TEST(InfoRequestTest, RefusesLengthsThatOverflow) {
  for (const std::uint32_t length : {0xffffffffu, 0xfffffffcu, 0x80000000u, 7u}) {
    Encoder data;
    data.u32(length).text("db").u16(0);
    message_of(Code::invalid_argument, [&] { parse_info_request(data.view()); });
  }
}

TEST(ExportNameTest, RefusesWhatIsNoName) {
  EXPECT_EQ(parse_export_name(as_bytes("")), "");
  EXPECT_EQ(parse_export_name(as_bytes(std::string(4096, 'a'))).size(), 4096u);
  EXPECT_THAT(message_of(Code::invalid_argument,
                         [] { parse_export_name(as_bytes(std::string(4097, 'a'))); }),
              HasSubstr("4097"));
  EXPECT_THAT(message_of(Code::invalid_argument,
                         [] { parse_export_name(as_bytes(std::string_view("a\0b", 3))); }),
              HasSubstr("NUL"));
}

Encoder context_data(std::string_view name, const std::vector<std::string>& queries) {
  Encoder data;
  data.u32(static_cast<std::uint32_t>(name.size())).text(name);
  data.u32(static_cast<std::uint32_t>(queries.size()));
  for (const std::string& query : queries) {
    data.u32(static_cast<std::uint32_t>(query.size())).text(query);
  }
  return data;
}

TEST(MetaContextRequestTest, ReadsNameAndQueries) {
  const MetaContextRequest request =
      parse_meta_context_request(context_data("db", {"base:", "", "x-y:z"}).view());
  EXPECT_EQ(request.export_name, "db");
  EXPECT_THAT(request.queries, ElementsAre("base:", "", "x-y:z"));
}

TEST(MetaContextRequestTest, RefusesDataCutAtAnyByteAndDataTooLong) {
  Encoder data = context_data("db", {"base:allocation", "x:"});
  for (std::size_t size = 0; size < data.size(); ++size) {
    message_of(Code::invalid_argument,
               [&] { parse_meta_context_request(data.view().first(size)); });
  }
  data.zeros(1);
  message_of(Code::invalid_argument, [&] { parse_meta_context_request(data.view()); });
}

TEST(MetaContextRequestTest, AnyNumberOfQueriesThatAreNotThereIsRefused) {
  Encoder data;
  data.u32(0).u32(0xffffffff);
  message_of(Code::invalid_argument, [&] { parse_meta_context_request(data.view()); });
}

TEST(MetaContextRequestTest, WildcardsSelectOnlyWhenListing) {
  EXPECT_TRUE(selects_base_allocation({"db", {}}, true));
  EXPECT_FALSE(selects_base_allocation({"db", {}}, false));
  EXPECT_TRUE(selects_base_allocation({"db", {"base:"}}, true));
  EXPECT_FALSE(selects_base_allocation({"db", {"base:"}}, false));
  EXPECT_TRUE(selects_base_allocation({"db", {"x:y", "base:allocation"}}, false));
  EXPECT_FALSE(selects_base_allocation({"db", {"base:allocations", "x:", ""}}, true));
}

TEST(RequestTest, ReadsEveryField) {
  Encoder bytes;
  bytes.u32(kRequestMagic).u16(0x0102).u16(3).u64(0x1122334455667788).u64(0x99).u32(0xffffffff);
  const Request request = parse_request(bytes.view().first<kRequestBytes>());
  EXPECT_EQ(request.flags, 0x0102);
  EXPECT_EQ(request.command, Command::flush);
  EXPECT_EQ(request.cookie, 0x1122334455667788u);
  EXPECT_EQ(request.offset, 0x99u);
  EXPECT_EQ(request.length, 0xffffffffu);
}

TEST(RequestTest, RefusesAnotherMagicNumber) {
  Encoder bytes;
  bytes.u32(kSimpleReplyMagic).zeros(24);
  message_of(Code::corrupt, [&] { parse_request(bytes.view().first<kRequestBytes>()); });
}

TEST(ReplyTest, HasTheBytesOfTheProtocol) {
  EXPECT_EQ(hex(simple_reply(0x0102030405060708, Errno::enospc)),
            "674466980000001c0102030405060708");
  EXPECT_EQ(hex(data_reply(9, 0x4000, Buffer::copy_of(as_bytes("abc")))),
            "668e33ef0001000100000000000000090000000b0000000000004000616263");
  EXPECT_EQ(hex(empty_reply(9)),
            "668e33ef0001000000000000000000090000000"
            "0");
  EXPECT_EQ(hex(error_reply(9, Errno::eio, "no")),
            "668e33ef000180010000000000000009000000080000000500026e6f");
}

TEST(ReplyTest, CutsALongMessageBetweenCharacters) {
  const std::string message = std::string(kMaxStringBytes - 1, 'a') + "\u00e9";
  const Reply reply = error_reply(1, Errno::eio, message);
  EXPECT_EQ(reply.body.size(), 6 + kMaxStringBytes - 1);
}

// The descriptors of a block status reply, as (length, state).
std::vector<std::pair<std::uint32_t, std::uint32_t>> descriptors(const Reply& reply) {
  const auto field = [&](std::size_t at) {
    std::uint32_t value = 0;
    for (int i = 0; i < 4; ++i) {
      value = value << 8 | std::to_integer<std::uint32_t>(reply.body.view()[at++]);
    }
    return value;
  };
  EXPECT_EQ(field(0), kBaseAllocationId);
  std::vector<std::pair<std::uint32_t, std::uint32_t>> found;
  for (std::size_t at = 4; at < reply.body.size(); at += 8) {
    found.emplace_back(field(at), field(at + 4));
  }
  return found;
}

TEST(BlockStatusReplyTest, MergesNeighboursAndStopsAtTheEndOfTheRequest) {
  const std::vector<StatusExtent> extents = {{4096, false, false},
                                             {4096, false, false},
                                             {0, true, true},
                                             {8192, true, true},
                                             {1ull << 40, false, true}};
  EXPECT_THAT(descriptors(block_status_reply(1, 20000, 100, extents)),
              ElementsAre(std::pair(8192, 0), std::pair(8192, 3), std::pair(3616, 2)));
  EXPECT_THAT(descriptors(block_status_reply(1, 20000, 1, extents)),
              ElementsAre(std::pair(8192, 0)));
  EXPECT_THAT(descriptors(block_status_reply(1, 0xffffffff, 1, {{1ull << 40, true, true}})),
              ElementsAre(std::pair(0xffffffff, 3)));
}

TEST(BlockStatusReplyTest, WithoutExtentsTellsAllocatedData) {
  EXPECT_THAT(descriptors(block_status_reply(1, 512, 10, {})), ElementsAre(std::pair(512, 0)));
}

TEST(TransmissionFlagsTest, TellWhatTheExportCanDo) {
  ExportInfo info;
  EXPECT_EQ(transmission_flags(info, true), kHasFlags | kSendFlush | kSendFua | kSendTrim |
                                                kSendWriteZeroes | kSendFastZero | kSendDf);
  info.multi_conn = true;
  EXPECT_EQ(transmission_flags(info, false), kHasFlags | kSendFlush | kSendFua | kSendTrim |
                                                 kSendWriteZeroes | kSendFastZero | kCanMultiConn);
  info.read_only = true;
  EXPECT_EQ(transmission_flags(info, false),
            kHasFlags | kReadOnly | kSendFlush | kSendFua | kCanMultiConn);
}

TEST(PrintableTest, EscapesAndCuts) {
  EXPECT_EQ(printable("a b~"), "a b~");
  EXPECT_EQ(printable(std::string_view("\0\n\x1b\xff", 4)), "\\x00\\x0a\\x1b\\xff");
  EXPECT_LE(printable(std::string(100000, '\n')).size(), 210u);
  EXPECT_THAT(printable(""), IsEmpty());
}

}  // namespace
}  // namespace datom::nbd

#include "volume/group_post.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "protocol/methods.h"

namespace datom::volume {
namespace {

using protocol::GroupMessage;

// Keeps what is sent.
class Sent final : public rpc::Caller {
 public:
  struct One {
    std::string service;
    rpc::Method method;
    rpc::Message message;
  };
  std::vector<One> all;

  runtime::Task<rpc::Message> call(std::string, rpc::Method, rpc::Message,
                                   runtime::Duration) override {
    throw Error(Code::unavailable, "nobody answers");
  }
  void send(const std::string& service, rpc::Method method, rpc::Message message) override {
    all.push_back({service, method, std::move(message)});
  }
  std::unique_ptr<Subscription> watch_peers(OnPeer, OnPeer) override { return nullptr; }
};

// Of the volume with that number.
GroupMessage heartbeat(std::uint64_t number) {
  protocol::Append append;
  append.number = number;
  append.sent = 77;
  append.lease = std::chrono::milliseconds(300);
  return {Uuid::from_random(number, 1),
          Uuid::from_random(number, 2),
          Uuid::from_random(number, 3),
          Term(number),
          number,
          append};
}

// The numbers of those in a message, in order.
std::vector<std::uint64_t> numbers(const Sent::One& one) {
  std::vector<GroupMessage> messages;
  if (one.method == protocol::method::kGroupMessage) {
    messages.push_back(protocol::decode_group_message(one.message.header));
  } else {
    messages = protocol::decode_group_messages(one.message.header);
  }
  std::vector<std::uint64_t> found;
  for (const GroupMessage& message : messages) {
    found.push_back(std::get<protocol::Append>(message.body).number);
    EXPECT_EQ(message.volume, Uuid::from_random(found.back(), 1));
    EXPECT_EQ(message.term, Term(found.back()));
  }
  return found;
}

using Numbers = std::vector<std::uint64_t>;

TEST(GroupPost, OneByItselfGoesAtOnce) {
  Sent sent;
  GroupPost post(sent);
  post.send("vs2", heartbeat(1), {});
  ASSERT_EQ(sent.all.size(), 1u);
  EXPECT_EQ(sent.all[0].method, protocol::method::kGroupMessage);
  EXPECT_EQ(numbers(sent.all[0]), Numbers{1});
}

TEST(GroupPost, ThoseOfOneStepTravelTogetherToEachService) {
  Sent sent;
  GroupPost post(sent);
  post.together([&] {
    post.send("vs2", heartbeat(1), {});
    post.send("vs3", heartbeat(2), {});
    post.together([&] { post.send("vs2", heartbeat(3), {}); });
    EXPECT_TRUE(sent.all.empty());
  });
  ASSERT_EQ(sent.all.size(), 2u);
  EXPECT_EQ(sent.all[0].service, "vs2");
  EXPECT_EQ(sent.all[0].method, protocol::method::kGroupMessages);
  EXPECT_EQ(numbers(sent.all[0]), (Numbers{1, 3}));
  EXPECT_EQ(sent.all[1].service, "vs3");
  EXPECT_EQ(numbers(sent.all[1]), Numbers{2});
}

TEST(GroupPost, EntriesDoNotWaitAndOvertakeNobody) {
  Sent sent;
  GroupPost post(sent);
  post.together([&] {
    post.send("vs2", heartbeat(1), {});
    post.send("vs2", heartbeat(2), Buffer::zeroed(4096));
    EXPECT_EQ(sent.all.size(), 2u);
    post.send("vs2", heartbeat(3), {});
  });
  ASSERT_EQ(sent.all.size(), 3u);
  EXPECT_EQ(numbers(sent.all[0]), Numbers{1});
  EXPECT_EQ(numbers(sent.all[1]), Numbers{2});
  EXPECT_EQ(sent.all[1].message.payload.size(), 4096u);
  EXPECT_EQ(numbers(sent.all[2]), Numbers{3});
}

TEST(GroupPost, AMessageStaysWithinTheBoundsOfRpc) {
  Sent sent;
  GroupPost post(sent);
  Numbers expected;
  post.together([&] {
    for (std::uint64_t i = 1; i <= 5000; ++i) {
      expected.push_back(i);
      post.send("vs2", heartbeat(i), {});
    }
  });
  Numbers found;
  for (const Sent::One& one : sent.all) {
    EXPECT_LT(one.message.header.size(), rpc::kMaxHeaderBytes / 4);
    for (const std::uint64_t number : numbers(one)) found.push_back(number);
  }
  EXPECT_EQ(found, expected);
}

TEST(GroupPost, WhatDoesNotParseIsRefused) {
  Sent sent;
  GroupPost post(sent);
  post.together([&] {
    post.send("vs2", heartbeat(1), {});
    post.send("vs2", heartbeat(2), {});
  });
  std::string header = sent.all.at(0).message.header;
  EXPECT_THROW(protocol::decode_group_messages(header.substr(0, header.size() - 3)), Error);
}

}  // namespace
}  // namespace datom::volume

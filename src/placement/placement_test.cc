#include "placement/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"

namespace datom::placement {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::uint64_t kGiB = 1ull << 30;

Candidate server(std::string service, std::string node, std::uint64_t bytes_placed = 0) {
  Candidate candidate;
  candidate.service = std::move(service);
  candidate.node = std::move(node);
  candidate.trouble.clear();
  candidate.bytes_placed = bytes_placed;
  return candidate;
}

Candidate down(Candidate candidate) {
  candidate.trouble = "is down";
  return candidate;
}

Candidate with_room(Candidate candidate, std::uint64_t bytes) {
  candidate.unclaimed_bytes = bytes;
  return candidate;
}

Candidate in_state(Candidate candidate, protocol::NodeState state) {
  candidate.node_state = state;
  return candidate;
}

// The error of placing, which must fail.
Error refusal(const Demand& demand, std::vector<Candidate> candidates) {
  try {
    place(demand, std::move(candidates));
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "placed";
  return Error(Code::internal, "placed");
}

TEST(Placement, LeastUsedFirst) {
  EXPECT_THAT(
      place({2, kGiB}, {server("vs1", "n1", 5), server("vs2", "n2", 3), server("vs3", "n3", 4)}),
      ElementsAre("vs2", "vs3"));
}

TEST(Placement, EqualBytesGoByCountThenName) {
  Candidate many = server("vs1", "n1");
  many.replicas = 2;
  EXPECT_THAT(place({3, kGiB}, {server("vs3", "n3"), many, server("vs2", "n2")}),
              ElementsAre("vs2", "vs3", "vs1"));
}

TEST(Placement, OneReplicaANode) {
  EXPECT_THAT(place({2, kGiB}, {server("a", "n1"), server("b", "n1"), server("c", "n2", 9)}),
              ElementsAre("a", "c"));
  EXPECT_EQ(refusal({2, kGiB}, {server("a", "n1"), server("b", "n1")}).code(), Code::unavailable);
}

TEST(Placement, ASecondServerOfANodeStepsInForAFullOne) {
  EXPECT_THAT(place({1, kGiB}, {with_room(server("a", "n1"), 10), server("b", "n1", 9)}),
              ElementsAre("b"));
}

TEST(Placement, ServersThatAreDownAndNodesOutOfServiceAreLeftOut) {
  EXPECT_THAT(place({1, kGiB}, {down(server("vs1", "n1")),
                                in_state(server("vs2", "n2"), protocol::NodeState::draining),
                                in_state(server("vs3", "n3"), protocol::NodeState::out),
                                server("vs4", "n4", 100)}),
              ElementsAre("vs4"));
}

TEST(Placement, RoomIsExactlyEnough) {
  EXPECT_THAT(place({1, kGiB}, {with_room(server("vs1", "n1"), kGiB)}), ElementsAre("vs1"));
  EXPECT_EQ(refusal({1, kGiB}, {with_room(server("vs1", "n1"), kGiB - 1)}).code(), Code::no_space);
}

TEST(Placement, RefusalSaysWhatWasFoundAndWhyOthersWereLeftOut) {
  const Error error = refusal({3, 4096}, {server("vs1", "n1"), down(server("vs2", "n2")),
                                          with_room(server("vs3", "n3"), 100)});
  EXPECT_EQ(error.code(), Code::unavailable);
  EXPECT_STREQ(error.what(),
               "3 replicas need as many nodes with a volume server that can take 4096 bytes, found "
               "1 (n1); left out: vs2 on n2 is down; vs3 on n3 has 100 bytes left to give, 4096 "
               "needed");
}

TEST(Placement, RefusalIsForSpaceOnlyWhereMoreSpaceWouldHelp) {
  EXPECT_EQ(refusal({2, 4096}, {server("vs1", "n1"), with_room(server("vs2", "n2"), 0)}).code(),
            Code::no_space);
  EXPECT_EQ(
      refusal({2, 4096}, {server("vs1", "n1"), down(with_room(server("vs2", "n2"), 0))}).code(),
      Code::unavailable);
  EXPECT_EQ(refusal({1, 4096}, {}).code(), Code::unavailable);
}

TEST(Placement, ALongListOfReasonsIsCut) {
  std::vector<Candidate> candidates;
  for (int i = 0; i < 30; ++i) {
    candidates.push_back(down(server(fmt::format("vs{:02}", i), fmt::format("n{}", i))));
  }
  const Error error = refusal({3, 4096}, std::move(candidates));
  EXPECT_THAT(error.what(), HasSubstr("and 22 more"));
  EXPECT_THAT(error.what(), Not(HasSubstr("vs08")));
}

}  // namespace
}  // namespace datom::placement

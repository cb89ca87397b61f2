#include "replication/sessions.h"

#include <gtest/gtest.h>

namespace datom::replication {
namespace {

using protocol::Access;
using Verdict = Sessions::Verdict;

const Uuid kClient = Uuid::from_random(1, 1);
const Uuid kOther = Uuid::from_random(2, 2);

protocol::Entry attach(std::uint64_t op, const Uuid& client, Op closes = Op(0)) {
  protocol::Entry entry;
  entry.header.kind = protocol::EntryKind::attach;
  entry.header.op = Op(op);
  entry.payload = Buffer::copy_of(as_bytes(Attach{client, "vs1", closes}.encode()));
  return entry;
}

protocol::Entry write(std::uint64_t op, std::uint64_t session, std::uint64_t sequence,
                      std::uint64_t first_incomplete = 1) {
  protocol::Entry entry;
  entry.header.kind = protocol::EntryKind::write;
  entry.header.op = Op(op);
  entry.header.session = Op(session);
  entry.header.sequence = sequence;
  entry.header.first_incomplete = first_incomplete;
  return entry;
}

TEST(Sessions, ARepeatedRequestTakesEffectOnce) {
  Sessions sessions(Access::exclusive);
  sessions.apply(attach(5, kClient));
  EXPECT_EQ(sessions.verdict(Op(5), 1, 1), Verdict::fresh);
  EXPECT_TRUE(sessions.apply(write(6, 5, 1)));
  EXPECT_EQ(sessions.verdict(Op(5), 1, 1), Verdict::done);
  EXPECT_FALSE(sessions.apply(write(7, 5, 1)));
  EXPECT_TRUE(sessions.apply(write(8, 5, 3))) << "requests may complete out of order";
  EXPECT_TRUE(sessions.apply(write(9, 5, 2)));
}

TEST(Sessions, NothingOfAClosedSessionTakesEffectAfterTheNextOneOpened) {
  Sessions sessions(Access::exclusive);
  sessions.apply(attach(5, kClient));
  sessions.apply(attach(9, kOther));
  EXPECT_EQ(sessions.verdict(Op(5), 1, 1), Verdict::refused);
  EXPECT_FALSE(sessions.apply(write(10, 5, 1)));
  EXPECT_TRUE(sessions.apply(write(11, 9, 1)));
}

TEST(Sessions, SharedAccessKeepsOthersOpenAndClosesTheOneNamed) {
  Sessions sessions(Access::shared);
  sessions.apply(attach(5, kClient));
  sessions.apply(attach(6, kOther));
  EXPECT_TRUE(sessions.apply(write(7, 5, 1)));
  sessions.apply(attach(8, Uuid::from_random(3, 3), Op(5)));
  EXPECT_FALSE(sessions.apply(write(9, 5, 2)));
  EXPECT_TRUE(sessions.apply(write(10, 6, 1)));
}

TEST(Sessions, TheWindowFollowsTheFirstIncompleteRequest) {
  Sessions sessions(Access::exclusive);
  sessions.apply(attach(1, kClient));
  for (std::uint64_t i = 1; i <= kSessionWindow; ++i) {
    EXPECT_TRUE(sessions.apply(write(1 + i, 1, i)));
  }
  EXPECT_EQ(sessions.verdict(Op(1), kSessionWindow + 1, 1), Verdict::refused);
  EXPECT_EQ(sessions.verdict(Op(1), kSessionWindow + 1, 2), Verdict::fresh);
  EXPECT_TRUE(sessions.apply(write(2000, 1, kSessionWindow + 1, kSessionWindow + 1)));
  EXPECT_EQ(sessions.verdict(Op(1), 7, 7), Verdict::done);
  // A late copy of an old request, which claims an old window.
  EXPECT_FALSE(sessions.apply(write(2001, 1, 3, 1)));
}

TEST(Sessions, AHugeFirstIncompleteIsNoTrouble) {
  Sessions sessions(Access::exclusive);
  sessions.apply(attach(1, kClient));
  EXPECT_FALSE(sessions.apply(write(2, 1, 5, UINT64_MAX)));
  EXPECT_EQ(sessions.verdict(Op(1), 5, 5), Verdict::done);
}

TEST(Sessions, SurviveTheirEncoding) {
  Sessions sessions(Access::shared);
  for (std::uint64_t i = 1; i <= kMaxSessions; ++i)
    sessions.apply(attach(i, Uuid::from_random(i, i)));
  EXPECT_TRUE(sessions.full());
  sessions.apply(write(100, 3, 900));
  const std::string bytes = sessions.encode();
  EXPECT_LE(bytes.size(), 3072u);
  Sessions copy(Access::shared);
  copy.decode(bytes);
  EXPECT_EQ(copy.encode(), bytes);
  EXPECT_EQ(copy.verdict(Op(3), 900, 1), Verdict::done);
  EXPECT_EQ(copy.verdict(Op(3), 901, 1), Verdict::fresh);
}

TEST(Sessions, DamagedBytesAreRefused) {
  Sessions sessions(Access::exclusive);
  sessions.apply(attach(1, kClient));
  const std::string bytes = sessions.encode();
  for (std::size_t size = 1; size < bytes.size(); ++size) {
    Sessions copy(Access::exclusive);
    EXPECT_THROW(copy.decode(bytes.substr(0, size)), std::exception) << size;
  }
}

}  // namespace
}  // namespace datom::replication

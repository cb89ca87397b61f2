#include "nbd/request.h"

#include <gmock/gmock.h>

#include "nbd/server.h"

namespace datom::nbd {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kSize = 1ull << 40;

Session full() {
  Session session;
  session.size = kSize;
  session.structured = true;
  session.base_allocation = true;
  return session;
}

Errno verdict(Command command, std::uint64_t offset, std::uint32_t length, std::uint16_t flags = 0,
              Session session = full()) {
  const std::optional<Refusal> refusal =
      refuse({.flags = flags, .command = command, .offset = offset, .length = length}, session);
  if (!refusal) return Errno::none;
  EXPECT_FALSE(refusal->message.empty());
  return refusal->error;
}

constexpr Command kAll[] = {Command::read, Command::write,        Command::flush,
                            Command::trim, Command::write_zeroes, Command::block_status};

TEST(RefuseTest, AcceptsEachCommandWithEachOfItsFlags) {
  for (const Command command : kAll) {
    const std::uint32_t length = command == Command::flush ? 0 : 8192;
    EXPECT_EQ(verdict(command, 0, length), Errno::none);
    EXPECT_EQ(verdict(command, 0, length, kFua), Errno::none);
  }
  EXPECT_EQ(verdict(Command::read, 0, 1, kDontFragment), Errno::none);
  EXPECT_EQ(verdict(Command::block_status, 0, 1, kRequestOne), Errno::none);
  EXPECT_EQ(verdict(Command::write_zeroes, 0, 1, kNoHole), Errno::none);
  EXPECT_EQ(verdict(Command::write_zeroes, 0, 4096, kFastZero), Errno::none);
}

TEST(RefuseTest, FlagsOfOtherCommandsAndUnknownFlagsAreInvalid) {
  struct {
    Command command;
    std::uint16_t allowed;
  } const cases[] = {{Command::read, kFua | kDontFragment},
                     {Command::write, kFua},
                     {Command::flush, kFua},
                     {Command::trim, kFua},
                     {Command::write_zeroes, kFua | kNoHole | kFastZero},
                     {Command::block_status, kFua | kRequestOne}};
  for (const auto& one : cases) {
    for (int bit = 0; bit < 16; ++bit) {
      const auto flag = static_cast<std::uint16_t>(1 << bit);
      if ((one.allowed & flag) != 0) continue;
      EXPECT_EQ(verdict(one.command, 0, 0, flag), Errno::einval)
          << static_cast<int>(one.command) << " " << bit;
    }
  }
  Session simple = full();
  simple.structured = false;
  EXPECT_EQ(verdict(Command::read, 0, 1, kDontFragment, simple), Errno::einval);
}

TEST(RefuseTest, UnknownCommandsAreInvalid) {
  for (const int command : {5, 8, 9, 65535}) {
    EXPECT_EQ(verdict(Command{static_cast<std::uint16_t>(command)}, 0, 0), Errno::einval);
  }
}

TEST(RefuseTest, BeyondTheEndIsInvalidToReadAndNoSpaceToWrite) {
  const struct {
    Command command;
    Errno error;
  } cases[] = {{Command::read, Errno::einval},
               {Command::trim, Errno::einval},
               {Command::block_status, Errno::einval},
               {Command::write, Errno::enospc},
               {Command::write_zeroes, Errno::enospc}};
  for (const auto& one : cases) {
    EXPECT_EQ(verdict(one.command, kSize - 10, 10), Errno::none);
    EXPECT_EQ(verdict(one.command, kSize - 10, 11), one.error);
    EXPECT_EQ(verdict(one.command, kSize, 1), one.error);
    EXPECT_EQ(verdict(one.command, UINT64_MAX, 1), one.error);
    EXPECT_EQ(verdict(one.command, UINT64_MAX - 10, 11), one.error);
    EXPECT_EQ(verdict(one.command, kSize + 1, 0), one.error);
  }
}

TEST(RefuseTest, OnlyWhatCrossesTheWireIsLimitedInLength) {
  EXPECT_EQ(verdict(Command::read, 0, kMaxRequestBytes), Errno::none);
  EXPECT_EQ(verdict(Command::read, 0, kMaxRequestBytes + 1), Errno::einval);
  EXPECT_EQ(verdict(Command::write, 0, kMaxRequestBytes), Errno::none);
  EXPECT_EQ(verdict(Command::write, 0, kMaxRequestBytes + 1), Errno::einval);
  EXPECT_EQ(verdict(Command::trim, 0, UINT32_MAX), Errno::none);
  EXPECT_EQ(verdict(Command::write_zeroes, 0, UINT32_MAX), Errno::none);
  EXPECT_EQ(verdict(Command::block_status, 0, UINT32_MAX), Errno::none);
}

TEST(RefuseTest, ChangesOfAReadOnlyExportAreNotPermitted) {
  Session session = full();
  session.read_only = true;
  EXPECT_EQ(verdict(Command::write, 0, 1, 0, session), Errno::eperm);
  EXPECT_EQ(verdict(Command::write, kSize, 1, 0, session), Errno::eperm);
  EXPECT_EQ(verdict(Command::trim, 0, 1, 0, session), Errno::eperm);
  EXPECT_EQ(verdict(Command::write_zeroes, 0, 1, 0, session), Errno::eperm);
  EXPECT_EQ(verdict(Command::read, 0, 1, 0, session), Errno::none);
  EXPECT_EQ(verdict(Command::flush, 0, 0, 0, session), Errno::none);
}

TEST(RefuseTest, ZeroLengthIsFineExceptForBlockStatus) {
  EXPECT_EQ(verdict(Command::read, kSize, 0), Errno::none);
  EXPECT_EQ(verdict(Command::write, 0, 0), Errno::none);
  EXPECT_EQ(verdict(Command::trim, 0, 0), Errno::none);
  EXPECT_EQ(verdict(Command::write_zeroes, 0, 0, kFastZero), Errno::none);
  EXPECT_EQ(verdict(Command::block_status, 0, 0), Errno::einval);
}

TEST(RefuseTest, BlockStatusNeedsANegotiatedContext) {
  Session session = full();
  session.base_allocation = false;
  EXPECT_EQ(verdict(Command::block_status, 0, 1, 0, session), Errno::einval);
}

TEST(RefuseTest, FlushTakesNoRange) {
  EXPECT_EQ(verdict(Command::flush, 1, 0), Errno::einval);
  EXPECT_EQ(verdict(Command::flush, 0, 1), Errno::einval);
}

TEST(RefuseTest, FastZeroesAreRefusedWhereTheyWouldBeWrites) {
  EXPECT_EQ(verdict(Command::write_zeroes, 0, 4096, kFastZero), Errno::none);
  EXPECT_EQ(verdict(Command::write_zeroes, 1, 4095 + 4096, kFastZero), Errno::none);
  EXPECT_EQ(verdict(Command::write_zeroes, 1, 4096, kFastZero), Errno::enotsup);
  EXPECT_EQ(verdict(Command::write_zeroes, 0, 4095, kFastZero), Errno::enotsup);
  EXPECT_EQ(verdict(Command::write_zeroes, 0, 1 << 20, kFastZero | kNoHole), Errno::enotsup);
  EXPECT_EQ(verdict(Command::write_zeroes, 0, 4095, kNoHole), Errno::none);
}

TEST(RefuseTest, SaysWhatWasFoundAndWhatIsAllowed) {
  const std::optional<Refusal> refusal =
      refuse({.command = Command::read, .offset = kSize - 1, .length = 512}, full());
  ASSERT_TRUE(refusal);
  EXPECT_THAT(refusal->message, HasSubstr("read of 512 bytes at 1099511627775"));
  EXPECT_THAT(refusal->message, HasSubstr("the end of the export at 1099511627776"));
}

TEST(ErrnoTest, FollowsTheTable) {
  EXPECT_EQ(errno_of(Code::permission_denied), Errno::eperm);
  EXPECT_EQ(errno_of(Code::no_space), Errno::enospc);
  EXPECT_EQ(errno_of(Code::invalid_argument), Errno::einval);
  EXPECT_EQ(errno_of(Code::too_large), Errno::einval);
  EXPECT_EQ(errno_of(Code::closed), Errno::eshutdown);
  EXPECT_EQ(errno_of(Code::corrupt), Errno::eio);
  EXPECT_EQ(errno_of(Code::unavailable), Errno::eio);
  EXPECT_EQ(errno_of(Code::internal), Errno::eio);
}

}  // namespace
}  // namespace datom::nbd

#include "service/steady_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "common/error.h"
#include "coordination/memory/memory.h"
#include "runtime/virtual_loop.h"

namespace datom::service {
namespace {

using coordination::SessionState;
using coordination::WatchHandle;
using runtime::Task;
using ::testing::ElementsAre;

class SteadyClientTest : public ::testing::Test {
 protected:
  ~SteadyClientTest() override {
    if (session_) loop_.run(steady_.session_lost());
  }

  void begin() {
    session_ = tree_.open_session(loop_);
    steady_.session_begins(*session_);
  }
  void expire() {
    tree_.expire(session_->session_id());
    loop_.run(steady_.session_lost());
    session_.reset();
  }
  static Task<void> create(SteadyClient& client, std::string path) {
    co_await client.create(path, "x", {});
  }
  static Task<void> watch(SteadyClient& client, std::string path, int* changes,
                          WatchHandle* handle) {
    co_await client.get(path, [changes] { ++*changes; }, *handle);
  }
  // The code with which a read fails; nothing when it does not.
  std::optional<Code> read_failure() {
    try {
      loop_.run(read(steady_));
      return std::nullopt;
    } catch (const Error& error) {
      return error.code();
    }
  }
  static Task<void> read(SteadyClient& client) { co_await client.get("/a"); }

  runtime::VirtualLoop loop_;
  coordination::MemoryTree tree_;
  SteadyClient steady_{loop_};
  std::unique_ptr<coordination::Client> session_;
};

TEST_F(SteadyClientTest, WithoutASessionCallsAreUnavailableNotExpired) {
  EXPECT_EQ(read_failure(), Code::unavailable);
  begin();
  EXPECT_EQ(read_failure(), std::nullopt);
  expire();
  EXPECT_EQ(read_failure(), Code::unavailable);
}

TEST_F(SteadyClientTest, AnExpiredSessionThatIsNotReplacedYetIsUnavailable) {
  begin();
  tree_.expire(session_->session_id());
  EXPECT_EQ(read_failure(), Code::unavailable);
  EXPECT_EQ(steady_.state(), SessionState::connecting);
}

TEST_F(SteadyClientTest, GoesOnWithTheNextSession) {
  begin();
  loop_.run(create(steady_, "/a"));
  expire();
  begin();
  EXPECT_EQ(read_failure(), std::nullopt);
  EXPECT_EQ(steady_.state(), SessionState::connected);
}

TEST_F(SteadyClientTest, WatchFiresOnceForAChange) {
  begin();
  int changes = 0;
  WatchHandle handle;
  loop_.run(watch(steady_, "/a", &changes, &handle));
  loop_.run(create(steady_, "/a"));
  loop_.run_ready();
  EXPECT_EQ(changes, 1);
  expire();
  loop_.run_ready();
  EXPECT_EQ(changes, 1);
}

TEST_F(SteadyClientTest, WatchFiresWhenItsSessionIsLost) {
  begin();
  int changes = 0;
  WatchHandle handle;
  loop_.run(watch(steady_, "/a", &changes, &handle));
  expire();
  loop_.run_ready();
  EXPECT_EQ(changes, 1);
}

TEST_F(SteadyClientTest, ADestroyedWatchIsSilent) {
  begin();
  int changes = 0;
  WatchHandle handle;
  loop_.run(watch(steady_, "/a", &changes, &handle));
  tree_.expire(session_->session_id());
  handle.reset();
  loop_.run_ready();
  EXPECT_EQ(changes, 0);
}

TEST_F(SteadyClientTest, ExpiryIsToldAsConnectingThenConnected) {
  begin();
  loop_.run_ready();
  std::vector<SessionState> states;
  const WatchHandle handle =
      steady_.watch_session([&states](SessionState state) { states.push_back(state); });
  expire();
  begin();
  loop_.run_ready();
  EXPECT_EQ(states.front(), SessionState::connecting);
  EXPECT_EQ(states.back(), SessionState::connected);
  EXPECT_THAT(states, ::testing::Not(::testing::Contains(SessionState::expired)));
}

}  // namespace
}  // namespace datom::service

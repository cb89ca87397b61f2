#include "sim/ensemble.h"

#include <gtest/gtest.h>

#include "common/error.h"
#include "runtime/task_group.h"
#include "runtime/wait.h"

namespace datom::sim {
namespace {

using coordination::CreateOptions;
using coordination::SessionState;
using runtime::Task;
using namespace std::chrono_literals;

class EnsembleTest : public ::testing::Test {
 protected:
  EnsembleTest() : one_(ensemble_.open_session(loop_)), other_(ensemble_.open_session(loop_)) {
    run(write("/node", "first", true));
  }
  ~EnsembleTest() override { advance(20s); }

  void run(Task<void> task) { loop_.run(std::move(task)); }
  void advance(runtime::Duration duration) {
    struct Wait {
      static Task<void> until(runtime::Loop& loop, runtime::Duration how_long) {
        runtime::Timer timer(loop);
        co_await timer.sleep_for(how_long);
      }
    };
    run(Wait::until(loop_, duration));
  }
  Task<void> write(std::string path, std::string data, bool create = false) {
    if (create) {
      co_await one_->create(path, std::move(data));
    } else {
      co_await one_->set(path, std::move(data), coordination::kAnyVersion);
    }
  }
  static Task<void> read_into(coordination::Client& client, std::string& data) {
    const auto node = co_await client.get("/node");
    data = node ? node->data : "(none)";
  }
  std::string read(coordination::Client& client) {
    std::string data;
    run(read_into(client, data));
    return data;
  }
  Code code_of(Task<void> task) {
    try {
      run(std::move(task));
    } catch (const Error& error) {
      return error.code();
    }
    return Code::internal;
  }
  void hold_all() {
    for (std::size_t i = 0; i < Ensemble::kServers; ++i) ensemble_.hold(i, 10s);
  }

  runtime::VirtualLoop loop_;
  Ensemble ensemble_{loop_, 1};
  std::unique_ptr<coordination::Client> one_;
  std::unique_ptr<coordination::Client> other_;
};

TEST_F(EnsembleTest, ASessionReadsItsOwnWritesAndOthersSeeThemLater) {
  hold_all();
  runtime::TaskGroup group(loop_, [](std::exception_ptr) { FAIL(); });
  group.spawn(write("/node", "second"));
  advance(1s);
  EXPECT_EQ(read(*other_), "first");
  run(group.close());  // the writer's server has come so far, too
  EXPECT_EQ(read(*one_), "second");
}

TEST_F(EnsembleTest, AfterASyncTheNewestIsRead) {
  const auto observer = ensemble_.open_observer(loop_);
  hold_all();
  struct Set {
    static Task<void> set(coordination::Client& client) {
      co_await client.set("/node", "second", coordination::kAnyVersion);
    }
  };
  run(Set::set(*observer));
  EXPECT_EQ(read(*other_), "first");
  run(other_->sync());
  EXPECT_EQ(read(*other_), "second");
}

TEST_F(EnsembleTest, AWatchFiresOnceItsServerHasSeenTheChange) {
  bool fired = false;
  coordination::WatchHandle watch;
  struct Read {
    static Task<void> read(coordination::Client& client, bool& fired,
                           coordination::WatchHandle& watch) {
      co_await client.get("/node", [&fired] { fired = true; }, watch);
    }
  };
  run(Read::read(*other_, fired, watch));
  hold_all();
  runtime::TaskGroup group(loop_, [](std::exception_ptr) { FAIL(); });
  group.spawn(write("/node", "second"));
  advance(1s);
  EXPECT_FALSE(fired);
  advance(10s);
  EXPECT_TRUE(fired);
  run(group.close());
}

TEST_F(EnsembleTest, NothingGoesBackwardsWithinASession) {
  ensemble_.hold(0, 10s);
  ensemble_.hold(1, 10s);
  runtime::TaskGroup group(loop_, [](std::exception_ptr) { FAIL(); });
  group.spawn(write("/node", "second"));
  const auto observer = ensemble_.open_observer(loop_);
  // Only the third server has it: whoever has read it there finds no other one.
  bool seen = false;
  for (int i = 0; i < 200; ++i) {
    const bool now = read(*other_) == "second";
    EXPECT_TRUE(now || !seen);
    seen = seen || now;
    ensemble_.cut(other_->session_id());
    advance(1ms);
    ensemble_.mend(other_->session_id());
    advance(1ms);
  }
  EXPECT_TRUE(seen);
  run(group.close());
}

TEST_F(EnsembleTest, AnOutageExpiresNobodyAndTheDeadHaveTheirTimeAgain) {
  struct Lock {
    static Task<void> create(coordination::Client& client) {
      CreateOptions options;
      options.ephemeral = true;
      co_await client.create("/lock", "", options);
    }
    static Task<void> there(coordination::Client& client, bool& is) {
      is = (co_await client.get("/lock")).has_value();
    }
  };
  run(Lock::create(*one_));
  ensemble_.bereave(one_->session_id(), 1s);
  ensemble_.begin_outage();
  advance(10s);
  EXPECT_EQ(code_of(other_->sync()), Code::unavailable);
  EXPECT_EQ(ensemble_.open_session(loop_)->state(), SessionState::connecting);
  ensemble_.end_outage();
  advance(kSession - 1s);
  EXPECT_EQ(other_->state(), SessionState::connected);
  bool there = false;
  run(Lock::there(*other_, there));
  EXPECT_TRUE(there);
  advance(2s);
  run(Lock::there(*other_, there));
  EXPECT_FALSE(there);
}

TEST_F(EnsembleTest, ACallThatWaitsForItsServerEndsWithTheConnection) {
  hold_all();
  std::optional<Code> code;
  runtime::TaskGroup group(loop_, [&code](std::exception_ptr error) {
    try {
      std::rethrow_exception(error);
    } catch (const Error& thrown) {
      code = thrown.code();
    }
  });
  group.spawn(write("/node", "second"));
  advance(1s);
  ensemble_.cut(one_->session_id());
  advance(1s);
  EXPECT_EQ(code, Code::outcome_unknown);
  run(group.close());
}

}  // namespace
}  // namespace datom::sim

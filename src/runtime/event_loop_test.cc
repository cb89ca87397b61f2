#include "runtime/event_loop.h"

#include <gmock/gmock.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "common/error.h"
#include "runtime/wait.h"

namespace datom::runtime {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using ::testing::ElementsAre;

TEST(EventLoop, RunsCallbacksInTheOrderTheyWerePosted) {
  EventLoop loop;
  std::vector<int> seen;
  loop.post([&] {
    loop.post([&] { seen.push_back(3); });
    loop.post([&] { loop.stop(); });
    seen.push_back(1);
  });
  loop.post([&] { seen.push_back(2); });
  loop.run();
  EXPECT_THAT(seen, ElementsAre(1, 2, 3));
}

TEST(EventLoop, IsCurrentOnlyInsideItsCallbacks) {
  EventLoop loop;
  bool inside = false;
  loop.post([&] {
    inside = loop.is_current();
    loop.stop();
  });
  EXPECT_FALSE(loop.is_current());
  loop.run();
  EXPECT_TRUE(inside);
  EXPECT_FALSE(loop.is_current());
}

TEST(EventLoop, WakesForAPostFromAnotherThread) {
  EventLoop loop;
  std::atomic<bool> ran_there = false;
  std::thread runner([&] { loop.run(); });
  for (int i = 0; i < 1000; ++i) loop.post([] {});
  loop.post([&] {
    ran_there = loop.is_current();
    loop.stop();
  });
  runner.join();
  EXPECT_TRUE(ran_there);
}

TEST(EventLoop, WaitsByEpollWhereItIsTold) {
  EventLoop loop(EventLoop::Waiting::epoll);
  std::string why;
  EXPECT_EQ(loop.ring(&why), nullptr);
  EXPECT_FALSE(why.empty());
  bool timer_ran = false;
  bool post_ran = false;
  std::thread other;
  loop.start_timer(loop.now() + milliseconds(1), [&] {
    timer_ran = true;
    other = std::thread([&] {
      loop.post([&] {
        post_ran = true;
        loop.stop();
      });
    });
  });
  loop.run();
  other.join();
  EXPECT_TRUE(timer_ran);
  EXPECT_TRUE(post_ran);
}

TEST(EventLoop, KeepsTheOrderOfEachPostingThread) {
  EventLoop loop;
  constexpr int kEach = 2000;
  int last[2] = {-1, -1};
  bool ordered = true;
  int left = 2 * kEach;
  auto produce = [&](int who) {
    for (int i = 0; i < kEach; ++i) {
      loop.post([&, who, i] {
        ordered = ordered && last[who] == i - 1;
        last[who] = i;
        if (--left == 0) loop.stop();
      });
    }
  };
  std::thread first(produce, 0);
  std::thread second(produce, 1);
  loop.run();
  first.join();
  second.join();
  EXPECT_TRUE(ordered);
}

TEST(EventLoop, StopBeforeRunIsNotLost) {
  EventLoop loop;
  loop.stop();
  loop.run();
  bool ran = false;
  loop.post([&] {
    ran = true;
    loop.stop();
  });
  loop.run();
  EXPECT_TRUE(ran);
}

TEST(EventLoop, StopsAfterTheCallbackUnderWay) {
  EventLoop loop;
  bool next_ran = false;
  loop.post([&] { loop.stop(); });
  loop.post([&] { next_ran = true; });
  loop.run();
  EXPECT_FALSE(next_ran);
}

TEST(EventLoop, DestroysCallbacksThatAreLeftWithoutRunningThem) {
  auto token = std::make_shared<int>(0);
  bool ran = false;
  {
    EventLoop loop;
    loop.post([token, &ran] { ran = true; });
    loop.start_timer(loop.now(), [token, &ran] { ran = true; });
    EXPECT_EQ(token.use_count(), 3);
  }
  EXPECT_FALSE(ran);
  EXPECT_EQ(token.use_count(), 1);
}

TEST(EventLoop, DestroysWhatADestroyedCallbackPosts) {
  struct PostsAtTheEnd {
    EventLoop& loop;
    std::shared_ptr<int> token;
    ~PostsAtTheEnd() {
      loop.post([kept = token] {});
    }
  };
  auto token = std::make_shared<int>(0);
  {
    EventLoop loop;
    auto last_words = std::make_shared<PostsAtTheEnd>(loop, token);
    loop.post([moved = std::move(last_words)] {});
  }
  EXPECT_EQ(token.use_count(), 1);
}

TEST(EventLoop, FiresTimersInTheOrderOfTheirDeadlines) {
  EventLoop loop;
  std::vector<int> seen;
  const Time start = loop.now();
  loop.start_timer(start + milliseconds(3), [&] {
    seen.push_back(3);
    EXPECT_GE(loop.now(), start + milliseconds(3));
    loop.stop();
  });
  loop.start_timer(start + milliseconds(1), [&] { seen.push_back(1); });
  loop.start_timer(start + milliseconds(2), [&] { seen.push_back(2); });
  loop.run();
  EXPECT_THAT(seen, ElementsAre(1, 2, 3));
}

TEST(EventLoop, FiresATimerThatIsAlreadyDue) {
  EventLoop loop;
  loop.start_timer(Time{}, [&] { loop.stop(); });
  loop.run();
}

TEST(EventLoop, RearmsForALaterTimerAfterAnEarlierOneWasCancelled) {
  EventLoop loop;
  bool cancelled_ran = false;
  const Time start = loop.now();
  const Loop::TimerId early =
      loop.start_timer(start + milliseconds(1), [&] { cancelled_ran = true; });
  loop.start_timer(start + milliseconds(3), [&] { loop.stop(); });
  EXPECT_TRUE(loop.cancel_timer(early));
  EXPECT_FALSE(loop.cancel_timer(early));
  loop.run();
  EXPECT_FALSE(cancelled_ran);
}

TEST(EventLoop, ATimerCancelledByAnotherThatIsDueWithItDoesNotRun) {
  EventLoop loop;
  bool second_ran = false;
  Loop::TimerId second = 0;
  loop.start_timer(Time{}, [&] {
    EXPECT_TRUE(loop.cancel_timer(second));
    loop.post([&] { loop.stop(); });
  });
  second = loop.start_timer(Time{} + Duration(1), [&] { second_ran = true; });
  loop.run();
  EXPECT_FALSE(second_ran);
}

Task<void> spin_until(EventLoop& loop, const bool& done) {
  while (!done) co_await switch_to(loop);
}

TEST(EventLoop, TimersFireWhileCallbacksKeepComing) {
  EventLoop loop;
  bool fired = false;
  loop.start_timer(loop.now() + milliseconds(1), [&] { fired = true; });
  loop.run(spin_until(loop, fired));
  EXPECT_TRUE(fired);
}

Task<void> fail_after_a_turn(EventLoop& loop) {
  co_await switch_to(loop);
  throw Error(Code::conflict, "as {}", "planned");
}

TEST(EventLoop, RunOfATaskThrowsWhatTheTaskThrows) {
  EventLoop loop;
  EXPECT_THROW(loop.run(fail_after_a_turn(loop)), Error);
  bool done = true;
  loop.run(spin_until(loop, done));
}

Task<void> stop_and_go_on(EventLoop& loop, bool& ended) {
  loop.stop();
  co_await switch_to(loop);
  ended = true;
}

TEST(EventLoop, RunOfATaskLastsUntilTheTaskEndsWhateverIsStopped) {
  EventLoop loop;
  bool ended = false;
  loop.run(stop_and_go_on(loop, ended));
  EXPECT_TRUE(ended);
}

TEST(EventLoop, DestructionWithASleepingTimerIsClean) {
  EventLoop loop;
  loop.start_timer(loop.now() + hours(1), [] {});
  loop.stop();
  loop.run();
}

TEST(SystemRandom, GivesDifferentSequencesEachTime) {
  SystemRandom first;
  SystemRandom second;
  EXPECT_NE(first.next(), second.next());
  EXPECT_NE(first.next(), first.next());
}

TEST(SystemRandom, SetsEveryBitNowAndThen) {
  SystemRandom random;
  std::uint64_t any = 0;
  std::uint64_t all = ~std::uint64_t{0};
  for (int i = 0; i < 200; ++i) {
    const std::uint64_t value = random.next();
    any |= value;
    all &= value;
  }
  EXPECT_EQ(any, ~std::uint64_t{0});
  EXPECT_EQ(all, 0u);
}

}  // namespace
}  // namespace datom::runtime

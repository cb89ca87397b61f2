#include "runtime/wait.h"

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "runtime/task_group.h"
#include "runtime/virtual_loop.h"

namespace datom::runtime {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class WaitTest : public ::testing::Test {
 protected:
  ~WaitTest() override { loop_.run(group_.close()); }

  VirtualLoop loop_;
  TaskGroup group_{loop_, [](std::exception_ptr error) { std::rethrow_exception(error); }};
  std::vector<std::string> seen_;
};

Task<void> wait_for(Event& event, std::string name, std::vector<std::string>& seen) {
  co_await event.wait();
  seen.push_back(name);
}

TEST_F(WaitTest, SettingAnEventWakesAllWaitersThroughTheLoop) {
  Event event(loop_);
  group_.spawn(wait_for(event, "a", seen_));
  group_.spawn(wait_for(event, "b", seen_));
  loop_.run_ready();
  EXPECT_THAT(seen_, IsEmpty());
  event.set();
  EXPECT_THAT(seen_, IsEmpty());
  loop_.run_ready();
  EXPECT_THAT(seen_, ElementsAre("a", "b"));
}

TEST_F(WaitTest, ASetEventDoesNotMakeAnyoneWaitUntilItIsCleared) {
  Event event(loop_);
  event.set();
  group_.spawn(wait_for(event, "a", seen_));
  EXPECT_THAT(seen_, ElementsAre("a"));
  event.clear();
  group_.spawn(wait_for(event, "b", seen_));
  loop_.run_ready();
  EXPECT_THAT(seen_, ElementsAre("a"));
  event.wake_all();
  loop_.run_ready();
  EXPECT_THAT(seen_, ElementsAre("a", "b"));
  EXPECT_FALSE(event.is_set());
}

Task<void> sleep_once(VirtualLoop& loop, Timer& timer, Duration time,
                      std::vector<std::string>& seen) {
  const Time start = loop.now();
  const bool came = co_await timer.sleep_for(time);
  seen.push_back((came ? "slept " : "cancelled after ") +
                 std::to_string((loop.now() - start) / seconds(1)));
}

TEST_F(WaitTest, ATimerSleepsItsTime) {
  Timer timer(loop_);
  group_.spawn(sleep_once(loop_, timer, seconds(5), seen_));
  loop_.advance(seconds(4));
  EXPECT_THAT(seen_, IsEmpty());
  loop_.advance(seconds(1));
  EXPECT_THAT(seen_, ElementsAre("slept 5"));
}

TEST_F(WaitTest, CancellingATimerWakesTheSleeperEarlyAndOnce) {
  Timer timer(loop_);
  group_.spawn(sleep_once(loop_, timer, seconds(5), seen_));
  loop_.advance(seconds(2));
  timer.cancel();
  timer.cancel();
  EXPECT_THAT(seen_, IsEmpty());
  loop_.advance(seconds(10));
  EXPECT_THAT(seen_, ElementsAre("cancelled after 2"));
}

TEST_F(WaitTest, ACancelledTimerStaysSoUntilReset) {
  Timer timer(loop_);
  timer.cancel();
  group_.spawn(sleep_once(loop_, timer, seconds(5), seen_));
  EXPECT_THAT(seen_, ElementsAre("cancelled after 0"));
  timer.reset();
  group_.spawn(sleep_once(loop_, timer, seconds(5), seen_));
  loop_.advance(seconds(5));
  EXPECT_THAT(seen_, ElementsAre("cancelled after 0", "slept 5"));
}

Task<void> cancel_at(VirtualLoop& loop, Timer& timer, Time when) {
  Timer own(loop);
  co_await own.sleep_until(when);
  timer.cancel();
}

TEST_F(WaitTest, CancellingATimerInTheMomentItIsDueWakesTheSleeperOnce) {
  Timer timer(loop_);
  const Time due = loop_.now() + seconds(5);
  group_.spawn(cancel_at(loop_, timer, due));
  group_.spawn(sleep_once(loop_, timer, seconds(5), seen_));
  loop_.advance(seconds(10));
  EXPECT_THAT(seen_, ElementsAre("cancelled after 5"));
}

Task<void> push_numbers(Queue<int>& queue, int count, std::vector<std::string>& seen) {
  for (int i = 0; i < count; ++i) {
    const bool taken = co_await queue.push(i);
    seen.push_back((taken ? "pushed " : "refused ") + std::to_string(i));
  }
}

Task<void> pop_all(Queue<int>& queue, std::vector<std::string>& seen) {
  for (;;) {
    const std::optional<int> item = co_await queue.pop();
    if (!item) break;
    seen.push_back("popped " + std::to_string(*item));
  }
  seen.push_back("end");
}

TEST_F(WaitTest, AFullQueueTakesNothingMore) {
  Queue<std::unique_ptr<int>> queue(loop_, 2);
  EXPECT_TRUE(queue.try_push(std::make_unique<int>(1)));
  EXPECT_TRUE(queue.try_push(std::make_unique<int>(2)));
  auto third = std::make_unique<int>(3);
  EXPECT_FALSE(queue.try_push(std::move(third)));
  EXPECT_NE(third, nullptr);
  EXPECT_EQ(queue.size(), 2u);
  EXPECT_EQ(**queue.try_pop(), 1);
  EXPECT_TRUE(queue.try_push(std::move(third)));
}

TEST_F(WaitTest, PushingIntoAFullQueueWaitsForRoom) {
  Queue<int> queue(loop_, 2);
  group_.spawn(push_numbers(queue, 3, seen_));
  loop_.run_ready();
  EXPECT_THAT(seen_, ElementsAre("pushed 0", "pushed 1"));
  EXPECT_EQ(queue.try_pop(), 0);
  loop_.run_ready();
  EXPECT_THAT(seen_, ElementsAre("pushed 0", "pushed 1", "pushed 2"));
}

TEST_F(WaitTest, WaitingProducersNeverOverfillAQueue) {
  Queue<int> queue(loop_, 2);
  std::vector<std::string> ignored;
  for (int i = 0; i < 5; ++i) group_.spawn(push_numbers(queue, 4, ignored));
  for (int popped = 0; popped < 20; ++popped) {
    loop_.run_ready();
    EXPECT_LE(queue.size(), 2u);
    EXPECT_TRUE(queue.try_pop());
  }
  loop_.run_ready();
}

TEST_F(WaitTest, AClosedQueueIsDrainedAndThenEnds) {
  Queue<int> queue(loop_, 2);
  group_.spawn(push_numbers(queue, 3, seen_));
  loop_.run_ready();
  queue.close();
  group_.spawn(pop_all(queue, seen_));
  loop_.run_ready();
  EXPECT_THAT(seen_,
              ElementsAre("pushed 0", "pushed 1", "popped 0", "popped 1", "end", "refused 2"));
  EXPECT_FALSE(queue.try_push(9));
}

TEST_F(WaitTest, ClosingAnEmptyQueueWakesItsConsumer) {
  Queue<int> queue(loop_, 2);
  group_.spawn(pop_all(queue, seen_));
  loop_.run_ready();
  queue.close();
  loop_.run_ready();
  EXPECT_THAT(seen_, ElementsAre("end"));
}

Task<void> work_alone(VirtualLoop& loop, Mutex& mutex, std::string name,
                      std::vector<std::string>& seen) {
  const Mutex::Holder holder = co_await mutex.lock();
  seen.push_back(name + " in");
  Timer timer(loop);
  co_await timer.sleep_for(seconds(1));
  seen.push_back(name + " out");
}

TEST_F(WaitTest, AMutexLetsTasksInOneByOneInTheOrderTheyCame) {
  Mutex mutex(loop_);
  for (const char* name : {"a", "b", "c"}) group_.spawn(work_alone(loop_, mutex, name, seen_));
  loop_.advance(seconds(10));
  EXPECT_THAT(seen_, ElementsAre("a in", "a out", "b in", "b out", "c in", "c out"));
}

TEST_F(WaitTest, ANewcomerDoesNotOvertakeThoseWhoWaitForAMutex) {
  Mutex mutex(loop_);
  group_.spawn(work_alone(loop_, mutex, "a", seen_));
  group_.spawn(work_alone(loop_, mutex, "b", seen_));
  loop_.start_timer(loop_.now() + seconds(1),
                    [this, &mutex] { group_.spawn(work_alone(loop_, mutex, "late", seen_)); });
  loop_.advance(seconds(10));
  EXPECT_THAT(seen_, ElementsAre("a in", "a out", "b in", "b out", "late in", "late out"));
}

}  // namespace
}  // namespace datom::runtime

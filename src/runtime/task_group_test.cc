#include "runtime/task_group.h"

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "common/error.h"
#include "runtime/virtual_loop.h"

namespace datom::runtime {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string text_of(std::exception_ptr error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& thrown) {
    return thrown.what();
  }
}

class TaskGroupTest : public ::testing::Test {
 protected:
  VirtualLoop loop_;
  std::vector<std::string> errors_;
  TaskGroup group_{loop_, [this](std::exception_ptr error) { errors_.push_back(text_of(error)); }};
};

Task<void> wait_for(Event& event) {
  co_await event.wait();
}

Task<void> fail_after(Event& event, std::string text) {
  co_await event.wait();
  throw Error(Code::internal, text);
}

Task<void> close_and_tell(TaskGroup& group, bool& closed) {
  co_await group.close();
  closed = true;
}

TEST_F(TaskGroupTest, SpawnRunsATaskUntilItsFirstWait) {
  Event event(loop_);
  group_.spawn(wait_for(event));
  EXPECT_EQ(group_.running(), 1u);
  event.set();
  group_.spawn(wait_for(event));
  EXPECT_EQ(group_.running(), 1u);
  loop_.run_ready();
  EXPECT_EQ(group_.running(), 0u);
}

TEST_F(TaskGroupTest, CloseWaitsForEveryTask) {
  Event first(loop_);
  Event second(loop_);
  group_.spawn(wait_for(first));
  group_.spawn(wait_for(second));
  bool closed = false;
  TaskGroup closers(loop_, [](std::exception_ptr) {});
  closers.spawn(close_and_tell(group_, closed));
  EXPECT_TRUE(group_.closing());
  first.set();
  loop_.run_ready();
  EXPECT_FALSE(closed);
  second.set();
  loop_.run_ready();
  EXPECT_TRUE(closed);
}

TEST_F(TaskGroupTest, CloseOfAnIdleGroupReturnsAtOnce) {
  loop_.run(group_.close());
  EXPECT_TRUE(group_.closing());
}

TEST_F(TaskGroupTest, OnErrorHearsWhatEndsATaskAndTheOthersGoOn) {
  Event event(loop_);
  Event other(loop_);
  group_.spawn(fail_after(event, "one"));
  group_.spawn(wait_for(other));
  group_.spawn(fail_after(event, "two"));
  event.set();
  loop_.run_ready();
  EXPECT_THAT(errors_, ElementsAre("one", "two"));
  EXPECT_EQ(group_.running(), 1u);
  other.set();
  loop_.run(group_.close());
}

struct TellsItsEnd {
  explicit TellsItsEnd(bool& ended) : ended_(ended) {}
  ~TellsItsEnd() { ended_ = true; }
  TellsItsEnd(const TellsItsEnd&) = delete;
  bool& ended_;
};

Task<void> hold(std::unique_ptr<TellsItsEnd> held, Event& event) {
  co_await event.wait();
  EXPECT_FALSE(held->ended_);
}

TEST_F(TaskGroupTest, WhatATaskOwnsIsGoneWhenCloseReturns) {
  Event event(loop_);
  bool ended = false;
  group_.spawn(hold(std::make_unique<TellsItsEnd>(ended), event));
  event.set();
  loop_.run(group_.close());
  EXPECT_TRUE(ended);
}

Task<void> spawn_another(TaskGroup& group, Event& event) {
  co_await event.wait();
  group.spawn(wait_for(event));
}

TEST_F(TaskGroupTest, ATaskMaySpawnIntoItsOwnGroup) {
  Event event(loop_);
  group_.spawn(spawn_another(group_, event));
  event.set();
  loop_.run_ready();
  loop_.run(group_.close());
  EXPECT_THAT(errors_, IsEmpty());
  EXPECT_EQ(group_.running(), 0u);
}

}  // namespace
}  // namespace datom::runtime

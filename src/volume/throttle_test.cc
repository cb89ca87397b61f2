#include "volume/throttle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "runtime/task_group.h"
#include "runtime/virtual_loop.h"

namespace datom::volume {
namespace {

using namespace std::chrono_literals;

class ThrottleTest : public ::testing::Test {
 protected:
  ~ThrottleTest() override {
    throttle_.abandon();
    loop_.run(tasks_.close());
  }
  void ask(std::uint64_t session, int many, std::uint64_t bytes = 4096) {
    for (int i = 0; i < many; ++i) tasks_.spawn(one(session, bytes));
    loop_.run_ready();
  }
  runtime::Task<void> one(std::uint64_t session, std::uint64_t bytes) {
    co_await throttle_.admit(Op(session), bytes);
    ++gone_;
    order_ += std::to_string(session);
  }

  runtime::VirtualLoop loop_;
  Throttle throttle_{loop_};
  runtime::TaskGroup tasks_{loop_, [](std::exception_ptr error) { std::rethrow_exception(error); }};
  int gone_ = 0;
  std::string order_;
};

TEST_F(ThrottleTest, ByItselfThereIsNoLimit) {
  EXPECT_FALSE(throttle_.limited());
  throttle_.set({100, 0, 0});
  EXPECT_TRUE(throttle_.limited());
  throttle_.set({0, 5, 0});
  EXPECT_TRUE(throttle_.limited());
  throttle_.set({0, 0, 10});
  EXPECT_FALSE(throttle_.limited());
}

TEST_F(ThrottleTest, SoManyRequestsASecondAndNoMore) {
  throttle_.set({100, 0, 0});
  ask(1, 1000);
  EXPECT_EQ(gone_, 1);
  loop_.advance(1s);
  EXPECT_EQ(gone_, 101);
  loop_.advance(5s);
  EXPECT_EQ(gone_, 601);
}

TEST_F(ThrottleTest, SoManyBytesASecondAndNoMore) {
  throttle_.set({0, 10, 0});
  ask(1, 1000, 1 << 20);
  loop_.advance(3s);
  EXPECT_EQ(gone_, 31);
}

TEST_F(ThrottleTest, TheStricterOfBothLimitsCounts) {
  throttle_.set({1000, 10, 0});
  ask(1, 500, 1 << 20);
  loop_.advance(1s);
  EXPECT_EQ(gone_, 11);
}

TEST_F(ThrottleTest, WhatWasNotUsedMayBeMadeUpForAsFarAsTheBurst) {
  throttle_.set({100, 0, 2});
  loop_.advance(1h);
  ask(1, 1000);
  EXPECT_EQ(gone_, 201);
  loop_.advance(1s);
  EXPECT_EQ(gone_, 301);
}

TEST_F(ThrottleTest, SessionsTakeTurnsHoweverMuchOneAsksFor) {
  throttle_.set({100, 0, 0});
  ask(1, 100);
  ask(2, 5);
  order_.clear();
  loop_.advance(100ms);
  EXPECT_EQ(order_, "2121212121");
}

TEST_F(ThrottleTest, AnotherLimitHoldsAtOnceForThoseThatWait) {
  throttle_.set({1, 0, 0});
  ask(1, 1000);
  EXPECT_EQ(gone_, 1);
  throttle_.set({100, 0, 0});
  loop_.advance(1s);
  EXPECT_GE(gone_, 101);
  EXPECT_LE(gone_, 102);
  throttle_.set({0, 0, 0});
  loop_.run_ready();
  EXPECT_EQ(gone_, 1000);
}

TEST_F(ThrottleTest, ThoseThatAreAbandonedGoAtOnce) {
  throttle_.set({1, 0, 0});
  ask(1, 10);
  throttle_.abandon();
  loop_.run_ready();
  EXPECT_EQ(gone_, 10);
}

}  // namespace
}  // namespace datom::volume

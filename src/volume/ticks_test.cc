#include "volume/ticks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "runtime/virtual_loop.h"

namespace datom::volume {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;

class TicksTest : public ::testing::Test {
 protected:
  runtime::Time after(runtime::Duration time) const { return start_ + time; }
  std::unique_ptr<Tick> tick(int number) {
    return std::make_unique<Tick>(ticks_, [this, number] { called_.push_back(number); });
  }

  runtime::VirtualLoop loop_;
  const runtime::Time start_ = loop_.now();
  int steps_ = 0;
  Ticks ticks_{loop_, [this](const std::function<void()>& calls) {
                 ++steps_;
                 calls();
               }};
  std::vector<int> called_;
};

TEST_F(TicksTest, EachIsCalledOnceAtItsTime) {
  const auto one = tick(1);
  const auto two = tick(2);
  one->at(after(20ms));
  two->at(after(10ms));
  loop_.advance(9ms);
  EXPECT_THAT(called_, ElementsAre());
  loop_.advance(1ms);
  EXPECT_THAT(called_, ElementsAre(2));
  EXPECT_EQ(two->due(), runtime::Time::max());
  loop_.advance(1s);
  EXPECT_THAT(called_, ElementsAre(2, 1));
}

TEST_F(TicksTest, TheLastTimeAskedForCounts) {
  const auto one = tick(1);
  one->at(after(10ms));
  one->at(after(30ms));
  loop_.advance(20ms);
  EXPECT_THAT(called_, ElementsAre());
  one->at(after(25ms));
  loop_.advance(5ms);
  EXPECT_THAT(called_, ElementsAre(1));
  loop_.advance(1s);
  EXPECT_THAT(called_, ElementsAre(1));
}

TEST_F(TicksTest, ThoseOfTheSameTimeAreCalledInOneStep) {
  std::vector<std::unique_ptr<Tick>> many;
  for (int i = 0; i < 50; ++i) {
    many.push_back(tick(i));
    many.back()->at(after(10ms));
  }
  loop_.advance(10ms);
  EXPECT_EQ(called_.size(), 50u);
  EXPECT_EQ(steps_, 1);
}

TEST_F(TicksTest, AStepIsBoundedAndNobodyIsForgotten) {
  std::vector<std::unique_ptr<Tick>> many;
  for (int i = 0; i < 500; ++i) {
    many.push_back(tick(i));
    many.back()->at(after(10ms));
  }
  loop_.advance(10ms);
  EXPECT_EQ(called_.size(), 500u);
  EXPECT_GT(steps_, 5);
}

TEST_F(TicksTest, OneThatGoesIsNotCalled) {
  auto one = tick(1);
  auto two = tick(2);
  Tick killer(ticks_, [&] { two.reset(); });
  killer.at(after(10ms));
  two->at(after(10ms));
  one->at(after(10ms));
  one->cancel();
  loop_.advance(1s);
  EXPECT_THAT(called_, ElementsAre());
}

TEST_F(TicksTest, OneMayAskForAnotherTimeWhenItIsCalled) {
  int calls = 0;
  Tick again(ticks_, [&] {
    if (++calls < 3) again.at(next_multiple(loop_.now(), 10ms));
  });
  again.at(after(1ms));
  loop_.advance(1s);
  EXPECT_EQ(calls, 3);
}

TEST(NextMultiple, IsLaterAndTheSameForAllWithinAnInterval) {
  const runtime::Time at(1000ms);
  EXPECT_EQ(next_multiple(at, 200ms), runtime::Time(1200ms));
  EXPECT_EQ(next_multiple(at + 1ns, 200ms), runtime::Time(1200ms));
  EXPECT_EQ(next_multiple(at + 199ms, 200ms), runtime::Time(1200ms));
}

}  // namespace
}  // namespace datom::volume

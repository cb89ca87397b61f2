#include "runtime/task.h"

#include <gmock/gmock.h>

#include <memory>
#include <string>

#include "common/error.h"
#include "runtime/virtual_loop.h"

namespace datom::runtime {
namespace {

Task<int> answer(bool& ran) {
  ran = true;
  co_return 42;
}

Task<void> await_later(VirtualLoop& loop, bool& ran) {
  Task<int> task = answer(ran);
  co_await switch_to(loop);
  EXPECT_FALSE(ran);
  const int value = co_await std::move(task);
  EXPECT_EQ(value, 42);
}

TEST(Task, RunsOnlyWhenAwaited) {
  VirtualLoop loop;
  bool ran = false;
  loop.run(await_later(loop, ran));
  EXPECT_TRUE(ran);
}

TEST(Task, NeverAwaitedNeverRuns) {
  bool ran = false;
  {
    Task<int> dropped = answer(ran);
  }
  EXPECT_FALSE(ran);
}

Task<std::unique_ptr<std::string>> make_text(VirtualLoop& loop) {
  co_await switch_to(loop);
  co_return std::make_unique<std::string>("moved");
}

Task<void> take_text(VirtualLoop& loop, std::string& text) {
  const std::unique_ptr<std::string> made = co_await make_text(loop);
  text = *made;
}

TEST(Task, GivesValuesThatOnlyMove) {
  VirtualLoop loop;
  std::string text;
  loop.run(take_text(loop, text));
  EXPECT_EQ(text, "moved");
}

Task<int> fail_deep(VirtualLoop& loop, int depth) {
  if (depth == 0) {
    co_await switch_to(loop);
    throw Error(Code::conflict, "at the bottom");
  }
  const int value = co_await fail_deep(loop, depth - 1);
  co_return value + 1;
}

Task<void> catch_and_go_on(VirtualLoop& loop, std::string& caught) {
  try {
    co_await fail_deep(loop, 10);
  } catch (const Error& error) {
    caught = error.what();
  }
  co_await switch_to(loop);
  caught += ", and on";
}

TEST(Task, AnExceptionLeavesThroughEveryAwait) {
  VirtualLoop loop;
  std::string caught;
  loop.run(catch_and_go_on(loop, caught));
  EXPECT_EQ(caught, "at the bottom, and on");
  EXPECT_THROW(
      loop.run([](VirtualLoop& inner) -> Task<void> { co_await fail_deep(inner, 1); }(loop)),
      Error);
}

Task<int> count_down(int left) {
  if (left == 0) co_return 0;
  const int below = co_await count_down(left - 1);
  co_return below + 1;
}

Task<void> many_in_turn(int& sum) {
  for (int i = 0; i < 100'000; ++i) sum += co_await count_down(1);
}

// Without the symmetric transfer each of them would leave a frame on the stack.
TEST(Task, AwaitingOneAfterAnotherDoesNotGrowTheStack) {
  VirtualLoop loop;
  int sum = 0;
  loop.run(many_in_turn(sum));
  EXPECT_EQ(sum, 100'000);
}

struct CountsItself {
  explicit CountsItself(int& count) : count_(count) { ++count_; }
  ~CountsItself() { --count_; }
  CountsItself(const CountsItself&) = delete;
  int& count_;
};

Task<void> hold_one(VirtualLoop& loop, int& alive) {
  const CountsItself local(alive);
  co_await switch_to(loop);
  EXPECT_EQ(alive, 1);
  throw Error(Code::cancelled, "on the way out");
}

TEST(Task, ItsLocalsEndWithItAlsoWhenItThrows) {
  VirtualLoop loop;
  int alive = 0;
  EXPECT_THROW(loop.run(hold_one(loop, alive)), Error);
  EXPECT_EQ(alive, 0);
}

}  // namespace
}  // namespace datom::runtime

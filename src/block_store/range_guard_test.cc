#include "block_store/range_guard.h"

#include <gmock/gmock.h>

#include <string>

#include "runtime/task_group.h"
#include "runtime/virtual_loop.h"

namespace datom::block_store {
namespace {

using ::testing::ElementsAre;

class Guarded : public ::testing::Test {
 protected:
  static runtime::Task<void> hold_read(Guarded* test, std::string name, BlockRange range,
                                       runtime::Event* until) {
    const RangeGuard::Reading reading = co_await test->guard_.read(range);
    test->seen_.push_back(name);
    co_await until->wait();
    test->seen_.push_back(name + " ends");
  }
  static runtime::Task<void> hold_write(Guarded* test, std::string name,
                                        std::vector<BlockRange> ranges, runtime::Event* until) {
    const RangeGuard::Writing writing = co_await test->guard_.write(std::move(ranges));
    test->seen_.push_back(name);
    co_await until->wait();
    test->seen_.push_back(name + " ends");
  }
  void read(std::string name, BlockRange range, runtime::Event& until) {
    tasks_.spawn(hold_read(this, std::move(name), range, &until));
    loop_.run_ready();
  }
  void write(std::string name, std::vector<BlockRange> ranges, runtime::Event& until) {
    tasks_.spawn(hold_write(this, std::move(name), std::move(ranges), &until));
    loop_.run_ready();
  }
  void set(runtime::Event& event) {
    event.set();
    loop_.run_ready();
  }
  void TearDown() override { loop_.run(tasks_.close()); }

  runtime::VirtualLoop loop_;
  RangeGuard guard_{loop_};
  runtime::TaskGroup tasks_{loop_, [](std::exception_ptr error) { std::rethrow_exception(error); }};
  runtime::Event first_{loop_};
  runtime::Event second_{loop_};
  std::vector<std::string> seen_;
};

TEST_F(Guarded, AReaderWaitsOnlyForAWriterOfItsBlocks) {
  write("write", {{10, 20}, {0, 5}}, first_);
  read("beside", {5, 10}, second_);
  read("inside", {15, 16}, second_);
  read("across", {4, 6}, second_);
  EXPECT_THAT(seen_, ElementsAre("write", "beside"));
  set(first_);
  EXPECT_THAT(seen_, ElementsAre("write", "beside", "write ends", "inside", "across"));
  set(second_);
}

TEST_F(Guarded, AWriterWaitsOnlyForReadersOfItsBlocks) {
  read("read", {10, 20}, first_);
  write("beside", {{0, 10}, {20, 30}}, second_);
  EXPECT_THAT(seen_, ElementsAre("read", "beside"));
  set(second_);
  write("inside", {{0, 11}}, second_);
  EXPECT_THAT(seen_, ElementsAre("read", "beside", "beside ends"));
  set(first_);
  EXPECT_THAT(seen_,
              ElementsAre("read", "beside", "beside ends", "read ends", "inside", "inside ends"));
}

TEST_F(Guarded, WritersGoOneAfterTheOther) {
  write("one", {{0, 1}}, first_);
  write("two", {{5, 6}}, second_);
  EXPECT_THAT(seen_, ElementsAre("one"));
  set(first_);
  EXPECT_THAT(seen_, ElementsAre("one", "one ends", "two"));
  set(second_);
}

TEST_F(Guarded, AReaderThatWaitedGoesBeforeTheNextWriter) {
  write("one", {{0, 10}}, first_);
  read("reader", {0, 10}, second_);
  write("two", {{0, 10}}, second_);
  set(first_);
  EXPECT_THAT(seen_, ElementsAre("one", "one ends", "reader"));
  set(second_);
  EXPECT_THAT(seen_, ElementsAre("one", "one ends", "reader", "reader ends", "two", "two ends"));
}

TEST_F(Guarded, AWriterThatWaitsGoesBeforeLaterReaders) {
  read("early", {0, 10}, first_);
  write("writer", {{0, 10}}, second_);
  read("late", {0, 10}, second_);
  set(first_);
  EXPECT_THAT(seen_, ElementsAre("early", "early ends", "writer"));
  set(second_);
  EXPECT_THAT(seen_,
              ElementsAre("early", "early ends", "writer", "writer ends", "late", "late ends"));
}

}  // namespace
}  // namespace datom::block_store

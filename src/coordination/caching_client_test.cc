#include "coordination/caching_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "coordination/memory/memory.h"
#include "runtime/virtual_loop.h"

namespace datom::coordination {
namespace {

using runtime::Task;
using ::testing::ElementsAre;

// Counts what is asked of the tree.
class CountingClient final : public Client {
 public:
  explicit CountingClient(Client& inner) : inner_(inner) {}
  int reads = 0;

  Task<std::string> create(std::string path, std::string data, CreateOptions options) override {
    return inner_.create(std::move(path), std::move(data), options);
  }
  Task<Version> set(std::string path, std::string data, Version expected) override {
    return inner_.set(std::move(path), std::move(data), expected);
  }
  Task<void> remove(std::string path, Version expected) override {
    return inner_.remove(std::move(path), expected);
  }
  Task<std::vector<OperationResult>> multi(std::vector<Operation> operations) override {
    return inner_.multi(std::move(operations));
  }
  Task<std::optional<Node>> get(std::string path) override {
    ++reads;
    return inner_.get(std::move(path));
  }
  Task<std::optional<Node>> get(std::string path, OnChange on_change, WatchHandle& watch) override {
    ++reads;
    return inner_.get(std::move(path), std::move(on_change), watch);
  }
  Task<std::optional<std::vector<std::string>>> children(std::string path) override {
    ++reads;
    return inner_.children(std::move(path));
  }
  Task<std::optional<std::vector<std::string>>> children(std::string path, OnChange on_change,
                                                         WatchHandle& watch) override {
    ++reads;
    return inner_.children(std::move(path), std::move(on_change), watch);
  }
  Task<void> sync() override { return inner_.sync(); }
  SessionState state() const override { return inner_.state(); }
  std::int64_t session_id() const override { return inner_.session_id(); }
  WatchHandle watch_session(std::function<void(SessionState)> on_state) override {
    return inner_.watch_session(std::move(on_state));
  }

 private:
  Client& inner_;
};

class CachingClientTest : public ::testing::Test {
 protected:
  std::string data(const std::string& path) {
    std::string found;
    loop_.run([](Client& client, std::string at, std::string& into) -> Task<void> {
      const auto node = co_await client.get(at);
      into = node ? node->data : "none";
    }(caching_, path, found));
    return found;
  }
  std::vector<std::string> names(const std::string& path) {
    std::vector<std::string> found;
    loop_.run([](Client& client, std::string at, std::vector<std::string>& into) -> Task<void> {
      const auto children = co_await client.children(at);
      into = children.value_or(std::vector<std::string>{"none"});
    }(caching_, path, found));
    return found;
  }
  Code code_of(Task<void> task) {
    try {
      loop_.run(std::move(task));
    } catch (const Error& error) {
      return error.code();
    }
    return Code::internal;
  }
  static Task<void> set(Client& client, std::string path, std::string to, Version expected) {
    co_await client.set(std::move(path), std::move(to), expected);
  }
  static Task<void> create(Client& client, std::string path, std::string to) {
    co_await client.create(std::move(path), std::move(to));
  }

  runtime::VirtualLoop loop_;
  MemoryTree tree_;
  std::unique_ptr<Client> other_ = tree_.open_session(loop_);
  std::unique_ptr<Client> own_ = tree_.open_session(loop_);
  CountingClient counting_{*own_};
  CachingClient caching_{counting_, 4};
};

TEST_F(CachingClientTest, WhatDoesNotChangeIsAskedForOnce) {
  loop_.run(create(*other_, "/a", "1"));
  loop_.run(create(*other_, "/a/b", ""));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(data("/a"), "1");
    EXPECT_THAT(names("/a"), ElementsAre("b"));
    EXPECT_EQ(data("/missing"), "none");
  }
  EXPECT_EQ(counting_.reads, 3);
}

TEST_F(CachingClientTest, AChangeByAnotherIsSeenAfterASync) {
  loop_.run(create(*other_, "/a", "1"));
  EXPECT_EQ(data("/a"), "1");
  EXPECT_EQ(data("/b"), "none");
  EXPECT_THAT(names("/a"), ElementsAre());
  loop_.run(set(*other_, "/a", "2", kAnyVersion));
  loop_.run(create(*other_, "/b", "new"));
  loop_.run(create(*other_, "/a/c", ""));
  loop_.run(caching_.sync());
  EXPECT_EQ(data("/a"), "2");
  EXPECT_EQ(data("/b"), "new");
  EXPECT_THAT(names("/a"), ElementsAre("c"));
}

TEST_F(CachingClientTest, ItsOwnWritesAreSeenAtOnce) {
  loop_.run(create(caching_, "/a", "1"));
  EXPECT_EQ(data("/a"), "1");
  loop_.run(set(caching_, "/a", "2", 0));
  EXPECT_EQ(data("/a"), "2");
}

TEST_F(CachingClientTest, AWriteThatFailedMakesItReadEverythingAnew) {
  loop_.run(create(*other_, "/a", "1"));
  EXPECT_EQ(data("/a"), "1");
  EXPECT_EQ(code_of(set(caching_, "/a", "2", 7)), Code::conflict);
  EXPECT_EQ(data("/a"), "1");
  EXPECT_EQ(counting_.reads, 2);
}

TEST_F(CachingClientTest, WithoutAConnectionNothingIsAnsweredFromMemory) {
  loop_.run(create(*other_, "/a", "1"));
  EXPECT_EQ(data("/a"), "1");
  tree_.disconnect(own_->session_id());
  EXPECT_THROW(data("/a"), Error);
  loop_.run(set(*other_, "/a", "2", kAnyVersion));
  tree_.reconnect(own_->session_id());
  loop_.run_ready();
  EXPECT_EQ(data("/a"), "2");
}

TEST_F(CachingClientTest, ItKeepsABoundedNumberOfAnswers) {
  for (int i = 0; i < 20; ++i) EXPECT_EQ(data("/" + std::to_string(i)), "none");
  EXPECT_EQ(data("/19"), "none");
  EXPECT_EQ(counting_.reads, 20);
  EXPECT_EQ(data("/0"), "none");
  EXPECT_EQ(counting_.reads, 21);
}

}  // namespace
}  // namespace datom::coordination

// What only the tree in memory has: persistence, sessions commanded from outside, virtual time.
// What it shares with ZooKeeper is in coordination_contract.h.
#include "coordination/memory/memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "common/error.h"
#include "runtime/event_loop.h"
#include "runtime/task_group.h"
#include "runtime/virtual_loop.h"

namespace datom::coordination {
namespace {

using runtime::EventLoop;
using runtime::Task;
using runtime::VirtualLoop;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Optional;

constexpr CreateOptions kEphemeral{true, false};
constexpr CreateOptions kSequential{false, true};

// Runs `task` and gives its result.
template <typename T>
T result_of(VirtualLoop& loop, Task<T> task) {
  std::optional<T> result;
  struct Store {
    static Task<void> run(Task<T> from, std::optional<T>& to) {
      T value = co_await std::move(from);
      to.emplace(std::move(value));
    }
  };
  loop.run(Store::run(std::move(task), result));
  return std::move(*result);
}

template <typename T>
Code code_of(VirtualLoop& loop, Task<T> task) {
  struct Run {
    static Task<void> run(Task<T> from) { co_await std::move(from); }
  };
  try {
    loop.run(Run::run(std::move(task)));
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "expected an error";
  return Code::internal;
}

TEST(MemoryTree, ItsPersistentNodesSurviveALoad) {
  VirtualLoop loop;
  std::string saved;
  std::int64_t created = 0;
  {
    MemoryTree tree([&](const std::string& json) { saved = json; });
    const auto client = tree.open_session(loop);
    loop.run(ensure_path(*client, "/datom/domains"));
    const std::string bytes("\"\x00\xff\n", 4);
    loop.run([](Client& c, std::string data) -> Task<void> {
      co_await c.create("/datom/raw", "");
      co_await c.set("/datom/raw", std::move(data));
      co_await c.create("/datom/domains/here", "", kEphemeral);
      co_await c.create("/datom/domains/s-", "", kSequential);
    }(*client, bytes));
    created = result_of(loop, client->get("/datom/domains/s-0000000001"))->stat.created;
  }
  MemoryTree tree;
  tree.load(saved);
  const auto client = tree.open_session(loop);
  const auto raw = result_of(loop, client->get("/datom/raw"));
  ASSERT_TRUE(raw);
  EXPECT_EQ(raw->data, std::string("\"\x00\xff\n", 4));
  EXPECT_EQ(raw->stat.version, 1);
  EXPECT_THAT(result_of(loop, client->children("/datom/domains")),
              Optional(ElementsAre("s-0000000001")));
  // Neither sequences nor transactions repeat.
  EXPECT_EQ(result_of(loop, client->create("/datom/domains/s-", "", kSequential)),
            "/datom/domains/s-0000000002");
  EXPECT_GT(result_of(loop, client->get("/datom/domains/s-0000000002"))->stat.created, created);
}

TEST(MemoryTree, EphemeralNodesAreNotSaved) {
  VirtualLoop loop;
  int saves = 0;
  MemoryTree tree([&](const std::string&) { ++saves; });
  const auto client = tree.open_session(loop);
  result_of(loop, client->create("/a", "", kEphemeral));
  result_of(loop, client->set("/a", "1", kAnyVersion));
  loop.run(client->remove("/a"));
  result_of(loop, client->create("/b", "", kEphemeral));
  tree.expire(client->session_id());
  EXPECT_EQ(saves, 0);
}

TEST(MemoryTree, AChangeThatCannotBeSavedDoesNotHappen) {
  VirtualLoop loop;
  bool full = false;
  MemoryTree tree([&](const std::string&) {
    if (full) throw Error(Code::no_space, "the disk is full");
  });
  const auto client = tree.open_session(loop);
  result_of(loop, client->create("/a", "before", {}));
  full = true;
  EXPECT_EQ(code_of(loop, client->set("/a", "after", kAnyVersion)), Code::no_space);
  EXPECT_EQ(code_of(loop, client->create("/b", "", {})), Code::no_space);
  EXPECT_EQ(code_of(loop, client->remove("/a")), Code::no_space);
  EXPECT_EQ(result_of(loop, client->get("/a"))->data, "before");
  EXPECT_THAT(result_of(loop, client->children("/")), Optional(ElementsAre("a")));
}

TEST(MemoryTree, RefusesToLoadWhatIsNoTree) {
  for (
      const char* json :
      {"", "{", "[]", R"({"format":2,"loads":0,"nodes":[]})", R"({"format":1,"loads":0})",
       R"({"format":1,"loads":-1,"nodes":[]})",
       R"({"format":1,"loads":0,"nodes":[{"path":"a","data":"","version":0,"created":1,"sequence":0}]})",
       R"({"format":1,"loads":0,"nodes":[{"path":"/a/b","data":"","version":0,"created":1,"sequence":0}]})",
       R"({"format":1,"loads":0,"nodes":[{"path":"/a","data":"","version":"x","created":1,"sequence":0}]})"}) {
    MemoryTree tree;
    try {
      tree.load(json);
      ADD_FAILURE() << json;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::corrupt) << json;
    }
  }
}

TEST(MemoryTree, JoinsOnlyOpenSessions) {
  VirtualLoop loop;
  MemoryTree tree;
  const auto first = tree.open_session(loop);
  const auto second = tree.join_session(first->session_id(), loop);
  EXPECT_EQ(second->session_id(), first->session_id());
  tree.end(first->session_id());
  tree.end(first->session_id());
  tree.expire(first->session_id());
  tree.disconnect(first->session_id());
  tree.reconnect(first->session_id());
  EXPECT_EQ(second->state(), SessionState::expired);
  EXPECT_THROW(tree.join_session(first->session_id(), loop), Error);
}

TEST(MemoryTree, ACallThatIsUnderWayWhenTheConnectionBreaksMayHaveHappened) {
  VirtualLoop loop;
  MemoryTree tree;
  const auto client = tree.open_session(loop);
  const auto other = tree.open_session(loop);
  std::optional<Code> code;
  runtime::TaskGroup group(loop, [](std::exception_ptr) { FAIL(); });
  group.spawn([](Client& c, std::optional<Code>& to) -> Task<void> {
    try {
      co_await c.create("/a", "");
    } catch (const Error& error) {
      to = error.code();
    }
  }(*client, code));
  tree.disconnect(client->session_id());
  loop.run(group.close());
  EXPECT_EQ(code, Code::outcome_unknown);
  EXPECT_TRUE(result_of(loop, other->get("/a")));
}

TEST(MemoryTree, ASessionThatExpiredUnseenIsHeardOfAtTheReconnection) {
  VirtualLoop loop;
  MemoryTree tree;
  const auto client = tree.open_session(loop);
  const auto other = tree.open_session(loop);
  result_of(loop, client->create("/lock", "", kEphemeral));
  tree.disconnect(client->session_id());
  tree.expire_unseen(client->session_id());
  EXPECT_FALSE(result_of(loop, other->get("/lock")).has_value());
  EXPECT_EQ(client->state(), SessionState::connecting);
  EXPECT_EQ(code_of(loop, client->get("/lock")), Code::unavailable);
  tree.reconnect(client->session_id());
  EXPECT_EQ(client->state(), SessionState::expired);
  EXPECT_EQ(code_of(loop, client->get("/lock")), Code::session_expired);
}

// Clients of one session on two loops: results and watches arrive on the loop of their client.
TEST(MemoryTree, ServesClientsOnSeveralThreads) {
  constexpr int kRounds = 500;
  MemoryTree tree;
  struct Counter {
    static Task<void> count(EventLoop& loop, Client& client, const char* path) {
      for (int i = 0; i < kRounds;) {
        int fired = 0;
        WatchHandle watch;
        const std::optional<Node> node =
            co_await client.get(path, [&loop, &fired] { fired += loop.is_current(); }, watch);
        EXPECT_TRUE(loop.is_current());
        try {
          co_await client.set(path, std::to_string(std::stoi(node->data) + 1), node->stat.version);
          EXPECT_EQ(fired, 1);  // before the answer
          ++i;
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), Code::conflict);
        }
      }
    }
    static Task<void> create(Client& client) { co_await client.create("/n", "0"); }
    static Task<void> expect(Client& client, std::string data) {
      const std::optional<Node> node = co_await client.get("/n");
      EXPECT_EQ(node->data, data);
    }
  };
  EventLoop loops[2];
  const auto first = tree.open_session(loops[0]);
  const auto second = tree.join_session(first->session_id(), loops[1]);
  loops[0].run(Counter::create(*first));
  std::thread thread([&] { loops[1].run(Counter::count(loops[1], *second, "/n")); });
  loops[0].run(Counter::count(loops[0], *first, "/n"));
  thread.join();
  loops[0].run(Counter::expect(*first, std::to_string(2 * kRounds)));
}

}  // namespace
}  // namespace datom::coordination

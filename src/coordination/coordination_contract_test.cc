#include "coordination/coordination_contract.h"

#include <gmock/gmock.h>

#include <utility>
#include <vector>

#include "common/error.h"
#include "coordination/checks.h"
#include "runtime/task_group.h"
#include "runtime/wait.h"

namespace datom::coordination {
namespace {

using runtime::Task;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Optional;

using SessionPtr = std::unique_ptr<TestSession>;
constexpr CreateOptions kEphemeral{true, false};
constexpr CreateOptions kSequential{false, true};
constexpr CreateOptions kEphemeralSequential{true, true};

struct Outcome {
  Code code{};  // 0: it succeeded
  std::string message;
  bool operator==(Code expected) const { return code == expected; }
};
void PrintTo(const Outcome& outcome, std::ostream* out) {
  *out << name(outcome.code) << ": " << outcome.message;
}

template <typename T>
Task<Outcome> outcome_of(Task<T> task) {
  Outcome outcome;
  try {
    co_await std::move(task);
  } catch (const Error& error) {
    outcome = {error.code(), error.what()};
  }
  co_return outcome;
}

Task<void> without_result(Task<std::string> task) {
  co_await std::move(task);
}

Task<bool> exists(Client& client, std::string path) {
  const std::optional<Node> node = co_await client.get(std::move(path));
  co_return node.has_value();
}

// Counts calls and lets a test wait for them.
class Calls {
 public:
  explicit Calls(runtime::Loop& loop) : event_(loop) {}
  int count() const { return count_; }
  OnChange callback() {
    return [this] {
      ++count_;
      event_.wake_all();
    };
  }
  Task<void> wait_for(int count) {
    while (count_ < count) co_await event_.wait();
  }

 private:
  int count_ = 0;
  runtime::Event event_;
};

// What a session watch hears.
class States {
 public:
  States(TestWorld& world, Client& client)
      : event_(world.loop()), watch_(client.watch_session([this](SessionState state) {
          heard_.push_back(state);
          event_.wake_all();
        })) {}
  const std::vector<SessionState>& heard() const { return heard_; }
  Task<void> wait_for(SessionState state) {
    while (heard_.empty() || heard_.back() != state) co_await event_.wait();
  }

 private:
  runtime::Event event_;
  std::vector<SessionState> heard_;
  WatchHandle watch_;
};

TEST_P(CoordinationContract, CreatedNodesAreRead) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    Client& client = session->client();
    const std::string bytes("\x00\xff{}", 4);
    EXPECT_EQ(co_await client.create("/a", bytes), "/a");
    EXPECT_EQ(co_await client.create("/a/b", ""), "/a/b");

    const std::optional<Node> a = co_await client.get("/a");
    const std::optional<Node> b = co_await client.get("/a/b");
    EXPECT_TRUE(a && b);
    if (!a || !b) co_return;
    EXPECT_EQ(a->data, bytes);
    EXPECT_EQ(a->stat.version, 0);
    EXPECT_EQ(a->stat.ephemeral_owner, 0);
    EXPECT_EQ(a->stat.children, 1);
    EXPECT_EQ(b->data, "");
    EXPECT_GT(b->stat.created, a->stat.created);
    EXPECT_EQ(co_await client.get("/missing"), std::nullopt);
  });
}

TEST_P(CoordinationContract, CreateNeedsAFreeNameAndAParent) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    Client& client = session->client();
    co_await client.create("/a", "first");
    EXPECT_EQ(co_await outcome_of(client.create("/a", "second")), Code::already_exists);
    EXPECT_EQ(co_await outcome_of(client.create("/", "")), Code::already_exists);
    const Outcome orphan = co_await outcome_of(client.create("/x/y", ""));
    EXPECT_EQ(orphan, Code::not_found);
    EXPECT_THAT(orphan.message, HasSubstr("/x/y"));
    const std::optional<Node> node = co_await client.get("/a");
    EXPECT_EQ(node->data, "first");
  });
}

TEST_P(CoordinationContract, VersionsCountSets) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    Client& client = session->client();
    co_await client.create("/a", "0");
    EXPECT_EQ(co_await client.set("/a", "1"), 1);
    EXPECT_EQ(co_await client.set("/a", "2", 1), 2);
    EXPECT_EQ(co_await outcome_of(client.set("/a", "3", 1)), Code::conflict);
    EXPECT_EQ(co_await outcome_of(client.set("/b", "3")), Code::not_found);
    const std::optional<Node> node = co_await client.get("/a");
    EXPECT_EQ(node->data, "2");
    EXPECT_EQ(node->stat.version, 2);
  });
}

TEST_P(CoordinationContract, RemoveChecksVersionAndChildren) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    Client& client = session->client();
    co_await ensure_path(client, "/a/b");
    EXPECT_EQ(co_await outcome_of(client.remove("/a")), Code::conflict);
    EXPECT_EQ(co_await outcome_of(client.remove("/a/b", 1)), Code::conflict);
    EXPECT_TRUE(co_await exists(client, "/a/b"));
    co_await client.remove("/a/b", 0);
    EXPECT_EQ(co_await outcome_of(client.remove("/a/b")), Code::not_found);
    co_await client.remove("/a");
    EXPECT_FALSE(co_await exists(client, "/a"));
  });
}

TEST_P(CoordinationContract, ARecreatedNodeIsAnother) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    Client& client = session->client();
    co_await client.create("/a", "");
    co_await client.set("/a", "");
    const std::optional<Node> first = co_await client.get("/a");
    co_await client.remove("/a");
    co_await client.create("/a", "");
    const std::optional<Node> second = co_await client.get("/a");
    EXPECT_EQ(second->stat.version, 0);
    EXPECT_GT(second->stat.created, first->stat.created);
  });
}

TEST_P(CoordinationContract, ChildrenAreSortedNames) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    Client& client = session->client();
    co_await client.create("/a", "");
    EXPECT_THAT(co_await client.children("/a"), Optional(IsEmpty()));
    co_await client.create("/a/z", "");
    co_await client.create("/a/b", "");
    co_await client.create("/a/b/grandchild", "");
    co_await client.create("/ab", "");
    EXPECT_THAT(co_await client.children("/a"), Optional(ElementsAre("b", "z")));
    EXPECT_EQ(co_await client.children("/missing"), std::nullopt);
  });
}

TEST_P(CoordinationContract, SequentialNamesRiseAndNeverRepeat) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    Client& client = session->client();
    co_await client.create("/a", "");
    const std::string first = co_await client.create("/a/m-", "", kSequential);
    const std::string second = co_await client.create("/a/l-", "", kEphemeralSequential);
    co_await client.remove(second);
    const std::string third = co_await client.create("/a/m-", "", kSequential);
    EXPECT_THAT(first, MatchesRegex("/a/m-[0-9]{10}"));
    EXPECT_THAT(second, MatchesRegex("/a/l-[0-9]{10}"));
    EXPECT_LT(first.substr(5), second.substr(5));
    EXPECT_LT(second.substr(5), third.substr(5));
    const std::optional<Node> node = co_await client.get(first);
    EXPECT_EQ(node->stat.ephemeral_owner, 0);
    // Another parent has its own counter.
    co_await client.create("/b", "");
    EXPECT_EQ(co_await client.create("/b/m-", "", kSequential), "/b/m-0000000000");
  });
}

TEST_P(CoordinationContract, EphemeralNodesBelongToTheirSession) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    const SessionPtr other = co_await world.open_session();
    co_await session->client().create("/a", "", kEphemeral);
    const std::optional<Node> node = co_await other->client().get("/a");
    EXPECT_NE(session->client().session_id(), 0);
    EXPECT_NE(session->client().session_id(), other->client().session_id());
    EXPECT_EQ(node->stat.ephemeral_owner, session->client().session_id());
    EXPECT_EQ(co_await outcome_of(session->client().create("/a/b", "")), Code::conflict);
  });
}

TEST_P(CoordinationContract, BadPathsAreRefused) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    Client& client = session->client();
    for (const char* path : {"", "a", "/a/", "//", "/a//b", "/./a", "/a/..", "/a\n", "/\xc3\xa4"}) {
      EXPECT_EQ(co_await outcome_of(client.create(path, "")), Code::invalid_argument) << path;
      EXPECT_EQ(co_await outcome_of(client.set(path, "")), Code::invalid_argument) << path;
      EXPECT_EQ(co_await outcome_of(client.remove(path)), Code::invalid_argument) << path;
      EXPECT_EQ(co_await outcome_of(client.get(path)), Code::invalid_argument) << path;
      EXPECT_EQ(co_await outcome_of(client.children(path)), Code::invalid_argument) << path;
    }
    EXPECT_EQ(co_await outcome_of(client.remove("/")), Code::invalid_argument);
    EXPECT_EQ(co_await outcome_of(client.create("/", "", kSequential)), Code::invalid_argument);
    EXPECT_EQ(co_await outcome_of(client.create("/..a/.b", "")),
              Code::not_found);  // these are fine
  });
}

TEST_P(CoordinationContract, SizesAreBounded) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    Client& client = session->client();
    const std::string most(kMaxData, 'x');
    const std::string longest_path = "/" + std::string(kMaxPath - 1, 'p');
    co_await client.create(longest_path, most);
    const std::optional<Node> node = co_await client.get(longest_path);
    EXPECT_EQ(node->data, most);
    EXPECT_EQ(co_await outcome_of(client.get(longest_path + "p")), Code::too_large);
    EXPECT_EQ(co_await outcome_of(client.create("/b", most + "x")), Code::too_large);
    EXPECT_EQ(co_await outcome_of(client.set(longest_path, most + "x")), Code::too_large);
    std::vector<Operation> half_each = {Set{longest_path, most}, Create{"/b", "x"}};
    EXPECT_EQ(co_await outcome_of(client.multi(half_each)), Code::too_large);

    std::vector<Operation> many(kMaxOperations, Check{longest_path});
    std::vector<OperationResult> results = co_await client.multi(many);
    EXPECT_EQ(results.size(), kMaxOperations);
    many.push_back(Check{longest_path});
    EXPECT_EQ(co_await outcome_of(client.multi(many)), Code::too_large);
  });
}

TEST_P(CoordinationContract, MultiDoesAllSteps) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    Client& client = session->client();
    co_await client.create("/a", "");
    co_await client.create("/gone", "");
    std::vector<Operation> steps = {Check{"/a", 0}, Create{"/a/l-", "lock", kEphemeralSequential},
                                    Set{"/a", "1", 0}, Set{"/a", "2", 1}, Delete{"/gone", 0}};
    const std::vector<OperationResult> results = co_await client.multi(steps);
    EXPECT_EQ(results.size(), 5u);
    if (results.size() != 5) co_return;
    EXPECT_EQ(results[1].created_path, "/a/l-0000000000");
    EXPECT_EQ(results[2].version, 1);
    EXPECT_EQ(results[3].version, 2);
    const std::optional<Node> a = co_await client.get("/a");
    EXPECT_EQ(a->data, "2");
    const std::optional<Node> lock = co_await client.get("/a/l-0000000000");
    EXPECT_TRUE(lock.has_value());
    if (lock) EXPECT_EQ(lock->stat.ephemeral_owner, client.session_id());
    EXPECT_FALSE(co_await exists(client, "/gone"));

    std::vector<Operation> none;
    const std::vector<OperationResult> nothing = co_await client.multi(none);
    EXPECT_THAT(nothing, IsEmpty());
  });
}

TEST_P(CoordinationContract, MultiWithAnyFailingStepDoesNothing) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    Client& client = session->client();
    co_await ensure_path(client, "/parent/child");
    co_await client.create("/a", "before");
    co_await client.create("/ephemeral", "", kEphemeral);
    const std::vector<Operation> failing = {
        Create{"/a", ""},    Create{"/x/y", ""}, Create{"/ephemeral/x", ""}, Set{"/a", "", 7},
        Set{"/missing", ""}, Delete{"/a", 7},    Delete{"/missing"},         Delete{"/parent"},
        Check{"/a", 7},      Check{"/missing"},
    };
    for (const Operation& step : failing) {
      std::vector<Operation> steps = {Set{"/parent/child", "changed"}, Create{"/new", ""}, step,
                                      Create{"/newer", ""}};
      const Outcome outcome = co_await outcome_of(client.multi(steps));
      EXPECT_EQ(outcome, Code::conflict) << describe(step);
      EXPECT_THAT(outcome.message, HasSubstr("step 2")) << describe(step);
      EXPECT_THAT(outcome.message, HasSubstr(describe(step)));
      const std::optional<Node> child = co_await client.get("/parent/child");
      EXPECT_EQ(child->stat.version, 0);
      EXPECT_FALSE(co_await exists(client, "/new"));
      EXPECT_FALSE(co_await exists(client, "/newer"));
      const std::optional<Node> a = co_await client.get("/a");
      EXPECT_EQ(a->data, "before");
    }
    // The first and the last step too.
    std::vector<Operation> first = {Check{"/a", 7}, Create{"/new", ""}};
    const Outcome at_first = co_await outcome_of(client.multi(first));
    EXPECT_THAT(at_first.message, HasSubstr("step 0"));
    std::vector<Operation> last = {Create{"/new", ""}, Create{"/new", ""}};
    const Outcome at_last = co_await outcome_of(client.multi(last));
    EXPECT_THAT(at_last.message, HasSubstr("step 1"));
    EXPECT_FALSE(co_await exists(client, "/new"));
    std::vector<Operation> bad = {Create{"/new", ""}, Delete{"/"}};
    EXPECT_EQ(co_await outcome_of(client.multi(bad)), Code::invalid_argument);
  });
}

TEST_P(CoordinationContract, EnsurePathMakesWhatIsMissing) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    Client& client = session->client();
    co_await client.create("/a", "kept");
    co_await ensure_path(client, "/a/b/c");
    co_await ensure_path(client, "/a/b/c");
    co_await ensure_path(client, "/");
    EXPECT_TRUE(co_await exists(client, "/a/b/c"));
    const std::optional<Node> a = co_await client.get("/a");
    EXPECT_EQ(a->data, "kept");
    EXPECT_EQ(co_await outcome_of(ensure_path(client, "a/b")), Code::invalid_argument);
  });
}

TEST_P(CoordinationContract, DataWatchHearsSetDeleteAndCreate) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    const SessionPtr other = co_await world.open_session();
    Client& client = session->client();
    Client& writer = other->client();
    Calls calls(world.loop());
    WatchHandle watch;

    EXPECT_EQ(co_await client.get("/a", calls.callback(), watch), std::nullopt);
    co_await writer.create("/a", "0");
    co_await calls.wait_for(1);

    std::optional<Node> node = co_await client.get("/a", calls.callback(), watch);
    EXPECT_EQ(node->data, "0");
    co_await writer.set("/a", "1");
    co_await calls.wait_for(2);

    node = co_await client.get("/a", calls.callback(), watch);
    EXPECT_EQ(node->data, "1");
    co_await writer.remove("/a");
    co_await calls.wait_for(3);
    EXPECT_EQ(co_await client.get("/a", calls.callback(), watch), std::nullopt);
    EXPECT_EQ(calls.count(), 3);
  });
}

TEST_P(CoordinationContract, ChildrenWatchHearsComingGoingAndTheNodeItself) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    const SessionPtr other = co_await world.open_session();
    Client& client = session->client();
    Client& writer = other->client();
    Calls calls(world.loop());
    WatchHandle watch;

    EXPECT_EQ(co_await client.children("/a", calls.callback(), watch), std::nullopt);
    co_await writer.create("/a", "");
    co_await calls.wait_for(1);

    EXPECT_THAT(co_await client.children("/a", calls.callback(), watch), Optional(IsEmpty()));
    co_await writer.create("/a/b", "", kEphemeral);
    co_await calls.wait_for(2);

    EXPECT_THAT(co_await client.children("/a", calls.callback(), watch),
                Optional(ElementsAre("b")));
    co_await writer.remove("/a/b");
    co_await calls.wait_for(3);

    EXPECT_THAT(co_await client.children("/a", calls.callback(), watch), Optional(IsEmpty()));
    co_await writer.remove("/a");
    co_await calls.wait_for(4);
    EXPECT_EQ(calls.count(), 4);
  });
}

TEST_P(CoordinationContract, WatchesHearOnlyWhatTheyRead) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    Client& client = session->client();
    co_await ensure_path(client, "/a/b");
    Calls data(world.loop());
    Calls children(world.loop());
    WatchHandle data_watch;
    WatchHandle children_watch;
    co_await client.get("/a", data.callback(), data_watch);
    co_await client.children("/a", children.callback(), children_watch);

    co_await client.set("/a/b", "");       // neither
    co_await client.create("/a/b/c", "");  // neither
    co_await client.create("/ab", "");     // neither
    co_await client.sync();
    EXPECT_EQ(data.count(), 0);
    EXPECT_EQ(children.count(), 0);
    co_await client.create("/a/c", "");
    co_await children.wait_for(1);
    EXPECT_EQ(data.count(), 0);
    co_await client.children("/a", children.callback(), children_watch);
    co_await client.set("/a", "");
    co_await data.wait_for(1);
    EXPECT_EQ(children.count(), 1);
  });
}

TEST_P(CoordinationContract, AWatchFiresOnceBeforeTheWriterGoesOn) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    Client& client = session->client();
    co_await client.create("/a", "");
    Calls calls(world.loop());
    WatchHandle watch;
    co_await client.get("/a", calls.callback(), watch);
    co_await client.set("/a", "1");
    EXPECT_EQ(calls.count(), 1);
    co_await client.set("/a", "2");
    co_await client.remove("/a");
    co_await client.sync();
    EXPECT_EQ(calls.count(), 1);
  });
}

TEST_P(CoordinationContract, AWatchHearsWhatAMultiDid) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    Client& client = session->client();
    co_await client.create("/a", "");
    Calls data(world.loop());
    Calls children(world.loop());
    WatchHandle data_watch;
    WatchHandle children_watch;
    co_await client.get("/a", data.callback(), data_watch);
    co_await client.children("/a", children.callback(), children_watch);

    std::vector<Operation> failing = {Set{"/a", "1"}, Create{"/a/b", ""}, Check{"/a", 7}};
    EXPECT_EQ(co_await outcome_of(client.multi(failing)), Code::conflict);
    co_await client.sync();
    EXPECT_EQ(data.count() + children.count(), 0);

    std::vector<Operation> steps = {Set{"/a", "1"}, Create{"/a/b", ""}, Set{"/a", "2"}};
    co_await client.multi(steps);
    EXPECT_EQ(data.count(), 1);
    EXPECT_EQ(children.count(), 1);
  });
}

TEST_P(CoordinationContract, ADestroyedWatchIsSilent) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    Client& client = session->client();
    co_await client.create("/a", "");
    Calls silent(world.loop());
    Calls heard(world.loop());
    WatchHandle destroyed;
    WatchHandle replaced;
    WatchHandle kept;
    co_await client.get("/a", silent.callback(), destroyed);
    co_await client.get("/a", silent.callback(), replaced);
    co_await client.get("/a", heard.callback(), kept);
    co_await client.get("/b", heard.callback(), replaced);
    destroyed.reset();
    co_await client.set("/a", "");
    co_await heard.wait_for(1);
    EXPECT_EQ(silent.count(), 0);
  });
}

TEST_P(CoordinationContract, AWatchMayBeDestroyedByItsOwnCallback) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    Client& client = session->client();
    co_await client.create("/a", "");
    Calls calls(world.loop());
    WatchHandle watch;
    const auto token = std::make_shared<int>(7);
    const auto on_change = [&watch, token, inner = calls.callback()] {
      watch.reset();
      EXPECT_EQ(*token, 7);
      inner();
    };
    co_await client.get("/a", on_change, watch);
    co_await client.set("/a", "");
    co_await calls.wait_for(1);
    EXPECT_FALSE(watch);
  });
}

TEST_P(CoordinationContract, ManyWatchesOfOnePathAllHear) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    const std::unique_ptr<Client> second = session->another_client();
    EXPECT_EQ(second->session_id(), session->client().session_id());
    Calls calls(world.loop());
    std::vector<WatchHandle> watches(10);
    for (std::size_t i = 0; i < watches.size(); ++i) {
      Client& client = i % 2 == 0 ? session->client() : *second;
      co_await client.get("/a", calls.callback(), watches[i]);
    }
    co_await session->client().create("/a", "");
    co_await calls.wait_for(10);
    EXPECT_EQ(calls.count(), 10);
  });
}

TEST_P(CoordinationContract, TheOrderlyEndRemovesEphemeralNodesAtOnce) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    const SessionPtr other = co_await world.open_session();
    Calls calls(world.loop());
    WatchHandle watch;
    co_await session->client().create("/a", "", kEphemeral);
    co_await session->client().create("/persistent", "");
    co_await other->client().get("/a", calls.callback(), watch);
    Calls silent(world.loop());
    WatchHandle own;
    co_await session->client().get("/a", silent.callback(), own);

    session->end();
    co_await calls.wait_for(1);
    EXPECT_FALSE(co_await exists(other->client(), "/a"));
    EXPECT_TRUE(co_await exists(other->client(), "/persistent"));
    EXPECT_EQ(session->client().state(), SessionState::expired);
    EXPECT_EQ(co_await outcome_of(session->client().get("/a")), Code::session_expired);
    EXPECT_EQ(silent.count(), 0);  // who ended it knows
  });
}

TEST_P(CoordinationContract, ExpiryRemovesEphemeralNodesAndIsHeard) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    const SessionPtr other = co_await world.open_session();
    Client& client = session->client();
    co_await client.create("/a", "", kEphemeral);
    co_await client.create("/persistent", "");
    Calls watches(world.loop());
    WatchHandle data;
    WatchHandle children;
    WatchHandle missing;
    co_await client.get("/persistent", watches.callback(), data);
    co_await client.children("/persistent", watches.callback(), children);
    co_await client.get("/missing", watches.callback(), missing);
    States states(world, client);

    co_await session->expire();
    EXPECT_FALSE(co_await exists(other->client(), "/a"));
    EXPECT_TRUE(co_await exists(other->client(), "/persistent"));
    co_await states.wait_for(SessionState::expired);
    co_await watches.wait_for(3);
    EXPECT_THAT(states.heard(), ElementsAre(SessionState::connecting, SessionState::expired));
    EXPECT_EQ(co_await outcome_of(client.get("/persistent")), Code::session_expired);
    EXPECT_EQ(co_await outcome_of(client.create("/b", "")), Code::session_expired);
    std::vector<Operation> steps = {Set{"/persistent", ""}, Check{"/persistent"}};
    EXPECT_EQ(co_await outcome_of(client.multi(steps)), Code::session_expired);
    EXPECT_FALSE(co_await exists(other->client(), "/b"));
  });
}

TEST_P(CoordinationContract, ASessionOutlivesItsConnection) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    const SessionPtr other = co_await world.open_session();
    Client& client = session->client();
    co_await client.create("/a", "", kEphemeral);
    States states(world, client);
    const std::int64_t id = client.session_id();

    session->cut();
    co_await states.wait_for(SessionState::connecting);
    EXPECT_EQ(co_await outcome_of(client.create("/b", "")), Code::unavailable);
    EXPECT_EQ(co_await outcome_of(client.get("/a")), Code::unavailable);
    EXPECT_TRUE(co_await exists(other->client(), "/a"));

    session->mend();
    co_await states.wait_for(SessionState::connected);
    EXPECT_EQ(client.session_id(), id);
    EXPECT_THAT(states.heard(), ElementsAre(SessionState::connecting, SessionState::connected));
    EXPECT_TRUE(co_await exists(client, "/a"));
    EXPECT_FALSE(co_await exists(client, "/b"));  // unavailable: certainly not done
  });
}

TEST_P(CoordinationContract, AWatchHearsAfterTheReconnectionWhatChangedMeanwhile) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    const SessionPtr other = co_await world.open_session();
    Client& client = session->client();
    co_await ensure_path(client, "/children");
    co_await client.create("/data", "");
    co_await client.create("/deleted", "");
    co_await client.create("/unchanged", "");
    Calls changed(world.loop());
    Calls unchanged(world.loop());
    Calls silent(world.loop());
    WatchHandle watches[6];
    co_await client.get("/data", changed.callback(), watches[0]);
    co_await client.get("/deleted", changed.callback(), watches[1]);
    co_await client.get("/created", changed.callback(), watches[2]);
    co_await client.children("/children", changed.callback(), watches[3]);
    co_await client.get("/unchanged", unchanged.callback(), watches[4]);
    co_await client.get("/data", silent.callback(), watches[5]);

    States states(world, client);
    session->cut();
    co_await states.wait_for(SessionState::connecting);
    co_await other->client().set("/data", "1");
    co_await other->client().remove("/deleted");
    co_await other->client().create("/created", "");
    co_await other->client().create("/children/c", "");
    EXPECT_EQ(changed.count(), 0);
    watches[5].reset();

    session->mend();
    co_await changed.wait_for(4);
    co_await client.sync();
    EXPECT_EQ(changed.count(), 4);
    EXPECT_EQ(unchanged.count(), 0);
    EXPECT_EQ(silent.count(), 0);
    // What did not change is watched still.
    co_await other->client().set("/unchanged", "1");
    co_await unchanged.wait_for(1);
  });
}

TEST_P(CoordinationContract, ACallWithoutAnAnswerMayHaveHappened) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    const SessionPtr other = co_await world.open_session();
    Client& client = session->client();
    States states(world, client);
    const Outcome outcome = co_await outcome_of(
        session->cut_before_the_answer(without_result(client.create("/a", "")), "/a"));
    EXPECT_EQ(outcome, Code::outcome_unknown);
    EXPECT_TRUE(co_await exists(other->client(), "/a"));
    session->mend();
    co_await states.wait_for(SessionState::connected);
    // Nothing was repeated.
    std::optional<Node> node = co_await client.get("/a");
    EXPECT_EQ(node->stat.version, 0);
  });
}

TEST_P(CoordinationContract, ADestroyedSessionWatchIsSilent) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    int heard = 0;
    WatchHandle watch = session->client().watch_session([&heard](SessionState) { ++heard; });
    watch.reset();
    States states(world, session->client());
    session->cut();
    co_await states.wait_for(SessionState::connecting);
    EXPECT_EQ(heard, 0);
  });
}

TEST_P(CoordinationContract, SyncSeesWhatOthersWrote) {
  run([](TestWorld& world) -> Task<void> {
    const SessionPtr session = co_await world.open_session();
    const SessionPtr other = co_await world.open_session();
    co_await other->client().create("/a", "");
    co_await session->client().sync();
    EXPECT_TRUE(co_await exists(session->client(), "/a"));
  });
}

}  // namespace
}  // namespace datom::coordination

#include "properties/properties.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "coordination/memory/memory.h"
#include "protocol/records.h"
#include "runtime/virtual_loop.h"

namespace datom::properties {
namespace {

using namespace std::chrono_literals;
using coordination::MemoryTree;
using runtime::Task;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Code code_of_validate(std::string_view name, std::string_view value) {
  try {
    validate(name, value);
  } catch (const Error& error) {
    return error.code();
  }
  return Code{};
}

TEST(KnownProperties, DefaultsAreWithinBoundsAndNamesAreValid) {
  for (const Definition* definition : known()) {
    EXPECT_TRUE(protocol::valid_name(definition->name)) << definition->name;
    EXPECT_LE(definition->least, definition->default_value) << definition->name;
    EXPECT_LE(definition->default_value, definition->most) << definition->name;
    EXPECT_EQ(find(definition->name), definition);
    EXPECT_EQ(validate(definition->name, std::to_string(definition->default_value)),
              definition->default_value);
    EXPECT_EQ(validate(definition->name, std::to_string(definition->least)), definition->least);
    EXPECT_EQ(validate(definition->name, std::to_string(definition->most)), definition->most);
  }
}

TEST(KnownProperties, ValidateRefusesUnknownNamesAndBadValues) {
  EXPECT_EQ(code_of_validate("group.heartbeat", "100"), Code::not_found);
  for (const char* value : {"", " 100", "100 ", "-1", "+100", "1e3", "0x10", "100ms", "9", "10001",
                            "99999999999999999999999", "true"}) {
    EXPECT_EQ(code_of_validate("group.heartbeat_ms", value), Code::invalid_argument) << value;
  }
}

std::chrono::milliseconds default_of(const DurationProperty& property) {
  return std::chrono::milliseconds(property.default_value);
}

class PropertiesTest : public ::testing::Test {
 public:
  PropertiesTest() {
    loop_.run(coordination::ensure_path(*writer_, protocol::paths::properties("d")));
  }
  ~PropertiesTest() override { loop_.run(properties_.stop()); }

  void start() { loop_.run(properties_.start(*client_)); }
  static std::string path(const Definition& property) {
    return protocol::paths::property("d", property.name);
  }
  static std::string record(std::string value) {
    protocol::PropertyRecord record;
    record.value = std::move(value);
    record.changed_by = "root@host1";
    record.changed_at = "2020-01-01T00:00:00Z";
    return record.to_json();
  }
  void create(const Definition& property, std::string data) {
    loop_.run([](coordination::Client& to, std::string at, std::string value) -> Task<void> {
      co_await to.create(std::move(at), std::move(value));
    }(*writer_, path(property), std::move(data)));
    loop_.run_ready();
  }
  void set(const Definition& property, std::string data) {
    loop_.run([](coordination::Client& to, std::string at, std::string value) -> Task<void> {
      co_await to.set(std::move(at), std::move(value));
    }(*writer_, path(property), std::move(data)));
    loop_.run_ready();
  }
  void remove(const Definition& property) {
    loop_.run(writer_->remove(path(property)));
    loop_.run_ready();
  }

  runtime::VirtualLoop loop_;
  MemoryTree tree_;
  std::unique_ptr<coordination::Client> writer_ = tree_.open_session(loop_);
  std::unique_ptr<coordination::Client> client_ = tree_.open_session(loop_);
  std::vector<std::string> warnings_;
  Properties properties_{loop_, "d",
                         [this](const std::string& message) { warnings_.push_back(message); }};
};

TEST_F(PropertiesTest, UnsetPropertiesHaveTheirDefaults) {
  const auto expect_defaults = [&] {
    EXPECT_EQ(properties_.get(kJournalRetention), kJournalRetention.default_value);
    EXPECT_EQ(properties_.get(kGroupHeartbeat), default_of(kGroupHeartbeat));
    EXPECT_EQ(properties_.get(kGroupElectionTimeout), default_of(kGroupElectionTimeout));
    EXPECT_EQ(properties_.get(kCheckpointInterval), default_of(kCheckpointInterval));
    EXPECT_EQ(properties_.get(kClientTimeout), default_of(kClientTimeout));
    EXPECT_EQ(properties_.get(kCoordinationSessionTimeout),
              default_of(kCoordinationSessionTimeout));
  };
  expect_defaults();  // before the start, too
  start();
  expect_defaults();
  EXPECT_THAT(warnings_, IsEmpty());
}

TEST_F(PropertiesTest, FollowsCreationChangeAndRemoval) {
  create(kGroupHeartbeat, record("50"));
  start();
  EXPECT_EQ(properties_.get(kGroupHeartbeat), 50ms);
  create(kJournalRetention, record("1048576"));
  EXPECT_EQ(properties_.get(kJournalRetention), 1u << 20);
  set(kGroupHeartbeat, record("60"));
  EXPECT_EQ(properties_.get(kGroupHeartbeat), 60ms);
  set(kGroupHeartbeat, record("70"));
  EXPECT_EQ(properties_.get(kGroupHeartbeat), 70ms);
  remove(kGroupHeartbeat);
  EXPECT_EQ(properties_.get(kGroupHeartbeat), default_of(kGroupHeartbeat));
  EXPECT_EQ(properties_.get(kJournalRetention), 1u << 20);
}

TEST_F(PropertiesTest, MalformedValuesGiveTheDefaultAndAWarning) {
  create(kGroupHeartbeat, record("often"));
  start();
  EXPECT_EQ(properties_.get(kGroupHeartbeat), default_of(kGroupHeartbeat));
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("group.heartbeat_ms")));
  set(kGroupHeartbeat, record("50"));
  EXPECT_EQ(properties_.get(kGroupHeartbeat), 50ms);
  set(kGroupHeartbeat, "{");
  EXPECT_EQ(properties_.get(kGroupHeartbeat), default_of(kGroupHeartbeat));
  EXPECT_EQ(warnings_.size(), 2u);
}

TEST_F(PropertiesTest, SubscribersHearChangesOfTheirPropertyOnly) {
  std::vector<std::chrono::milliseconds> heard;
  const auto hear = [&] { heard.push_back(properties_.get(kGroupHeartbeat)); };
  Subscription subscription = properties_.on_change(kGroupHeartbeat, hear);
  create(kGroupHeartbeat, record("50"));
  start();
  set(kGroupHeartbeat, record("60"));
  set(kGroupHeartbeat, record("60"));  // the same
  create(kJournalRetention, record("1048576"));
  EXPECT_THAT(heard, ElementsAre(50ms, 60ms));
  subscription.reset();
  set(kGroupHeartbeat, record("70"));
  EXPECT_THAT(heard, ElementsAre(50ms, 60ms));
}

TEST_F(PropertiesTest, ASubscriberMayEndItselfAndOthers) {
  int heard = 0;
  Subscription first;
  Subscription second;
  first = properties_.on_change(kGroupHeartbeat, [&] {
    ++heard;
    second.reset();
    first.reset();
  });
  second = properties_.on_change(kGroupHeartbeat, [&] { ++heard; });
  start();
  create(kGroupHeartbeat, record("50"));
  set(kGroupHeartbeat, record("60"));
  EXPECT_EQ(heard, 1);
}

TEST_F(PropertiesTest, KeepsItsValuesWhileCoordinationIsAwayAndCatchesUp) {
  create(kGroupHeartbeat, record("50"));
  start();
  tree_.disconnect(client_->session_id());
  set(kGroupHeartbeat, record("60"));
  loop_.advance(1h);
  EXPECT_EQ(properties_.get(kGroupHeartbeat), 50ms);
  tree_.reconnect(client_->session_id());
  loop_.run_ready();
  EXPECT_EQ(properties_.get(kGroupHeartbeat), 60ms);
}

// The read that follows a change is itself cut off.
TEST_F(PropertiesTest, RepeatsAReadThatFailed) {
  create(kGroupHeartbeat, record("50"));
  start();
  struct Test {
    static Task<void> run(PropertiesTest& in, std::string at, std::string value) {
      co_await in.writer_->set(std::move(at), std::move(value));
      // The watch has fired; the read is sent before this is run, its answer comes after it.
      in.loop_.post([&in] { in.tree_.disconnect(in.client_->session_id()); });
    }
  };
  loop_.run(Test::run(*this, path(kGroupHeartbeat), record("60")));
  loop_.advance(1h);
  EXPECT_EQ(properties_.get(kGroupHeartbeat), 50ms);
  tree_.reconnect(client_->session_id());
  loop_.run_ready();
  EXPECT_EQ(properties_.get(kGroupHeartbeat), 60ms);
}

TEST_F(PropertiesTest, OutlivesItsSessionAndGoesOnWithAnother) {
  create(kGroupHeartbeat, record("50"));
  start();
  tree_.expire(client_->session_id());
  set(kGroupHeartbeat, record("60"));
  loop_.advance(1h);
  EXPECT_EQ(properties_.get(kGroupHeartbeat), 50ms);
  loop_.run(properties_.stop());
  client_ = tree_.open_session(loop_);
  start();
  EXPECT_EQ(properties_.get(kGroupHeartbeat), 60ms);
  set(kGroupHeartbeat, record("70"));
  EXPECT_EQ(properties_.get(kGroupHeartbeat), 70ms);
}

TEST_F(PropertiesTest, StartFailsWithoutCoordination) {
  tree_.disconnect(client_->session_id());
  try {
    start();
    ADD_FAILURE() << "started";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::unavailable);
  }
  tree_.reconnect(client_->session_id());
  start();
  EXPECT_EQ(properties_.get(kGroupHeartbeat), default_of(kGroupHeartbeat));
}

TEST_F(PropertiesTest, NothingIsHeardAfterStop) {
  create(kGroupHeartbeat, record("50"));
  start();
  loop_.run(properties_.stop());
  set(kGroupHeartbeat, record("60"));
  EXPECT_EQ(properties_.get(kGroupHeartbeat), 50ms);
}

}  // namespace
}  // namespace datom::properties

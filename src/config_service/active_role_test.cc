// Design, section 4: fresh against existing instance, active and standby.
#include <gmock/gmock.h>

#include "config_service/domain_fixture.h"
#include "runtime/task_group.h"

namespace datom::config_service {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

namespace method = protocol::method;
namespace paths = protocol::paths;

class ActiveRoleTest : public DomainTest {
 protected:
  Error status_refusal(const std::string& via) {
    return refusal<protocol::StatusReply>(method::kStatus, protocol::StatusRequest(), via);
  }
  void make_instance(const std::string& data, const std::string& domain = "d") {
    loop_.run(coordination::ensure_path(*eye_, std::string(paths::kConfigService)));
    result_of(loop_, eye_->set(std::string(paths::kConfigService), data));
    loop_.run(coordination::ensure_path(*eye_, paths::volumes(domain)));
  }
  static std::string instance(int format) {
    return protocol::InstanceRecord{format, Uuid::from_random(1, 2)}.to_json();
  }
};

TEST_F(ActiveRoleTest, AFreshInstanceWaitsForInitAndSaysSo) {
  start_config_service("cs1");
  const Error error = status_refusal("cs1");
  EXPECT_EQ(error.code(), Code::unavailable);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("cs1"), HasSubstr("waiting for `datom init`")));
  EXPECT_FALSE(value("/datom"));
}

TEST_F(ActiveRoleTest, InitMakesTheTreeAndTheServiceActive) {
  start_config_service("cs1");
  init();
  EXPECT_EQ(status().config_service().service(), "cs1");
  EXPECT_EQ(status().config_service().address(), "cs1.test:7400");
  const auto instance =
      protocol::InstanceRecord::from_json(*value(std::string(paths::kConfigService)));
  EXPECT_EQ(status().instance(), instance.uuid.to_string());
  const auto active =
      protocol::ActiveRecord::from_json(*value(std::string(paths::kActiveConfigService)));
  EXPECT_EQ(active.service, "cs1");
  EXPECT_EQ(active.address, "cs1.test:7400");
}

TEST_F(ActiveRoleTest, InitIsDoneOnce) {
  begin();
  const auto before = value(std::string(paths::kConfigService));
  protocol::InitRequest request;
  request.set_domain("d");
  const Error error = refusal<protocol::InitReply>(method::kInit, request);
  EXPECT_EQ(error.code(), Code::already_exists);
  EXPECT_EQ(value(std::string(paths::kConfigService)), before);
}

TEST_F(ActiveRoleTest, TwoInitsAtOnceMakeOneInstance) {
  start_config_service("cs1");
  start_config_service("cs2");
  protocol::InitRequest request;
  request.set_domain("d");
  int made = 0;
  int refused = 0;
  runtime::TaskGroup group(loop_, [&](std::exception_ptr) { ++refused; });
  struct Init {
    static runtime::Task<void> run(runtime::Task<protocol::InitReply> init, int& count) {
      co_await std::move(init);
      ++count;
    }
  };
  for (const std::string via : {"cs1", "cs2"}) {
    group.spawn(Init::run(call<protocol::InitReply>(via, method::kInit, request), made));
  }
  loop_.run(group.close());
  EXPECT_EQ(made, 1);
  EXPECT_EQ(refused, 1);
}

TEST_F(ActiveRoleTest, InitOfAnotherDomainOrABadNameIsRefused) {
  start_config_service("cs1");
  for (const std::string domain : {"e", "", "D"}) {
    protocol::InitRequest request;
    request.set_domain(domain);
    EXPECT_EQ(refusal<protocol::InitReply>(method::kInit, request).code(), Code::invalid_argument);
  }
  EXPECT_FALSE(value(std::string(paths::kConfigService)));
}

TEST_F(ActiveRoleTest, InitRegistersTheFirstNode) {
  start_config_service("cs1");
  protocol::InitRequest request;
  request.set_domain("d");
  *request.mutable_node() = node_request(1);
  ask<protocol::InitReply>(method::kInit, request);
  ASSERT_EQ(status().nodes_size(), 1);
  EXPECT_EQ(status().nodes(0).name(), "n1");
  ASSERT_EQ(status().services_size(), 1);
  EXPECT_EQ(status().services(0).name(), "vs1");
}

TEST_F(ActiveRoleTest, InitWithABadNodeMakesNothing) {
  start_config_service("cs1");
  protocol::InitRequest request;
  request.set_domain("d");
  *request.mutable_node() = node_request(1);
  request.mutable_node()->set_uuid("x");
  EXPECT_EQ(refusal<protocol::InitReply>(method::kInit, request).code(), Code::invalid_argument);
  EXPECT_FALSE(value("/datom"));
}

TEST_F(ActiveRoleTest, AnExistingInstanceIsServedAtOnce) {
  make_instance(instance(1));
  EXPECT_TRUE(start_config_service("cs1").is_active());
}

TEST_F(ActiveRoleTest, ATreeOfAnotherFormatIsNotTouched) {
  make_instance(instance(2));
  start_config_service("cs1");
  EXPECT_THAT(status_refusal("cs1").what(), HasSubstr("found tree format 2, expected 1"));
  EXPECT_FALSE(value(std::string(paths::kActiveConfigService)));
  EXPECT_EQ(error_of(loop_, configs_.at("cs1")->service->wait_ready()).code(), Code::unsupported);
}

TEST_F(ActiveRoleTest, GarbageInTheTreeIsNamed) {
  make_instance("garbage");
  start_config_service("cs1");
  EXPECT_THAT(status_refusal("cs1").what(), HasSubstr("instance record: found 'garbage'"));
}

TEST_F(ActiveRoleTest, ADomainThatIsNotInTheInstanceIsNotServed) {
  make_instance(instance(1), "other");
  start_config_service("cs1");
  EXPECT_THAT(status_refusal("cs1").what(), HasSubstr("domain d"));
}

TEST_F(ActiveRoleTest, AStandbyNamesTheActiveOne) {
  begin();
  start_config_service("cs2");
  const Error error = status_refusal("cs2");
  EXPECT_EQ(error.code(), Code::unavailable);
  EXPECT_STREQ(error.what(),
               "config service cs2 stands by; the active one is cs1 at cs1.test:7400");
}

TEST_F(ActiveRoleTest, AStandbyTakesOverAtOnceWhenTheActiveOneStops) {
  begin();
  add_nodes(1);
  ConfigService& standby = start_config_service("cs2");
  stop_config_service("cs1");
  EXPECT_TRUE(standby.is_active());
  EXPECT_EQ(status("cs2").nodes_size(), 1);
  EXPECT_EQ(status("cs2").config_service().service(), "cs2");
}

TEST_F(ActiveRoleTest, AStandbyTakesOverWhenTheActiveOnesSessionExpires) {
  begin();
  ConfigService& standby = start_config_service("cs2");
  tree_.expire(configs_.at("cs1")->client->session_id());
  loop_.run_ready();
  EXPECT_TRUE(standby.is_active());
  const Error error = status_refusal("cs1");
  EXPECT_EQ(error.code(), Code::unavailable);
  EXPECT_THAT(error.what(), HasSubstr("lost its coordination session"));
}

TEST_F(ActiveRoleTest, OneWhoDiesIsReplacedByOneOfManyStandbys) {
  begin();
  start_config_service("cs2");
  start_config_service("cs3");
  tree_.expire(configs_.at("cs1")->client->session_id());
  loop_.run_ready();
  EXPECT_NE(configs_.at("cs2")->service->is_active(), configs_.at("cs3")->service->is_active());
}

TEST_F(ActiveRoleTest, ALostConnectionIsRiddenOut) {
  begin();
  const std::int64_t session = configs_.at("cs1")->client->session_id();
  tree_.disconnect(session);
  loop_.advance(std::chrono::seconds(3));
  EXPECT_EQ(status_refusal("cs1").code(), Code::unavailable);
  tree_.reconnect(session);
  loop_.advance(std::chrono::seconds(3));
  EXPECT_EQ(status().config_service().service(), "cs1");
}

TEST_F(ActiveRoleTest, AChangeMissedWhileDisconnectedIsSeenAfterwards) {
  begin();
  ConfigService& standby = start_config_service("cs2");
  const std::int64_t session = configs_.at("cs2")->client->session_id();
  tree_.disconnect(session);
  stop_config_service("cs1");
  loop_.advance(std::chrono::seconds(3));
  EXPECT_FALSE(standby.is_active());
  tree_.reconnect(session);
  loop_.advance(std::chrono::seconds(3));
  EXPECT_TRUE(standby.is_active());
}

TEST_F(ActiveRoleTest, WhoeverWaitsUntilReadyWaitsForInit) {
  ConfigService& service = start_config_service("cs1");
  bool ready = false;
  struct Wait {
    static runtime::Task<void> run(ConfigService& on, bool& done) {
      co_await on.wait_ready();
      done = true;
    }
  };
  runtime::TaskGroup group(loop_, [](std::exception_ptr) { FAIL(); });
  group.spawn(Wait::run(service, ready));
  loop_.advance(std::chrono::minutes(1));
  EXPECT_FALSE(ready);
  init();
  loop_.run(group.close());
  EXPECT_TRUE(ready);
}

TEST_F(ActiveRoleTest, StopEndsWaiting) {
  ConfigService& service = start_config_service("cs1");
  std::exception_ptr error;
  runtime::TaskGroup group(loop_, [&](std::exception_ptr thrown) { error = thrown; });
  group.spawn(service.wait_ready());
  const auto process = std::move(configs_.extract("cs1").mapped());
  loop_.run(process->service->stop());
  loop_.run(group.close());
  EXPECT_THROW(std::rethrow_exception(error), Error);
  loop_.run(process->endpoint->stop());
}

TEST_F(ActiveRoleTest, GarbageInARequestIsRefused) {
  begin();
  rpc::Message message;
  message.header = "\xff\xff\xff garbage";
  const Error error = error_of(
      loop_, cli_->call("cs1", method::kAddNode, std::move(message), std::chrono::seconds(1)));
  EXPECT_EQ(error.code(), Code::invalid_argument);
}

}  // namespace
}  // namespace datom::config_service

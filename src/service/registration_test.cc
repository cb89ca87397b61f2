#include "service/registration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "config_service/init.h"
#include "coordination/memory/memory.h"
#include "protocol/config.pb.h"
#include "rpc/connection_cache.h"
#include "runtime/virtual_loop.h"

namespace datom::service {
namespace {

using runtime::Task;
using ::testing::HasSubstr;

// A domain with node n1 and its volume server vs1.
class Registration : public ::testing::Test {
 protected:
  Registration() {
    settings_.node.node = "n1";
    settings_.node.uuid = Uuid::from_random(1, 2);
    settings_.node.domain = "default";
    settings_.service = {"vs1", protocol::ServiceType::volume_server, 7401, 10809};
    settings_.node.services = {settings_.service};
  }

  void make_tree() { loop_.run(make_tree(*client_, random_, settings_)); }
  static Task<void> make_tree(coordination::Client& client, runtime::Random& random,
                              ServiceSettings settings) {
    protocol::InitRequest request;
    request.set_domain("default");
    auto* node = request.mutable_node();
    node->set_name("n1");
    node->set_uuid(settings.node.uuid.to_string());
    node->set_host("host1");
    auto* service = node->add_services();
    service->set_name("vs1");
    service->set_type("volumeserver");
    service->set_port(7401);
    service->set_nbd_port(10809);
    co_await config_service::make_tree(client, random, std::move(request));
  }

  // Why the service may not start; empty when it may.
  std::string refusal() {
    try {
      loop_.run(check_registered(*client_, settings_));
      return "";
    } catch (const Error& error) {
      return error.what();
    }
  }
  void announce_as(coordination::Client& client, const std::string& epoch) {
    Presence presence;
    presence.address = "127.0.0.1:7401";
    presence.nbd_address = "127.0.0.1:10809";
    presence.epoch = epoch;
    presence.pid = 42;
    loop_.run(announce(client, settings_, presence));
  }
  // The published instance's epoch; "none".
  std::string published() {
    std::string epoch = "none";
    loop_.run(read_epoch(*client_, &epoch));
    return epoch;
  }
  static Task<void> read_epoch(coordination::Client& client, std::string* epoch) {
    const auto node = co_await client.get(protocol::paths::service_instance("default", "vs1"));
    if (node) *epoch = rpc::Instance::from_json(node->data).epoch;
  }

  static constexpr const char* kFirst = "00000000-0000-4000-8000-000000000001";
  static constexpr const char* kSecond = "00000000-0000-4000-8000-000000000002";

  runtime::VirtualLoop loop_;
  runtime::SeededRandom random_{1};
  coordination::MemoryTree tree_;
  std::unique_ptr<coordination::Client> client_ = tree_.open_session(loop_);
  ServiceSettings settings_;
};

TEST_F(Registration, AServiceOfTheNodeMayStart) {
  make_tree();
  EXPECT_EQ(refusal(), "");
}

TEST_F(Registration, FreshTreeSaysInit) {
  EXPECT_THAT(refusal(), HasSubstr("datom init"));
}

TEST_F(Registration, RefusalSaysWhatIsMissing) {
  make_tree();
  settings_.node.domain = "other";
  EXPECT_THAT(refusal(), HasSubstr("no domain 'other'"));
  settings_.node.domain = "default";
  settings_.node.node = "n2";
  EXPECT_THAT(refusal(), HasSubstr("no node 'n2'"));
  settings_.node.node = "n1";
  settings_.service.name = "vs2";
  EXPECT_THAT(refusal(), HasSubstr("no service 'vs2'"));
}

TEST_F(Registration, AnotherMachineOfTheSameNameIsRefused) {
  make_tree();
  settings_.node.uuid = Uuid::from_random(8, 9);
  EXPECT_THAT(refusal(), HasSubstr("has uuid"));
}

TEST_F(Registration, AnotherKindOfServiceIsRefused) {
  make_tree();
  settings_.service.type = protocol::ServiceType::config_service;
  EXPECT_THAT(refusal(), HasSubstr("registered as volumeserver"));
}

TEST_F(Registration, ARestartedServiceReplacesWhatItsOldSessionLeft) {
  make_tree();
  const auto old = tree_.open_session(loop_);
  announce_as(*old, kFirst);
  announce_as(*client_, kSecond);
  EXPECT_EQ(published(), kSecond);
  tree_.expire(old->session_id());
  EXPECT_EQ(published(), kSecond);
}

TEST_F(Registration, GoesWithItsSession) {
  make_tree();
  const auto session = tree_.open_session(loop_);
  announce_as(*session, kFirst);
  tree_.expire(session->session_id());
  EXPECT_EQ(published(), "none");
}

TEST_F(Registration, WithdrawsOnlyItsOwn) {
  make_tree();
  announce_as(*client_, kSecond);
  loop_.run(withdraw(*client_, settings_, kFirst, telemetry::Log::silent()));
  EXPECT_EQ(published(), kSecond);
  loop_.run(withdraw(*client_, settings_, kSecond, telemetry::Log::silent()));
  EXPECT_EQ(published(), "none");
}

}  // namespace
}  // namespace datom::service

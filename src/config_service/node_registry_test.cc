#include "config_service/node_registry.h"

#include <gmock/gmock.h>

#include <functional>

#include "config_service/domain_fixture.h"

namespace datom::config_service {
namespace {

using ::testing::HasSubstr;

namespace method = protocol::method;
namespace paths = protocol::paths;

class NodeRegistryTest : public DomainTest {
 protected:
  NodeRegistryTest() { begin(); }

  protocol::Node add(const protocol::AddNodeRequest& request) {
    return ask<protocol::AddNodeReply>(method::kAddNode, request).node();
  }
  Error add_refusal(const protocol::AddNodeRequest& request) {
    return refusal<protocol::AddNodeReply>(method::kAddNode, request);
  }
  void remove(const std::string& name) {
    protocol::RemoveNodeRequest request;
    request.set_name(name);
    ask<protocol::RemoveNodeReply>(method::kRemoveNode, request);
  }
  Error remove_refusal(const std::string& name) {
    protocol::RemoveNodeRequest request;
    request.set_name(name);
    return refusal<protocol::RemoveNodeReply>(method::kRemoveNode, request);
  }
  protocol::ServiceRecord service(const std::string& name) {
    return protocol::ServiceRecord::from_json(*value(paths::service("d", name)));
  }
};

TEST_F(NodeRegistryTest, ANodeComesWithItsServicesAndHardware) {
  auto request = node_request(1);
  auto& disk = *request.mutable_hardware()->add_disks();
  disk.set_name("nvme0n1");
  disk.set_bytes(1ull << 40);
  request.mutable_hardware()->add_links()->add_addresses("192.0.2.7");
  const protocol::Node node = add(request);
  EXPECT_EQ(node.name(), "n1");
  EXPECT_EQ(node.state(), "in service");
  EXPECT_EQ(node.hardware().disks(0).bytes(), 1ull << 40);
  EXPECT_EQ(node.hardware().links(0).addresses(0), "192.0.2.7");
  ASSERT_EQ(node.services_size(), 1);
  EXPECT_EQ(node.services(0), "vs1");
  EXPECT_EQ(service("vs1").node, "n1");
  EXPECT_EQ(service("vs1").nbd_port, 10809);
}

TEST_F(NodeRegistryTest, AddingTheSameNodeAgainChangesWhatIsDifferent) {
  add(node_request(1));
  auto request = node_request(1);
  request.set_host("renamed");
  request.mutable_services(0)->set_port(7500);
  auto& other = *request.add_services();
  other.set_name("vs1b");
  other.set_type("volumeserver");
  other.set_port(7501);
  const protocol::Node node = add(request);
  EXPECT_EQ(node.host(), "renamed");
  EXPECT_EQ(node.services_size(), 2);
  EXPECT_EQ(service("vs1").port, 7500);
}

TEST_F(NodeRegistryTest, AServiceThatIsNotNamedAgainStays) {
  add(node_request(1));
  auto request = node_request(1);
  request.clear_services();
  EXPECT_EQ(add(request).services_size(), 1);
}

TEST_F(NodeRegistryTest, ANameTakenByAnotherMachineIsRefused) {
  add(node_request(1));
  auto request = node_request(1);
  request.set_uuid(Uuid::from_random(5, 5).to_string());
  request.clear_services();
  const Error error = add_refusal(request);
  EXPECT_EQ(error.code(), Code::already_exists);
  EXPECT_THAT(error.what(), HasSubstr("node name n1 is taken by host host1"));
}

TEST_F(NodeRegistryTest, AMachineHasOneName) {
  add(node_request(1));
  auto request = node_request(1);
  request.set_name("again");
  request.mutable_services(0)->set_name("vs9");
  const Error error = add_refusal(request);
  EXPECT_EQ(error.code(), Code::already_exists);
  EXPECT_THAT(error.what(), HasSubstr("under the name n1"));
}

TEST_F(NodeRegistryTest, AServiceNameTakenByAnotherNodeIsRefusedAndNothingIsAdded) {
  add(node_request(1));
  auto request = node_request(2);
  request.mutable_services(0)->set_name("vs1");
  const Error error = add_refusal(request);
  EXPECT_EQ(error.code(), Code::already_exists);
  EXPECT_THAT(error.what(), HasSubstr("service name vs1 is taken by a volumeserver on node n1"));
  EXPECT_FALSE(value(paths::node("d", "n2")));
}

TEST_F(NodeRegistryTest, APortOfANodeBelongsToOneService) {
  auto twice = node_request(1);
  auto& other = *twice.add_services();
  other.set_name("cs9");
  other.set_type("configservice");
  other.set_port(10809);
  EXPECT_EQ(add_refusal(twice).code(), Code::invalid_argument);

  add(node_request(1));
  auto later = node_request(1);
  later.mutable_services(0)->set_name("vs1b");
  later.mutable_services(0)->set_nbd_port(0);
  EXPECT_THAT(add_refusal(later).what(),
              HasSubstr("port 7400 of node n1 is given to vs1 and vs1b"));
}

TEST_F(NodeRegistryTest, NonsenseIsRefusedAndAddsNothing) {
  using Spoil = std::function<void(protocol::AddNodeRequest&)>;
  const std::vector<Spoil> spoils = {
      [](auto& request) { request.set_name("N1"); },
      [](auto& request) { request.set_name(""); },
      [](auto& request) { request.set_name("../x"); },
      [](auto& request) { request.set_uuid("x"); },
      [](auto& request) { request.set_uuid(Uuid{}.to_string()); },
      [](auto& request) { request.set_host(std::string(1000, 'h')); },
      [](auto& request) { request.mutable_services(0)->set_name("a/b"); },
      [](auto& request) { request.mutable_services(0)->set_type("gateway"); },
      [](auto& request) { request.mutable_services(0)->set_port(0); },
      [](auto& request) { request.mutable_services(0)->set_port(65536); },
      [](auto& request) { request.mutable_services(0)->set_nbd_port(65536); },
      [](auto& request) { request.mutable_services(0)->set_nbd_port(7400); },
      [](auto& request) { request.mutable_services(0)->set_type("configservice"); },
      [](auto& request) { *request.add_services() = request.services(0); },
      [](auto& request) {
        for (int i = 0; i < 300; ++i) request.mutable_hardware()->add_disks();
      },
  };
  for (std::size_t i = 0; i < spoils.size(); ++i) {
    auto request = node_request(1);
    spoils[i](request);
    EXPECT_EQ(add_refusal(request).code(), Code::invalid_argument) << i;
  }
  EXPECT_EQ(status().nodes_size(), 0);
  EXPECT_EQ(status().services_size(), 0);
}

TEST_F(NodeRegistryTest, ServicesShowWhetherTheyAreUp) {
  add_nodes(2);
  servers_.at("vs2")->die();
  const auto reply =
      ask<protocol::ListServicesReply>(method::kListServices, protocol::ListServicesRequest());
  ASSERT_EQ(reply.services_size(), 2);
  EXPECT_TRUE(reply.services(0).up());
  EXPECT_EQ(reply.services(0).address(), "192.0.2.1:7400");
  EXPECT_EQ(reply.services(0).nbd_address(), "vs1.test:10809");
  EXPECT_EQ(reply.services(0).pid(), 4711);
  EXPECT_FALSE(reply.services(1).up());
  EXPECT_FALSE(reply.services(1).has_address());
}

TEST_F(NodeRegistryTest, ANodeLeavesOnlyWithItsServicesStopped) {
  add_nodes(1);
  const Error error = remove_refusal("n1");
  EXPECT_EQ(error.code(), Code::conflict);
  EXPECT_STREQ(error.what(), "service vs1 of node n1 is up: stop it first");
  servers_.at("vs1")->die();
  remove("n1");
  EXPECT_FALSE(value(paths::node("d", "n1")));
  EXPECT_FALSE(value(paths::service("d", "vs1")));
  EXPECT_EQ(remove_refusal("n1").code(), Code::not_found);
}

TEST_F(NodeRegistryTest, ANodeThatHoldsAVolumeStays) {
  add_nodes(3);
  create_volume("db");
  servers_.at("vs2")->die();
  const Error error = remove_refusal("n2");
  EXPECT_EQ(error.code(), Code::conflict);
  EXPECT_THAT(error.what(), HasSubstr("node n2 holds replicas of 1 volumes (db)"));
  EXPECT_TRUE(value(paths::node("d", "n2")));
}

TEST_F(NodeRegistryTest, ABrokenRecordIsNamedByItsPath) {
  add_nodes(1);
  result_of(loop_, eye_->set(paths::node("d", "n1"), "{}"));
  const Error error =
      refusal<protocol::ListNodesReply>(method::kListNodes, protocol::ListNodesRequest());
  EXPECT_EQ(error.code(), Code::corrupt);
  EXPECT_THAT(error.what(), HasSubstr("/datom/domains/d/nodes/n1: node record: field uuid"));
}

}  // namespace
}  // namespace datom::config_service

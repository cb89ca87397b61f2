// What the config service does about replicas without being asked: replaces those that are lost,
// and moves those of draining nodes. Design, section 5: replacing a replica.
#include "config_service/upkeep.h"

#include <gmock/gmock.h>

#include "config_service/domain_fixture.h"

namespace datom::config_service {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

namespace method = protocol::method;
namespace paths = protocol::paths;

using std::chrono::minutes;
using std::chrono::seconds;

// Volume db on vs1 (leader), vs2 and vs3. A lost replica is replaced after a minute.
class UpkeepTest : public DomainTest {
 protected:
  UpkeepTest() { begin(); }

  void make_domain(int servers) {
    add_nodes(servers);
    set_property("replace.after_ms", "60000");
    create_volume("db");
    elect("db", "vs1");
  }
  void set_property(const std::string& name, const std::string& value) {
    protocol::SetPropertyRequest request;
    request.set_name(name);
    request.set_value(value);
    ask<protocol::SetPropertyReply>(method::kSetProperty, request);
  }
  // More volumes that have vs1 as their leader, on `replicas` servers.
  void make_volumes(int count, std::uint32_t replicas) {
    for (int i = 0; i < count; ++i) {
      const std::string name = "v" + std::to_string(i);
      create_volume(name, replicas);
      elect(name, "vs1");
    }
  }
  void wipe(const std::string& service) {
    for (const auto& replica : volume_record("db").replicas) {
      if (replica.service == service) servers_.at(service)->wiped.insert(replica.replica);
    }
  }
  protocol::Node drain(const std::string& node, bool cancel = false) {
    protocol::DrainNodeRequest request;
    request.set_name(node);
    request.set_cancel(cancel);
    return ask<protocol::DrainNodeReply>(method::kDrainNode, request).node();
  }
  protocol::Node node(const std::string& name) {
    protocol::NodeInfoRequest request;
    request.set_name(name);
    return ask<protocol::NodeInfoReply>(method::kNodeInfo, request).node();
  }

  std::vector<std::string> listed(const std::string& name = "db") {
    std::vector<std::string> services;
    for (const auto& replica : volume_record(name).replicas) services.push_back(replica.service);
    return services;
  }
  void expect_at_rest(std::vector<std::string> services, const std::string& name = "db") {
    EXPECT_EQ(listed(name), services);
    EXPECT_EQ(group_record(name).voters, volume_record(name).replicas);
    EXPECT_TRUE(volume_record(name).move_to.is_nil());
    EXPECT_THAT(group_record(name).learners, IsEmpty());
  }
  std::size_t moves() {
    std::size_t count = 0;
    const auto names = result_of(loop_, eye_->children(paths::volumes("d")));
    for (const std::string& name : *names) count += !volume_record(name).move_to.is_nil();
    return count;
  }
  FakeVolumeServer& leader() { return *servers_.at("vs1"); }
};

TEST_F(UpkeepTest, AReplicaWhoseServiceIsDownForLongIsReplaced) {
  make_domain(4);
  servers_.at("vs3")->die();
  loop_.advance(seconds(55));
  EXPECT_THAT(listed(), ElementsAre("vs1", "vs2", "vs3"));
  EXPECT_THAT(info("db").replacing(),
              AllOf(HasSubstr("vs3 is down"), HasSubstr("replaced after 60 s")));
  loop_.advance(seconds(15));
  expect_at_rest({"vs1", "vs2", "vs4"});
  EXPECT_EQ(info("db").state(), "healthy");
  EXPECT_EQ(info("db").replacing(), "");
}

TEST_F(UpkeepTest, AServiceThatComesBackInTimeKeepsItsReplica) {
  make_domain(4);
  for (int i = 0; i < 3; ++i) {
    servers_.at("vs3").reset();
    loop_.advance(seconds(50));
    start_server(3);
    loop_.advance(seconds(3));
  }
  EXPECT_THAT(listed(), ElementsAre("vs1", "vs2", "vs3"));
}

TEST_F(UpkeepTest, WithoutADelayNothingIsReplaced) {
  make_domain(4);
  set_property("replace.after_ms", "0");
  servers_.at("vs3")->die();
  loop_.advance(minutes(10));
  expect_at_rest({"vs1", "vs2", "vs3"});
  EXPECT_THAT(info("db").replacing(), HasSubstr("replace.after_ms is 0"));
}

TEST_F(UpkeepTest, AServiceThatIsUpButSilentKeepsItsReplica) {
  make_domain(4);
  network_.cut("cs1", "vs3");
  loop_.advance(minutes(10));
  expect_at_rest({"vs1", "vs2", "vs3"});
}

TEST_F(UpkeepTest, ABreakInCoordinationStartsTheDelayAnew) {
  make_domain(4);
  servers_.at("vs3")->die();
  const std::int64_t session = configs_.at("cs1")->client->session_id();
  for (int i = 0; i < 4; ++i) {
    loop_.advance(seconds(50));
    tree_.disconnect(session);
    loop_.advance(seconds(2));
    tree_.reconnect(session);
  }
  expect_at_rest({"vs1", "vs2", "vs3"});
  loop_.advance(seconds(70));
  expect_at_rest({"vs1", "vs2", "vs4"});
}

TEST_F(UpkeepTest, AnotherActiveConfigServiceCountsForItself) {
  make_domain(4);
  start_config_service("cs2");
  servers_.at("vs3")->die();
  loop_.advance(seconds(50));
  stop_config_service("cs1");
  loop_.advance(seconds(50));
  expect_at_rest({"vs1", "vs2", "vs3"});
  loop_.advance(seconds(20));
  expect_at_rest({"vs1", "vs2", "vs4"});
}

TEST_F(UpkeepTest, WithoutAQuorumOfTheOthersNothingIsReplaced) {
  make_domain(5);
  servers_.at("vs3")->die();
  servers_.at("vs2")->state = "FOLLOWER_SYNCING";
  loop_.advance(minutes(10));
  expect_at_rest({"vs1", "vs2", "vs3"});
  EXPECT_THAT(info("db").replacing(), HasSubstr("fewer than a quorum"));
  servers_.at("vs2")->state = "FOLLOWER_FUNCTIONAL";
  loop_.advance(seconds(10));
  expect_at_rest({"vs1", "vs2", "vs4"});
}

TEST_F(UpkeepTest, WhereNoServerCanTakeItALostOneIsWaitedFor) {
  make_domain(3);
  servers_.at("vs3")->die();
  loop_.advance(minutes(10));
  expect_at_rest({"vs1", "vs2", "vs3"});
  EXPECT_THAT(info("db").replacing(), HasSubstr("vs3 on n3 keeps a replica of db already"));
}

TEST_F(UpkeepTest, AReplicaThatCannotBeUsedIsReplacedElsewhere) {
  make_domain(4);
  wipe("vs3");
  loop_.advance(seconds(70));
  expect_at_rest({"vs1", "vs2", "vs4"});
}

TEST_F(UpkeepTest, WhereNoOtherServerCanItsOwnTakesANewReplica) {
  make_domain(3);
  const Uuid before = volume_record("db").replicas[2].replica;
  wipe("vs3");
  loop_.advance(seconds(70));
  expect_at_rest({"vs1", "vs2", "vs3"});
  EXPECT_NE(volume_record("db").replicas[2].replica, before);
  EXPECT_EQ(info("db").state(), "healthy");
}

TEST_F(UpkeepTest, TroubleOfAReplicaThatTakesPartIsNoReason) {
  make_domain(4);
  servers_.at("vs3")->trouble = "the disk is nearly full";
  loop_.advance(minutes(10));
  expect_at_rest({"vs1", "vs2", "vs3"});
}

TEST_F(UpkeepTest, ANewReplicaThatIsLostBeforeItVotesIsTriedElsewhere) {
  make_domain(5);
  leader().learners_get_in_step = false;
  servers_.at("vs3")->die();
  loop_.advance(seconds(65));
  ASSERT_THAT(listed(), ElementsAre("vs1", "vs2", "vs3", "vs4"));
  ASSERT_THAT(group_record("db").learners, SizeIs(1));
  servers_.at("vs4")->die();
  loop_.advance(seconds(50));
  EXPECT_THAT(listed(), ElementsAre("vs1", "vs2", "vs3", "vs4"));
  loop_.advance(seconds(15));
  EXPECT_THAT(listed(), ElementsAre("vs1", "vs2", "vs3", "vs5"));
  leader().learners_get_in_step = true;
  loop_.advance(seconds(5));
  expect_at_rest({"vs1", "vs2", "vs5"});
}

TEST_F(UpkeepTest, ANewReplicaThatIsLostIsWaitedForWhereThereIsNoOther) {
  make_domain(4);
  leader().learners_get_in_step = false;
  servers_.at("vs3")->die();
  loop_.advance(seconds(65));
  servers_.at("vs4")->die();
  loop_.advance(minutes(5));
  EXPECT_THAT(listed(), ElementsAre("vs1", "vs2", "vs3", "vs4"));
  EXPECT_THAT(info("db").replacing(), HasSubstr("vs4 does not get in step"));
  leader().learners_get_in_step = true;
  servers_.at("vs4").reset();
  start_server(4);
  loop_.advance(seconds(5));
  expect_at_rest({"vs1", "vs2", "vs4"});
}

TEST_F(UpkeepTest, AServerThatDoesNotMakeTheNewReplicaIsLeft) {
  make_domain(5);
  leader().learners_get_in_step = false;
  servers_.at("vs4")->makes_replicas = false;
  drain("n3");
  loop_.advance(seconds(50));
  EXPECT_THAT(listed(), ElementsAre("vs1", "vs2", "vs3", "vs4"));
  EXPECT_EQ(info("db").move().trouble(), "vs4 has not made this replica yet");
  loop_.advance(seconds(20));
  EXPECT_THAT(listed(), ElementsAre("vs1", "vs2", "vs3", "vs5"));
}

TEST_F(UpkeepTest, SoManyMovesAtOnceAsThePropertySays) {
  make_domain(5);
  make_volumes(6, 3);
  leader().learners_get_in_step = false;
  for (const std::string node : {"n2", "n3"}) drain(node);
  loop_.advance(seconds(10));
  EXPECT_EQ(moves(), 2u);
  set_property("replace.concurrent", "3");
  loop_.advance(seconds(10));
  EXPECT_EQ(moves(), 3u);
}

TEST_F(UpkeepTest, ADrainedNodeLosesItsReplicasAndIsOut) {
  make_domain(5);
  make_volumes(3, 3);
  const protocol::Node before = drain("n3");
  EXPECT_EQ(before.state(), "draining");
  EXPECT_GT(before.replicas(), 0u);
  loop_.advance(seconds(60));
  EXPECT_EQ(node("n3").state(), "out");
  EXPECT_EQ(node("n3").replicas(), 0u);
  for (const std::string name : {"db", "v0", "v1", "v2"}) {
    EXPECT_THAT(listed(name), AllOf(SizeIs(3), Not(Contains("vs3"))));
  }
  EXPECT_EQ(info("db").state(), "healthy");
  // Neither do new volumes get there, and it may go.
  create_volume("new", 1);
  EXPECT_THAT(listed("new"), Not(Contains("vs3")));
  servers_.at("vs3")->die();
  protocol::RemoveNodeRequest request;
  request.set_name("n3");
  ask<protocol::RemoveNodeReply>(method::kRemoveNode, request);
}

TEST_F(UpkeepTest, ANodeOfAServiceThatIsDownIsDrainedToo) {
  make_domain(4);
  servers_.at("vs3")->die();
  drain("n3");
  loop_.advance(seconds(10));
  expect_at_rest({"vs1", "vs2", "vs4"});
  EXPECT_EQ(node("n3").state(), "out");
}

TEST_F(UpkeepTest, ADrainWithoutAnywhereToGoSaysSoAndWaits) {
  make_domain(3);
  drain("n3");
  loop_.advance(seconds(10));
  const protocol::Node shown = node("n3");
  EXPECT_EQ(shown.state(), "draining");
  ASSERT_EQ(shown.held_size(), 1);
  EXPECT_THAT(shown.held(0).trouble(), HasSubstr("vs1 on n1 keeps a replica of db already"));
  ask<protocol::AddNodeReply>(method::kAddNode, node_request(4));
  start_server(4);
  loop_.advance(seconds(10));
  EXPECT_EQ(node("n3").state(), "out");
}

TEST_F(UpkeepTest, ACancelledDrainPutsTheNodeBackInService) {
  make_domain(3);
  drain("n3");
  loop_.advance(seconds(3));
  EXPECT_EQ(drain("n3", true).state(), "in service");
  ask<protocol::AddNodeReply>(method::kAddNode, node_request(4));
  start_server(4);
  loop_.advance(seconds(10));
  expect_at_rest({"vs1", "vs2", "vs3"});
  drain("n4");
  loop_.advance(seconds(3));
  EXPECT_EQ(node("n4").state(), "out");
  EXPECT_EQ(drain("n4", true).state(), "in service");
}

TEST_F(UpkeepTest, ADrainGoesOnWithAnotherConfigService) {
  make_domain(4);
  leader().learners_get_in_step = false;
  start_config_service("cs2");
  drain("n3");
  loop_.advance(seconds(3));
  tree_.expire(configs_.at("cs1")->client->session_id());
  leader().learners_get_in_step = true;
  loop_.advance(seconds(10));
  expect_at_rest({"vs1", "vs2", "vs4"});
  EXPECT_THAT(*value(paths::node("d", "n3")), HasSubstr("\"out\""));
}

TEST_F(UpkeepTest, ANewReplicaOnANodeThatDrainsIsTriedElsewhere) {
  make_domain(5);
  leader().learners_get_in_step = false;
  drain("n3");
  loop_.advance(seconds(3));
  ASSERT_THAT(listed(), ElementsAre("vs1", "vs2", "vs3", "vs4"));
  drain("n4");
  loop_.advance(seconds(3));
  EXPECT_THAT(listed(), ElementsAre("vs1", "vs2", "vs3", "vs5"));
  EXPECT_EQ(node("n4").state(), "out");
}

TEST_F(UpkeepTest, AnUnknownNodeIsNotDrained) {
  protocol::DrainNodeRequest request;
  request.set_name("n9");
  EXPECT_EQ(refusal<protocol::DrainNodeReply>(method::kDrainNode, request).code(), Code::not_found);
}

// The first one has not heard yet that it is active no more.
TEST_F(UpkeepTest, ATakeoverInTheMiddleOfMovesDoesNoHarm) {
  make_domain(6);
  make_volumes(3, 3);
  start_config_service("cs2");
  drain("n2");
  drain("n3");
  for (int i = 0; i < 20; ++i) {
    const std::string active = configs_.at("cs1")->service->is_active() ? "cs1" : "cs2";
    const std::int64_t session = configs_.at(active)->client->session_id();
    tree_.disconnect(session);
    loop_.run(eye_->remove(std::string(paths::kActiveConfigService)));
    loop_.advance(std::chrono::milliseconds(300 + 130 * i));
    tree_.reconnect(session);
    loop_.advance(std::chrono::milliseconds(130 * i));
  }
  loop_.advance(minutes(1));
  for (const std::string name : {"db", "v0", "v1", "v2"}) {
    EXPECT_THAT(listed(name), AllOf(SizeIs(3), Not(Contains("vs2")), Not(Contains("vs3"))));
    EXPECT_EQ(group_record(name).voters, volume_record(name).replicas);
    EXPECT_THAT(group_record(name).learners, IsEmpty());
  }
}

}  // namespace
}  // namespace datom::config_service

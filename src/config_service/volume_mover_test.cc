// Moves of replicas, as they are asked for; what is done without being asked: upkeep_test.cc.
#include "config_service/volume_mover.h"

#include <gmock/gmock.h>

#include "config_service/domain_fixture.h"
#include "config_service/move_step.h"
#include "runtime/task_group.h"

namespace datom::config_service {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

namespace method = protocol::method;
namespace paths = protocol::paths;

// Volume db on vs1 (leader), vs2 and vs3, of five servers.
class VolumeMoverTest : public DomainTest {
 protected:
  VolumeMoverTest() {
    begin();
    add_nodes(5);
    create_volume("db");
    elect("db", "vs1");
  }

  static protocol::MoveVolumeRequest move_request(const std::string& from, const std::string& to,
                                                  const std::string& name = "db") {
    protocol::MoveVolumeRequest request;
    request.set_name(name);
    request.set_from(from);
    request.set_to(to);
    return request;
  }
  protocol::Volume move(const std::string& from, const std::string& to,
                        const std::string& name = "db") {
    return ask<protocol::MoveVolumeReply>(method::kMoveVolume, move_request(from, to, name))
        .volume();
  }
  Error move_refusal(const std::string& from, const std::string& to,
                     const std::string& name = "db") {
    return refusal<protocol::MoveVolumeReply>(method::kMoveVolume, move_request(from, to, name));
  }
  static protocol::CancelMoveRequest cancel_request() {
    protocol::CancelMoveRequest request;
    request.set_name("db");
    return request;
  }
  Error cancel_refusal() {
    return refusal<protocol::CancelMoveReply>(method::kCancelMove, cancel_request());
  }
  void set_property(const std::string& name, const std::string& value) {
    protocol::SetPropertyRequest request;
    request.set_name(name);
    request.set_value(value);
    ask<protocol::SetPropertyReply>(method::kSetProperty, request);
  }

  std::vector<std::string> listed(const std::string& name = "db") {
    std::vector<std::string> services;
    for (const auto& replica : volume_record(name).replicas) services.push_back(replica.service);
    return services;
  }
  std::vector<std::string> voters(const std::string& name = "db") {
    std::vector<std::string> services;
    for (const auto& replica : group_record(name).voters) services.push_back(replica.service);
    return services;
  }
  void expect_moved() {
    EXPECT_THAT(listed(), ElementsAre("vs1", "vs2", "vs4"));
    EXPECT_THAT(voters(), ElementsAre("vs1", "vs2", "vs4"));
    EXPECT_EQ(volume_record("db").replicas, group_record("db").voters);
    EXPECT_FALSE(info_of_active().has_move());
  }
  void expect_unmoved() {
    EXPECT_THAT(listed(), ElementsAre("vs1", "vs2", "vs3"));
    EXPECT_EQ(volume_record("db").replicas, group_record("db").voters);
    EXPECT_THAT(group_record("db").learners, SizeIs(0));
    EXPECT_TRUE(volume_record("db").move_to.is_nil());
    EXPECT_TRUE(volume_record("db").move_from.is_nil());
  }
  protocol::Volume info_of_active() {
    for (const auto& [name, process] : configs_) {
      if (process->service->is_active()) return info("db", name);
    }
    ADD_FAILURE() << "no config service is active";
    return {};
  }
  FakeVolumeServer& leader() { return *servers_.at("vs1"); }
};

TEST_F(VolumeMoverTest, AMoveEndsWithTheNewVoterInTheOldOnesPlace) {
  const protocol::Volume volume = move("vs3", "vs4");
  EXPECT_EQ(volume.move().from(), "vs3");
  EXPECT_EQ(volume.move().to(), "vs4");
  EXPECT_EQ(volume.replicas(), 3u);
  loop_.advance(std::chrono::seconds(5));
  expect_moved();
}

TEST_F(VolumeMoverTest, WithoutATargetTheLeastUsedServerIsTaken) {
  create_volume("other", 1);  // vs4
  EXPECT_EQ(move("vs3", "").move().to(), "vs5");
}

TEST_F(VolumeMoverTest, MembersAndPhaseAreShownAsTheyAre) {
  leader().learners_get_in_step = false;
  leader().joint_ends = false;
  const auto membership = [&](const std::string& service) {
    const protocol::Volume volume = info("db");
    for (const auto& member : volume.members()) {
      if (member.service() == service) return member.membership();
    }
    return std::string("none");
  };
  move("vs3", "vs4");
  loop_.advance(std::chrono::seconds(2));
  EXPECT_EQ(info("db").move().phase(), "syncing");
  EXPECT_EQ(membership("vs4"), "learner");
  EXPECT_EQ(membership("vs3"), "voter");
  leader().learners_get_in_step = true;
  loop_.advance(std::chrono::seconds(2));
  EXPECT_EQ(info("db").move().phase(), "joint");
  EXPECT_EQ(membership("vs4"), "joining");
  EXPECT_EQ(membership("vs3"), "leaving");
  EXPECT_EQ(info("db").replicas(), 3u);
  leader().joint_ends = true;
  loop_.advance(std::chrono::seconds(2));
  EXPECT_EQ(membership("vs3"), "none");
  EXPECT_EQ(membership("vs4"), "voter");
}

TEST_F(VolumeMoverTest, ALearnerDoesNotMakeTheVolumeDegraded) {
  leader().learners_get_in_step = false;
  move("vs3", "vs4");
  loop_.advance(std::chrono::seconds(2));
  servers_.at("vs4")->state = "FOLLOWER_SYNCING";
  EXPECT_EQ(info("db").state(), "healthy");
  servers_.at("vs3")->state = "FOLLOWER_SYNCING";
  EXPECT_EQ(info("db").state(), "degraded");
}

TEST_F(VolumeMoverTest, NonsenseIsRefusedSayingWhatThereIs) {
  EXPECT_THAT(move_refusal("vs4", "vs5").what(),
              HasSubstr("no replica on vs4; it has them on vs1"));
  EXPECT_EQ(move_refusal("vs4", "vs5").code(), Code::not_found);
  EXPECT_EQ(move_refusal("vs3", "vs9").code(), Code::not_found);
  EXPECT_THAT(move_refusal("vs3", "vs9").what(), HasSubstr("there are: vs1, vs2"));
  EXPECT_THAT(move_refusal("vs3", "vs2").what(),
              HasSubstr("vs2 on n2 keeps a replica of db already"));
  EXPECT_EQ(move_refusal("vs3", "vs4", "nope").code(), Code::not_found);
  EXPECT_EQ(move_refusal("", "vs4").code(), Code::invalid_argument);
  servers_.at("vs4")->die();
  EXPECT_THAT(move_refusal("vs3", "vs4").what(), HasSubstr("vs4 on n4 is down"));
  expect_unmoved();
}

TEST_F(VolumeMoverTest, ARepeatedRequestIsAnsweredAsTheFirstAndAnotherIsRefused) {
  leader().learners_get_in_step = false;
  const std::string replica = move("vs3", "vs4").move().to_replica();
  EXPECT_EQ(move("vs3", "vs4").move().to_replica(), replica);
  EXPECT_EQ(move("vs3", "").move().to_replica(), replica);
  for (const auto& [from, to] : {std::pair("vs3", "vs5"), std::pair("vs2", "vs4")}) {
    const Error error = move_refusal(from, to);
    EXPECT_EQ(error.code(), Code::conflict);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("from vs3 to vs4 already"), HasSubstr("--cancel")));
  }
}

TEST_F(VolumeMoverTest, MovesAtOnceAreBounded) {
  leader().learners_get_in_step = false;
  for (const std::string name : {"b", "c"}) {
    create_volume(name, 1);
    elect(name, "vs1");
  }
  set_property("replace.concurrent", "1");
  move("vs3", "vs4");
  const std::string from = volume_record("b").replicas[0].service;
  const Error error = move_refusal(from, "", "b");
  EXPECT_EQ(error.code(), Code::conflict);
  EXPECT_THAT(error.what(), HasSubstr("replace.concurrent"));
  set_property("replace.concurrent", "2");
  move(from, "", "b");
}

TEST_F(VolumeMoverTest, AMoveIsUndoneBeforeTheLeaderHeardOfIt) {
  leader().state = "LEADER_WAITING_FOR_QUORUM";
  move("vs3", "vs4");
  loop_.advance(std::chrono::seconds(2));
  EXPECT_EQ(info("db").move().phase(), "placing");
  EXPECT_THAT(info("db").move().trouble(), HasSubstr("does not lead"));
  ask<protocol::CancelMoveReply>(method::kCancelMove, cancel_request());
  expect_unmoved();
}

TEST_F(VolumeMoverTest, AMoveIsUndoneWhileTheNewOneIsALearner) {
  leader().learners_get_in_step = false;
  move("vs3", "vs4");
  loop_.advance(std::chrono::seconds(2));
  ASSERT_THAT(group_record("db").learners, SizeIs(1));
  const auto reply = ask<protocol::CancelMoveReply>(method::kCancelMove, cancel_request());
  EXPECT_FALSE(reply.volume().has_move());
  expect_unmoved();
  EXPECT_EQ(cancel_refusal().code(), Code::not_found);
}

TEST_F(VolumeMoverTest, AMoveIsNotUndoneOnceTheNewOneVotes) {
  leader().joint_ends = false;
  move("vs3", "vs4");
  loop_.advance(std::chrono::seconds(3));
  ASSERT_THAT(group_record("db").next_voters, SizeIs(3));
  const Error error = cancel_refusal();
  EXPECT_EQ(error.code(), Code::conflict);
  EXPECT_THAT(error.what(), HasSubstr("vs4 votes already"));
  leader().joint_ends = true;
  loop_.advance(std::chrono::seconds(3));
  expect_moved();
}

TEST_F(VolumeMoverTest, AnUndoWithoutALeaderGoesOnOnceThereIsOne) {
  leader().learners_get_in_step = false;
  move("vs3", "vs4");
  loop_.advance(std::chrono::seconds(2));
  leader().state = "LEADER_WAITING_FOR_QUORUM";
  const Error error = cancel_refusal();
  EXPECT_EQ(error.code(), Code::timeout);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("vs1 does not lead"), HasSubstr("it goes on")));
  EXPECT_EQ(info("db").move().phase(), "undoing");
  elect("db", "vs2");
  servers_.at("vs2")->learners_get_in_step = false;
  loop_.advance(std::chrono::seconds(3));
  expect_unmoved();
}

TEST_F(VolumeMoverTest, AnotherLeaderGoesOnWithTheMove) {
  leader().learners_get_in_step = false;
  move("vs3", "vs4");
  loop_.advance(std::chrono::seconds(2));
  leader().die();
  loop_.advance(std::chrono::seconds(2));
  elect("db", "vs2");
  loop_.advance(std::chrono::seconds(4));
  expect_moved();
}

TEST_F(VolumeMoverTest, WhoLeadsIsAskedAlsoWhenTheTreeIsBehind) {
  elect("db", "vs2");
  auto group = group_record("db");
  group.leader = "vs3";
  result_of(loop_, eye_->set(paths::group("d", volume_record("db").id), group.to_json()));
  move("vs3", "vs4");
  loop_.advance(std::chrono::seconds(2));
  EXPECT_EQ(servers_.at("vs2")->asked_to_replace, 1);
}

TEST_F(VolumeMoverTest, AStandbyThatTakesOverGoesOnWithTheMove) {
  leader().learners_get_in_step = false;
  move("vs3", "vs4");
  start_config_service("cs2");
  tree_.expire(configs_.at("cs1")->client->session_id());
  loop_.advance(std::chrono::seconds(2));
  EXPECT_THAT(group_record("db").learners, SizeIs(1));
  leader().learners_get_in_step = true;
  loop_.advance(std::chrono::seconds(4));
  expect_moved();
}

TEST_F(VolumeMoverTest, AStandbyThatTakesOverGoesOnWithTheUndoing) {
  leader().learners_get_in_step = false;
  move("vs3", "vs4");
  loop_.advance(std::chrono::seconds(2));
  leader().state = "LEADER_WAITING_FOR_QUORUM";
  cancel_refusal();
  stop_config_service("cs1");
  start_config_service("cs2");
  leader().state = "LEADER_FUNCTIONAL";
  loop_.advance(std::chrono::seconds(3));
  expect_unmoved();
}

// A request of a config service that is active no more was long on its way.
TEST_F(VolumeMoverTest, ALearnerThatNobodyWantsGoesAndTheMoveGoesOn) {
  auto group = group_record("db");
  group.learners = {{{"vs5", Uuid::from_random(5, 5)}, group.voters[1].replica}};
  result_of(loop_, eye_->set(paths::group("d", volume_record("db").id), group.to_json()));
  leader().learners_get_in_step = false;
  loop_.advance(std::chrono::seconds(3));
  EXPECT_THAT(group_record("db").learners, SizeIs(0));
  leader().learners_get_in_step = true;
  move("vs3", "vs4");
  loop_.advance(std::chrono::seconds(5));
  expect_moved();
}

// Config services that all take themselves for the active one.
TEST_F(VolumeMoverTest, OfDecisionsAtTheSameTimeOneWinsAndAllGoOnWithIt) {
  const auto endpoint = network_.join("others", no_methods_);
  PropertyRegistry properties(loop_, *eye_, "d");
  VolumeMover one(loop_, random_, *eye_, *endpoint, properties, "d", std::chrono::seconds(2));
  VolumeMover two(loop_, random_, *eye_, *endpoint, properties, "d", std::chrono::seconds(2));
  int refused = 0;
  runtime::TaskGroup deciding(loop_, [&](std::exception_ptr) { ++refused; });
  deciding.spawn(one.begin("db", "vs3", "vs4"));
  deciding.spawn(two.begin("db", "vs2", "vs5"));
  loop_.run(deciding.close());
  EXPECT_EQ(refused, 1);
  EXPECT_THAT(listed(), SizeIs(4));
  for (int i = 0; i < 20; ++i) {
    runtime::TaskGroup stepping(loop_, [&](std::exception_ptr) { ADD_FAILURE(); });
    struct Step {
      static runtime::Task<void> run(VolumeMover& mover) { co_await mover.step("db"); }
    };
    stepping.spawn(Step::run(one));
    stepping.spawn(Step::run(two));
    loop_.run(stepping.close());
    loop_.advance(std::chrono::milliseconds(130));
  }
  loop_.run(endpoint->stop());
  EXPECT_THAT(listed(), SizeIs(3));
  EXPECT_EQ(volume_record("db").replicas, group_record("db").voters);
  EXPECT_TRUE(volume_record("db").move_to.is_nil());
}

TEST_F(VolumeMoverTest, AVolumeIsRemovedInTheMiddleOfItsMove) {
  leader().learners_get_in_step = false;
  move("vs3", "vs4");
  loop_.advance(std::chrono::seconds(2));
  servers_.at("vs4")->drops_removed = false;
  protocol::RemoveVolumeRequest request;
  request.set_name("db");
  const Error error = refusal<protocol::RemoveVolumeReply>(method::kRemoveVolume, request);
  EXPECT_THAT(error.what(), HasSubstr("vs4 did not drop its replica"));
  EXPECT_EQ(move_refusal("vs3", "vs4").code(), Code::conflict);
  EXPECT_EQ(cancel_refusal().code(), Code::not_found);
  servers_.at("vs4")->drops_removed = true;
  loop_.advance(std::chrono::seconds(5));
  EXPECT_FALSE(value(paths::volume("d", "db")));
}

TEST_F(VolumeMoverTest, ANodeThatAReplicaMovesToIsNotTakenAway) {
  leader().learners_get_in_step = false;
  move("vs3", "vs4");
  servers_.at("vs4")->die();
  protocol::RemoveNodeRequest request;
  request.set_name("n4");
  const Error error = refusal<protocol::RemoveNodeReply>(method::kRemoveNode, request);
  EXPECT_EQ(error.code(), Code::conflict);
  EXPECT_THAT(error.what(), HasSubstr("datom node drain n4"));
}

TEST_F(VolumeMoverTest, TheOnlyReplicaOfAVolumeMovesToo) {
  create_volume("one", 1);
  const std::string from = volume_record("one").replicas[0].service;
  elect("one", from);
  move(from, "vs2", "one");
  loop_.advance(std::chrono::seconds(5));
  EXPECT_THAT(voters("one"), ElementsAre("vs2"));
  EXPECT_THAT(listed("one"), ElementsAre("vs2"));
}

}  // namespace
}  // namespace datom::config_service

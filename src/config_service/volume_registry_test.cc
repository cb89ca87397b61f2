#include "config_service/volume_registry.h"

#include <gmock/gmock.h>

#include <functional>
#include <set>

#include "config_service/domain_fixture.h"

namespace datom::config_service {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

namespace method = protocol::method;
namespace paths = protocol::paths;

class VolumeRegistryTest : public DomainTest {
 protected:
  VolumeRegistryTest() { begin(); }

  Error create_refusal(const protocol::CreateVolumeRequest& request) {
    return refusal<protocol::CreateVolumeReply>(method::kCreateVolume, request);
  }
  static protocol::RemoveVolumeRequest removal_of(const std::string& name) {
    protocol::RemoveVolumeRequest request;
    request.set_name(name);
    return request;
  }
  protocol::RemoveVolumeReply remove(const std::string& name) {
    return ask<protocol::RemoveVolumeReply>(method::kRemoveVolume, removal_of(name));
  }
  Error remove_refusal(const std::string& name) {
    return refusal<protocol::RemoveVolumeReply>(method::kRemoveVolume, removal_of(name));
  }
  std::vector<std::string> under(const std::string& path) {
    return result_of(loop_, eye_->children(path)).value_or(std::vector<std::string>{"(missing)"});
  }
  void make_ephemeral(coordination::Client& client, const std::string& path) {
    coordination::CreateOptions options;
    options.ephemeral = true;
    result_of(loop_, client.create(path, "", options));
  }
};

TEST_F(VolumeRegistryTest, CreateRecordsVolumeAndGroupOnDistinctNodes) {
  add_nodes(4);
  create_volume("db");
  const protocol::VolumeRecord volume = volume_record("db");
  EXPECT_EQ(volume.name, "db");
  EXPECT_EQ(volume.size, 1u << 30);
  EXPECT_EQ(volume.access, protocol::Access::exclusive);
  EXPECT_FALSE(volume.removing);
  std::set<std::string> services;
  std::set<Uuid> replicas;
  for (const auto& replica : volume.replicas) {
    services.insert(replica.service);
    replicas.insert(replica.replica);
  }
  EXPECT_THAT(services, ElementsAre("vs1", "vs2", "vs3"));
  EXPECT_THAT(replicas, SizeIs(3));

  const auto group = protocol::GroupRecord::from_json(*value(paths::group("d", volume.id)));
  EXPECT_EQ(group.term, Term(0));
  EXPECT_EQ(group.phase, protocol::Phase::no_leader);
  EXPECT_EQ(group.config_epoch, 1u);
  EXPECT_EQ(group.voters, volume.replicas);
  EXPECT_THAT(group.learners, IsEmpty());
  EXPECT_THAT(under(paths::group_members("d", volume.id)), IsEmpty());
  EXPECT_THAT(under(paths::group_locks("d", volume.id)), IsEmpty());
}

TEST_F(VolumeRegistryTest, LimitsAreKeptInTheRecordAndWhatIsNotGivenStays) {
  add_nodes(3);
  protocol::CreateVolumeRequest request = volume_request("db");
  request.set_iops_limit(500);
  ask<protocol::CreateVolumeReply>(method::kCreateVolume, request);
  EXPECT_EQ(volume_record("db").limits, (protocol::Limits{500, 0, 0}));
  protocol::SetVolumeRequest other;
  other.set_name("db");
  other.set_mib_limit(20);
  other.set_burst(5);
  ask<protocol::SetVolumeReply>(method::kSetVolume, other);
  EXPECT_EQ(volume_record("db").limits, (protocol::Limits{500, 20, 5}));
  other.set_iops_limit(0);
  ask<protocol::SetVolumeReply>(method::kSetVolume, other);
  EXPECT_EQ(volume_record("db").limits, (protocol::Limits{0, 20, 5}));
}

TEST_F(VolumeRegistryTest, ImpossibleLimitsAreRefused) {
  add_nodes(3);
  create_volume("db");
  protocol::SetVolumeRequest request;
  request.set_name("db");
  request.set_burst(protocol::kMaxBurst + 1);
  const Error error = refusal<protocol::SetVolumeReply>(method::kSetVolume, request);
  EXPECT_EQ(error.code(), Code::invalid_argument);
  EXPECT_THAT(error.what(), HasSubstr("burst is 3601, expected 0 (no limit) to 3600"));
  request.set_name("nobody");
  EXPECT_EQ(refusal<protocol::SetVolumeReply>(method::kSetVolume, request).code(), Code::not_found);
}

TEST_F(VolumeRegistryTest, TheLeastUsedServersAreTakenFirst) {
  add_nodes(3);
  create_volume("a", 2);
  create_volume("b", 1);
  EXPECT_EQ(volume_record("b").replicas[0].service, "vs3");
  create_volume("c", 3);
  create_volume("e", 1);
  EXPECT_EQ(volume_record("e").replicas[0].service, "vs1");
}

TEST_F(VolumeRegistryTest, TooFewServersAreRefusedWithTheReason) {
  add_nodes(3);
  servers_.at("vs3")->die();
  const Error error = create_refusal(volume_request("db"));
  EXPECT_EQ(error.code(), Code::unavailable);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("found 2 (n1, n2)"), HasSubstr("vs3 on n3 is down")));
  EXPECT_FALSE(value(paths::volume("d", "db")));
}

TEST_F(VolumeRegistryTest, AServerThatDoesNotAnswerIsLeftOut) {
  add_nodes(3);
  network_.cut("cs1", "vs2");
  EXPECT_THAT(create_refusal(volume_request("db")).what(), HasSubstr("vs2 on n2 does not answer"));
}

TEST_F(VolumeRegistryTest, WhatReplicasMayGrowToIsNotGivenTwice) {
  add_nodes(1);
  servers_.at("vs1")->free_bytes = (2ull << 30) + 4096;
  servers_.at("vs1")->bytes_used = 0;
  create_volume("a", 1);
  create_volume("b", 1);
  const Error error = create_refusal(volume_request("c", 1));
  EXPECT_EQ(error.code(), Code::no_space);
  EXPECT_THAT(error.what(), HasSubstr("vs1 on n1 has 4096 bytes left to give"));
}

TEST_F(VolumeRegistryTest, NonsenseIsRefusedSayingWhatIsExpected) {
  add_nodes(3);
  using Spoil = std::function<void(protocol::CreateVolumeRequest&)>;
  const std::vector<std::pair<Spoil, std::string>> spoils = {
      {[](auto& request) { request.set_name("Db"); }, "volume name 'Db' is refused"},
      {[](auto& request) { request.set_name(""); }, "volume name"},
      {[](auto& request) { request.set_size(0); }, "size is 0 bytes"},
      {[](auto& request) { request.set_size((1 << 20) - 4096); }, "1 MiB"},
      {[](auto& request) { request.set_size((1 << 20) + 512); }, "multiple of 4096"},
      {[](auto& request) { request.set_size((64ull << 40) + 4096); }, "64 TiB"},
      {[](auto& request) { request.set_replicas(8); }, "replicas is 8, expected 1 to 7"},
      {[](auto& request) { request.set_access("open"); }, "access is 'open'"},
      {[](auto& request) { request.set_id("7"); }, "id is '7'"},
  };
  for (const auto& [spoil, expected] : spoils) {
    auto request = volume_request("db");
    spoil(request);
    const Error error = create_refusal(request);
    EXPECT_EQ(error.code(), Code::invalid_argument);
    EXPECT_THAT(error.what(), HasSubstr(expected));
  }
  EXPECT_THAT(under(paths::volumes("d")), IsEmpty());
  EXPECT_THAT(under(paths::groups("d")), IsEmpty());
}

TEST_F(VolumeRegistryTest, SizesAtTheBoundsAreAccepted) {
  add_nodes(1);
  auto request = volume_request("small", 1);
  request.set_size(1 << 20);
  ask<protocol::CreateVolumeReply>(method::kCreateVolume, request);
  request = volume_request("large", 1);
  request.set_size(64ull << 40);
  ask<protocol::CreateVolumeReply>(method::kCreateVolume, request);
}

TEST_F(VolumeRegistryTest, ReplicasAndAccessHaveDefaults) {
  add_nodes(4);
  auto request = volume_request("db", 0);
  EXPECT_EQ(ask<protocol::CreateVolumeReply>(method::kCreateVolume, request).volume().replicas(),
            3u);
  request = volume_request("disk");
  request.set_access("shared");
  EXPECT_EQ(ask<protocol::CreateVolumeReply>(method::kCreateVolume, request).volume().access(),
            "shared");
}

TEST_F(VolumeRegistryTest, ATakenNameIsRefused) {
  add_nodes(3);
  create_volume("db");
  const Error error = create_refusal(volume_request("db"));
  EXPECT_EQ(error.code(), Code::already_exists);
  EXPECT_THAT(error.what(), HasSubstr(volume_record("db").id.to_string()));
}

TEST_F(VolumeRegistryTest, ARepeatedRequestIsAnsweredAsTheFirst) {
  add_nodes(3);
  auto request = volume_request("db");
  request.set_id(Uuid::from_random(5, 6).to_string());
  const auto first = ask<protocol::CreateVolumeReply>(method::kCreateVolume, request);
  const auto second = ask<protocol::CreateVolumeReply>(method::kCreateVolume, request);
  EXPECT_EQ(first.volume().id(), request.id());
  EXPECT_EQ(second.SerializeAsString(), first.SerializeAsString());
  EXPECT_THAT(under(paths::groups("d")), SizeIs(1));
  request.set_name("other");
  EXPECT_EQ(create_refusal(request).code(), Code::already_exists);
}

TEST_F(VolumeRegistryTest, CreateWaitsForALeaderIfAsked) {
  add_nodes(3);
  servers_.at("vs1")->state = "FOLLOWER_WAIT_TO_JOIN_GROUP";
  loop_.start_timer(loop_.now() + std::chrono::seconds(1),
                    [this] { servers_.at("vs1")->state = "LEADER_FUNCTIONAL"; });
  auto request = volume_request("db");
  request.set_wait_ms(10'000);
  const runtime::Time before = loop_.now();
  const auto reply = ask<protocol::CreateVolumeReply>(method::kCreateVolume, request);
  EXPECT_EQ(reply.volume().leader(), "vs1");
  EXPECT_LT(loop_.now() - before, std::chrono::seconds(2));
}

TEST_F(VolumeRegistryTest, TheWaitForALeaderIsBounded) {
  add_nodes(3);
  servers_.at("vs1")->state = "LEADER_WAITING_FOR_QUORUM";
  auto request = volume_request("db");
  request.set_wait_ms(10'000);
  const runtime::Time before = loop_.now();
  const auto reply = ask<protocol::CreateVolumeReply>(method::kCreateVolume, request);
  EXPECT_EQ(reply.volume().state(), "unavailable");
  EXPECT_FALSE(reply.volume().has_leader());
  EXPECT_LT(loop_.now() - before, std::chrono::seconds(11));
}

TEST_F(VolumeRegistryTest, InfoTellsOfEveryMember) {
  add_nodes(3);
  create_volume("db");
  const protocol::Volume volume = info("db");
  EXPECT_EQ(volume.state(), "healthy");
  EXPECT_EQ(volume.leader(), "vs1");
  EXPECT_EQ(volume.commit_op(), 40u);
  EXPECT_EQ(volume.block_size(), 4096u);
  ASSERT_EQ(volume.members_size(), 3);
  const protocol::VolumeMember& member = volume.members(1);
  EXPECT_EQ(member.service(), "vs2");
  EXPECT_EQ(member.node(), "n2");
  EXPECT_EQ(member.state(), "FOLLOWER_FUNCTIONAL");
  EXPECT_EQ(member.role(), "follower");
  EXPECT_EQ(member.applied_op(), 39u);
  EXPECT_TRUE(member.voter());
  EXPECT_EQ(member.trouble(), "");
}

TEST_F(VolumeRegistryTest, TheLeadersNbdAddressComesFirst) {
  add_nodes(3);
  create_volume("db");
  servers_.at("vs1")->state = "FOLLOWER_FUNCTIONAL";
  servers_.at("vs2")->state = "LEADER_FUNCTIONAL";
  EXPECT_THAT(info("db").nbd(), ElementsAre("nbd://vs2.test:10809/db", "nbd://vs1.test:10809/db",
                                            "nbd://vs3.test:10809/db"));
}

TEST_F(VolumeRegistryTest, AVolumeWithAMemberThatIsNotFunctionalIsDegraded) {
  add_nodes(3);
  create_volume("db");
  servers_.at("vs3")->state = "FOLLOWER_SYNCING";
  EXPECT_EQ(info("db").state(), "degraded");
  servers_.at("vs3")->die();
  const protocol::Volume volume = info("db");
  EXPECT_EQ(volume.state(), "degraded");
  EXPECT_EQ(volume.members(2).trouble(), "vs3 is down");
  EXPECT_FALSE(volume.members(2).has_state());
  EXPECT_THAT(volume.nbd(), SizeIs(2));
}

TEST_F(VolumeRegistryTest, AVolumeWithoutAServingLeaderIsUnavailable) {
  add_nodes(3);
  create_volume("db");
  servers_.at("vs1")->state = "LEADER_WAITING_FOR_QUORUM";
  EXPECT_EQ(info("db").state(), "unavailable");
  servers_.at("vs1")->die();
  EXPECT_EQ(info("db").state(), "unavailable");
  EXPECT_FALSE(info("db").has_leader());
}

TEST_F(VolumeRegistryTest, OfTwoLeadersTheOneOfTheHigherTermCounts) {
  add_nodes(3);
  create_volume("db");
  servers_.at("vs2")->state = "LEADER_FUNCTIONAL";
  servers_.at("vs2")->term = 2;
  EXPECT_EQ(info("db").leader(), "vs2");
  EXPECT_EQ(info("db").state(), "degraded");
}

TEST_F(VolumeRegistryTest, AServerThatHangsIsNotWaitedForLong) {
  add_nodes(3);
  create_volume("db");
  network_.cut("cs1", "vs3");
  const runtime::Time before = loop_.now();
  const protocol::Volume volume = info("db");
  EXPECT_EQ(volume.state(), "degraded");
  EXPECT_THAT(volume.members(2).trouble(), StartsWith("vs3 does not answer"));
  EXPECT_LE(loop_.now() - before, std::chrono::seconds(3));
}

TEST_F(VolumeRegistryTest, AnotherReplicaThanThePlacedOneIsTrouble) {
  add_nodes(3);
  create_volume("db");
  servers_.at("vs1")->other_replica = true;
  EXPECT_EQ(info("db").state(), "unavailable");
  EXPECT_EQ(info("db").members(0).trouble(), "vs1 has another replica of this volume");
}

TEST_F(VolumeRegistryTest, AnUnknownVolumeIsNotFound) {
  protocol::VolumeInfoRequest request;
  request.set_name("db");
  const Error error = refusal<protocol::VolumeInfoReply>(method::kVolumeInfo, request);
  EXPECT_EQ(error.code(), Code::not_found);
  EXPECT_STREQ(error.what(), "volume db is not in domain d");
  EXPECT_EQ(remove_refusal("db").code(), Code::not_found);
}

TEST_F(VolumeRegistryTest, StatusAndListShowVolumesWithTheirState) {
  add_nodes(3);
  create_volume("db");
  create_volume("web");
  const auto list =
      ask<protocol::ListVolumesReply>(method::kListVolumes, protocol::ListVolumesRequest());
  ASSERT_EQ(list.volumes_size(), 2);
  EXPECT_EQ(list.volumes(0).SerializeAsString(), info("db").SerializeAsString());
  EXPECT_EQ(list.volumes(1).name(), "web");
  EXPECT_FALSE(list.more());
  const protocol::StatusReply reply = status();
  EXPECT_EQ(reply.volumes_size(), 2);
  EXPECT_EQ(reply.volumes(0).state(), "healthy");
  EXPECT_EQ(reply.nodes_size(), 3);
  EXPECT_EQ(reply.services_size(), 3);
}

TEST_F(VolumeRegistryTest, AListThatIsTooLongForOneReplyComesInPages) {
  add_nodes(1);
  create_volume("db", 1);
  protocol::VolumeRecord volume = volume_record("db");
  for (int i = 0; i < 3500; ++i) {
    volume.id = Uuid::from_random(1, random_.next());
    volume.name = fmt::format("v{:04}", i);
    result_of(loop_, eye_->create(paths::volume("d", volume.name), volume.to_json()));
  }
  std::vector<std::string> names;
  protocol::ListVolumesRequest request;
  int pages = 0;
  while (true) {
    const auto page = ask<protocol::ListVolumesReply>(method::kListVolumes, request);
    ++pages;
    EXPECT_LT(page.ByteSizeLong(), rpc::kMaxHeaderBytes);
    for (const auto& item : page.volumes()) names.push_back(item.name());
    if (!page.more()) break;
    request.set_after(names.back());
  }
  EXPECT_GT(pages, 1);
  EXPECT_THAT(names, SizeIs(3501));
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_TRUE(status().more_volumes());
}

TEST_F(VolumeRegistryTest, RemoveLeavesNothingInTheTree) {
  add_nodes(3);
  create_volume("db");
  const std::string group = paths::group("d", volume_record("db").id);
  result_of(loop_, eye_->create(group + "/replicas", ""));
  result_of(loop_, eye_->create(group + "/replicas/mark", ""));
  EXPECT_THAT(remove("db").down(), IsEmpty());
  EXPECT_THAT(under(paths::volumes("d")), IsEmpty());
  EXPECT_THAT(under(paths::groups("d")), IsEmpty());
  EXPECT_NE(create_volume("db").id(), "");
}

TEST_F(VolumeRegistryTest, RemoveWaitsUntilServersHaveDroppedTheirReplicas) {
  add_nodes(3);
  create_volume("db");
  servers_.at("vs2")->drops_removed = false;
  loop_.start_timer(loop_.now() + std::chrono::seconds(3),
                    [this] { servers_.at("vs2")->drops_removed = true; });
  const runtime::Time before = loop_.now();
  remove("db");
  EXPECT_GE(loop_.now() - before, std::chrono::seconds(3));
  EXPECT_FALSE(value(paths::volume("d", "db")));
}

TEST_F(VolumeRegistryTest, ARemovalThatTakesLongSaysSoAndGoesOn) {
  add_nodes(3);
  create_volume("db");
  servers_.at("vs2")->drops_removed = false;
  const Error error = remove_refusal("db");
  EXPECT_EQ(error.code(), Code::timeout);
  EXPECT_STREQ(
      error.what(),
      "volume db is being removed, not done within 10000 ms: vs2 did not drop its replica; the "
      "removal goes on");
  EXPECT_TRUE(info("db").removing());
  EXPECT_EQ(create_refusal(volume_request("db")).code(), Code::already_exists);
  servers_.at("vs2")->drops_removed = true;
  loop_.advance(std::chrono::seconds(5));
  EXPECT_FALSE(value(paths::volume("d", "db")));
}

TEST_F(VolumeRegistryTest, ANewActiveConfigServiceCarriesARemovalThrough) {
  add_nodes(3);
  create_volume("db");
  servers_.at("vs2")->drops_removed = false;
  remove_refusal("db");
  start_config_service("cs2");
  stop_config_service("cs1");
  loop_.advance(std::chrono::seconds(5));
  EXPECT_TRUE(value(paths::volume("d", "db")));
  servers_.at("vs2")->drops_removed = true;
  loop_.advance(std::chrono::seconds(5));
  EXPECT_FALSE(value(paths::volume("d", "db")));
}

TEST_F(VolumeRegistryTest, ServersThatAreDownDoNotHoldARemovalUp) {
  add_nodes(3);
  create_volume("db");
  servers_.at("vs3")->die();
  EXPECT_THAT(remove("db").down(), ElementsAre("vs3"));
  EXPECT_FALSE(value(paths::volume("d", "db")));
}

TEST_F(VolumeRegistryTest, AServerThatIsUpButSilentHoldsARemovalUp) {
  add_nodes(3);
  create_volume("db");
  network_.cut("cs1", "vs3");
  EXPECT_THAT(remove_refusal("db").what(), HasSubstr("vs3 did not drop"));
  EXPECT_TRUE(value(paths::volume("d", "db")));
}

TEST_F(VolumeRegistryTest, MembersAndLocksThatLingerGoWithTheVolume) {
  add_nodes(3);
  create_volume("db");
  const Uuid id = volume_record("db").id;
  make_ephemeral(*eye_, paths::group_members("d", id) + "/m-0000000001");
  make_ephemeral(*eye_, paths::group_locks("d", id) + "/l-0000000001");
  remove("db");
  EXPECT_THAT(under(paths::groups("d")), IsEmpty());
}

TEST_F(VolumeRegistryTest, ARemovalDoesNotTouchANewVolumeOfThatName) {
  add_nodes(3);
  create_volume("db");
  servers_.at("vs2")->drops_removed = false;
  remove_refusal("db");
  // Another config service has finished it, and the name is used again.
  const Uuid old = volume_record("db").id;
  for (const std::string& path : {paths::group_members("d", old), paths::group_locks("d", old),
                                  paths::group("d", old), paths::volume("d", "db")}) {
    loop_.run(eye_->remove(path));
  }
  create_volume("db");
  loop_.advance(std::chrono::minutes(1));
  EXPECT_NE(volume_record("db").id, old);
  EXPECT_FALSE(volume_record("db").removing);
}

// Who hears `unavailable` takes it that nothing happened.
TEST_F(VolumeRegistryTest, LosingTheRoleAfterTheChangeIsNoPlainRefusal) {
  add_nodes(3);
  servers_.at("vs1")->state = "FOLLOWER_WAIT_TO_JOIN_GROUP";
  const auto expire_soon = [this](const std::string& service) {
    const std::int64_t session = configs_.at(service)->client->session_id();
    loop_.start_timer(loop_.now() + std::chrono::seconds(1),
                      [this, session] { tree_.expire(session); });
  };
  auto request = volume_request("db");
  request.set_wait_ms(10'000);
  start_config_service("cs2");
  start_config_service("cs3");
  expire_soon("cs1");
  EXPECT_EQ(create_refusal(request).code(), Code::outcome_unknown);
  EXPECT_TRUE(value(paths::volume("d", "db")));

  const std::string active = configs_.at("cs2")->service->is_active() ? "cs2" : "cs3";
  servers_.at("vs2")->drops_removed = false;
  expire_soon(active);
  const Error error =
      refusal<protocol::RemoveVolumeReply>(method::kRemoveVolume, removal_of("db"), active);
  EXPECT_EQ(error.code(), Code::outcome_unknown);
  EXPECT_TRUE(volume_record("db").removing);
}

TEST_F(VolumeRegistryTest, VolumesOutliveTheActiveConfigService) {
  add_nodes(3);
  create_volume("db");
  start_config_service("cs2");
  tree_.expire(configs_.at("cs1")->client->session_id());
  loop_.run_ready();
  EXPECT_EQ(info("db", "cs2").state(), "healthy");
}

}  // namespace
}  // namespace datom::config_service

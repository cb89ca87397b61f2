#include "protocol/records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"

namespace datom::protocol {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const Uuid kFirst = Uuid::from_random(1, 2);
const Uuid kSecond = Uuid::from_random(3, 4);

// The message of the Error{corrupt} that reading `text` throws.
template <typename Record>
std::string refusal(const std::string& text) {
  try {
    Record::from_json(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::corrupt);
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << text;
  return "";
}

// `text` with the first `from` in it replaced by `to`.
std::string with(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from << " is not in " << text;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

VolumeRecord a_volume() {
  VolumeRecord record;
  record.id = kFirst;
  record.name = "db";
  record.size = 10ull << 30;
  record.access = Access::shared;
  record.replicas = {{"vs1", kFirst}, {"vs2", kSecond}};
  record.move_from = kFirst;
  record.move_to = kSecond;
  record.undo_move = true;
  record.removing = true;
  record.limits = {1000, 50, 10};
  return record;
}

GroupRecord a_group() {
  GroupRecord record;
  record.term = Term(7);
  record.phase = Phase::leader;
  record.leader = "vs1";
  record.nonce = 0xffff'ffff'ffff'fff0;
  record.config_epoch = 3;
  record.voters = {{"vs1", kFirst}};
  record.learners = {{{"vs2", kSecond}, kFirst}};
  return record;
}

TEST(Names, AreLowerCaseAndBounded) {
  EXPECT_TRUE(valid_name("a"));
  EXPECT_TRUE(valid_name("0-db_1.test"));
  EXPECT_TRUE(valid_name(std::string(63, 'x')));
  EXPECT_FALSE(valid_name(""));
  EXPECT_FALSE(valid_name(std::string(64, 'x')));
  EXPECT_FALSE(valid_name("Db"));
  EXPECT_FALSE(valid_name(".."));
  EXPECT_FALSE(valid_name("-a"));
  EXPECT_FALSE(valid_name("a/b"));
  EXPECT_FALSE(valid_name("a b"));
  EXPECT_FALSE(valid_name(std::string("a\0b", 3)));
  EXPECT_FALSE(valid_name("\xc3\xa4"));
}

TEST(Paths, AreThoseOfTheDesign) {
  EXPECT_EQ(paths::property("d", "p"), "/datom/domains/d/properties/p");
  EXPECT_EQ(paths::node("d", "n"), "/datom/domains/d/nodes/n");
  EXPECT_EQ(paths::service_instance("d", "s"), "/datom/domains/d/services/s/instance");
  EXPECT_EQ(paths::volume("d", "v"), "/datom/domains/d/volumes/v");
  EXPECT_EQ(paths::group_members("d", kFirst),
            "/datom/domains/d/groups/" + kFirst.to_string() + "/members");
  EXPECT_EQ(paths::group_locks("d", kFirst),
            "/datom/domains/d/groups/" + kFirst.to_string() + "/lock");
}

TEST(Records, InstanceComesBack) {
  const InstanceRecord back = InstanceRecord::from_json(InstanceRecord{2, kFirst}.to_json());
  EXPECT_EQ(back.format, 2);
  EXPECT_EQ(back.uuid, kFirst);
}

TEST(Records, ActiveConfigServiceComesBack) {
  const ActiveRecord back =
      ActiveRecord::from_json(ActiveRecord{"cs1", "192.0.2.7:7400", kFirst, 4711}.to_json());
  EXPECT_EQ(back.service, "cs1");
  EXPECT_EQ(back.address, "192.0.2.7:7400");
  EXPECT_EQ(back.epoch, kFirst);
  EXPECT_EQ(back.pid, 4711);
}

TEST(Records, PropertyComesBack) {
  const PropertyRecord record{"say \"hi\"\n", "root@host1", "2026-03-01T12:00:00Z"};
  const PropertyRecord back = PropertyRecord::from_json(record.to_json());
  EXPECT_EQ(back.value, record.value);
  EXPECT_EQ(back.changed_by, record.changed_by);
  EXPECT_EQ(back.changed_at, record.changed_at);
}

TEST(Records, NodeComesBack) {
  NodeRecord record;
  record.uuid = kFirst;
  record.host = "host1.example";
  record.state = NodeState::draining;
  record.hardware.processor = "Some CPU @ 3 GHz";
  record.hardware.cores = 8;
  record.hardware.threads = 16;
  record.hardware.memory_bytes = 64ull << 30;
  record.hardware.disks = {{"nvme0n1", "Fast", 1ull << 40, false}, {"sda", "", 7, true}};
  record.hardware.links = {{"eth0", {"192.0.2.7", "2001:db8::1"}, 10000}};
  const NodeRecord back = NodeRecord::from_json(record.to_json());
  EXPECT_EQ(back.uuid, kFirst);
  EXPECT_EQ(back.host, "host1.example");
  EXPECT_EQ(back.state, NodeState::draining);
  EXPECT_EQ(back.hardware.threads, 16u);
  ASSERT_EQ(back.hardware.disks.size(), 2u);
  EXPECT_EQ(back.hardware.disks[0].bytes, 1ull << 40);
  EXPECT_TRUE(back.hardware.disks[1].rotational);
  ASSERT_EQ(back.hardware.links.size(), 1u);
  EXPECT_EQ(back.hardware.links[0].addresses[1], "2001:db8::1");
  EXPECT_EQ(back.hardware.links[0].megabits_per_second, 10000u);
  EXPECT_EQ(back.to_json(), record.to_json());
}

TEST(Records, ServiceComesBack) {
  const ServiceRecord record{ServiceType::volume_server, "n1", 7400, 10809};
  const ServiceRecord back = ServiceRecord::from_json(record.to_json());
  EXPECT_EQ(back.type, ServiceType::volume_server);
  EXPECT_EQ(back.node, "n1");
  EXPECT_EQ(back.port, 7400);
  EXPECT_EQ(back.nbd_port, 10809);
}

TEST(Records, VolumeComesBack) {
  const VolumeRecord back = VolumeRecord::from_json(a_volume().to_json());
  EXPECT_EQ(back.id, kFirst);
  EXPECT_EQ(back.name, "db");
  EXPECT_EQ(back.size, 10ull << 30);
  EXPECT_EQ(back.block_size, 4096u);
  EXPECT_EQ(back.access, Access::shared);
  EXPECT_EQ(back.replicas, a_volume().replicas);
  EXPECT_EQ(back.move_from, kFirst);
  EXPECT_EQ(back.move_to, kSecond);
  EXPECT_TRUE(back.undo_move);
  EXPECT_TRUE(back.removing);
  EXPECT_EQ(back.limits, (Limits{1000, 50, 10}));
}

TEST(Records, GroupComesBackWithAll64BitsOfItsNumbers) {
  const GroupRecord back = GroupRecord::from_json(a_group().to_json());
  EXPECT_EQ(back.term, Term(7));
  EXPECT_EQ(back.phase, Phase::leader);
  EXPECT_EQ(back.leader, "vs1");
  EXPECT_EQ(back.nonce, 0xffff'ffff'ffff'fff0);
  EXPECT_EQ(back.config_epoch, 3u);
  EXPECT_EQ(back.voters, a_group().voters);
  EXPECT_EQ(back.learners, a_group().learners);
}

TEST(Records, AreReadableJson) {
  EXPECT_EQ((ServiceRecord{ServiceType::config_service, "n1", 7400, 0}).to_json(),
            R"({"type":"configservice","node":"n1","port":7400,"nbd_port":0})");
}

TEST(Records, UnknownFieldsAreIgnored) {
  const std::string text = with(a_volume().to_json(), "{", R"({"colour":{"deep":[1,2]},)");
  EXPECT_EQ(VolumeRecord::from_json(text).name, "db");
}

TEST(Records, RefusalNamesRecordFieldFoundAndExpected) {
  EXPECT_EQ(
      refusal<ServiceRecord>(R"({"type":"volumeserver","node":"n1","port":65536,"nbd_port":0})"),
      "service record: field port is 65536, expected a whole number from 1 to 65535");
  EXPECT_EQ(refusal<GroupRecord>(with(a_group().to_json(), "\"service\":\"vs1\"", "\"service\":7")),
            "group record: field voters[0].service is 7, expected a string");
  EXPECT_EQ(refusal<GroupRecord>(with(a_group().to_json(), "\"term\"", "\"turn\"")),
            "group record: field term is missing, expected a whole number from 0 to "
            "18446744073709551615");
  EXPECT_EQ(refusal<VolumeRecord>(with(a_volume().to_json(), "\"shared\"", "\"open\"")),
            "volume record: field access is \"open\", expected exclusive or shared");
}

TEST(Records, GarbageIsRefused) {
  for (const std::string text : {"", "{", "[]", "null", "\xff\xfe", "{} {}"}) {
    EXPECT_THAT(refusal<VolumeRecord>(text),
                AllOf(HasSubstr("volume record"), HasSubstr("expected a JSON object")));
  }
  EXPECT_THAT(refusal<VolumeRecord>(std::string("\0\n\xff", 3)),
              HasSubstr(R"(found '\x00\x0a\xff', expected a JSON object)"));
  EXPECT_LT(refusal<NodeRecord>(std::string(10'000, 'x')).size(), 300u);
  refusal<NodeRecord>(std::string(10'000, '['));
}

TEST(Records, ImpossibleNumbersAreRefused) {
  const std::string good = a_group().to_json();
  for (const char* term : {"-1", "7.5", "\"7\"", "18446744073709551616", "true", "null"}) {
    refusal<GroupRecord>(with(good, "\"term\":7", std::string("\"term\":") + term));
  }
  refusal<VolumeRecord>(with(a_volume().to_json(), "10737418240", "10737418241"));
  refusal<VolumeRecord>(with(a_volume().to_json(), "10737418240", "0"));
  refusal<VolumeRecord>(with(a_volume().to_json(), "\"block_size\":4096", "\"block_size\":0"));
}

TEST(Records, NamesAndUuidsInsideAreChecked) {
  refusal<VolumeRecord>(with(a_volume().to_json(), "\"vs2\"", "\"../x\""));
  refusal<VolumeRecord>(with(a_volume().to_json(), kFirst.to_string(), "nobody"));
  refusal<VolumeRecord>(with(a_volume().to_json(), kFirst.to_string(), Uuid{}.to_string()));
}

TEST(Records, AServerMayReplaceAReplicaOfItsOwn) {
  const auto back = VolumeRecord::from_json(with(a_volume().to_json(), "\"vs2\"", "\"vs1\""));
  EXPECT_EQ(back.replicas[1], (ReplicaRecord{"vs1", kSecond}));
}

TEST(Records, AReplicaIsListedOnce) {
  VolumeRecord at_rest = a_volume();
  at_rest.move_to = Uuid();
  EXPECT_THAT(refusal<VolumeRecord>(with(at_rest.to_json(), "\"vs2\"", "\"vs1\"")),
              HasSubstr("not listed before"));
  EXPECT_THAT(
      refusal<VolumeRecord>(with(a_volume().to_json(), kSecond.to_string(), kFirst.to_string())),
      HasSubstr("not listed before"));
}

TEST(Records, AGroupHasVotersAndALeaderOnlyInItsPhase) {
  GroupRecord no_voters = a_group();
  no_voters.voters.clear();
  refusal<GroupRecord>(no_voters.to_json());
  GroupRecord nobody_leads = a_group();
  nobody_leads.leader.clear();
  refusal<GroupRecord>(nobody_leads.to_json());
  GroupRecord leaderless_leads = a_group();
  leaderless_leads.phase = Phase::no_leader;
  refusal<GroupRecord>(leaderless_leads.to_json());
}

}  // namespace
}  // namespace datom::protocol

#include "protocol/records.h"

#include <array>
#include <boost/json.hpp>
#include <limits>
#include <set>
#include <utility>

#include "common/bytes.h"
#include "common/check.h"
#include "protocol/json_fields.h"

namespace datom::protocol {
namespace {

namespace json = boost::json;

constexpr std::uint64_t kAnyNumber = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t kMaxPid = std::uint64_t{1} << 31;
constexpr std::size_t kMaxReplicas = 16;
constexpr std::size_t kMaxDevices = 4096;

constexpr std::array<std::pair<NodeState, std::string_view>, 3> kNodeStates = {{
    {NodeState::in_service, "in service"},
    {NodeState::draining, "draining"},
    {NodeState::out, "out"},
}};
constexpr std::array<std::pair<ServiceType, std::string_view>, 2> kServiceTypes = {{
    {ServiceType::config_service, "configservice"},
    {ServiceType::volume_server, "volumeserver"},
}};
constexpr std::array<std::pair<Access, std::string_view>, 2> kAccesses = {{
    {Access::exclusive, "exclusive"},
    {Access::shared, "shared"},
}};
constexpr std::array<std::pair<Phase, std::string_view>, 2> kPhases = {{
    {Phase::no_leader, "no_leader"},
    {Phase::leader, "leader"},
}};

template <typename Table, typename Value>
std::string_view word_of(const Table& table, Value value) {
  for (const auto& [known, word] : table) {
    if (known == value) return word;
  }
  DATOM_CHECK(false);
}

// The value whose word the field holds.
template <typename Table>
auto value_of(const Table& table, const JsonFields& from, std::string_view field) {
  const std::string found = from.string(field);
  std::string expected;
  for (const auto& [value, word] : table) {
    if (word == found) return value;
    if (!expected.empty()) expected += " or ";
    expected += word;
  }
  from.refuse(field, expected);
}

json::string_view view(std::string_view text) {
  return {text.data(), text.size()};
}

json::value encode(const DiskRecord& disk) {
  return json::object{{"name", disk.name},
                      {"model", disk.model},
                      {"bytes", disk.bytes},
                      {"rotational", disk.rotational}};
}

DiskRecord decode_disk(const JsonFields& from) {
  return {.name = from.string("name"),
          .model = from.string("model"),
          .bytes = from.number("bytes", 0, kAnyNumber),
          .rotational = from.boolean("rotational")};
}

json::value encode(const std::string& text) {
  return json::string(text);
}

json::value encode(const ReplicaRecord& replica) {
  return json::object{{"service", replica.service}, {"replica", replica.replica.to_string()}};
}

json::value encode(const LearnerRecord& learner) {
  return json::object{{"service", learner.member.service},
                      {"replica", learner.member.replica.to_string()},
                      {"replaces", learner.replaces.to_string()}};
}

template <typename Item>
json::array encode_all(const std::vector<Item>& items);

json::value encode(const LinkRecord& link) {
  return json::object{{"name", link.name},
                      {"addresses", encode_all(link.addresses)},
                      {"megabits_per_second", link.megabits_per_second}};
}

LinkRecord decode_link(const JsonFields& from) {
  return {.name = from.string("name"),
          .addresses = from.strings("addresses", kMaxDevices),
          .megabits_per_second = from.number("megabits_per_second", 0, kAnyNumber)};
}

template <typename Item>
json::array encode_all(const std::vector<Item>& items) {
  json::array array;
  for (const Item& item : items) array.push_back(encode(item));
  return array;
}

json::value encode(const HardwareRecord& hardware) {
  return json::object{
      {"processor", hardware.processor},     {"cores", hardware.cores},
      {"threads", hardware.threads},         {"memory_bytes", hardware.memory_bytes},
      {"disks", encode_all(hardware.disks)}, {"links", encode_all(hardware.links)}};
}

HardwareRecord decode_hardware(const JsonFields& from) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();
  HardwareRecord hardware;
  hardware.processor = from.string("processor");
  hardware.cores = static_cast<std::uint32_t>(from.number("cores", 0, kMost));
  hardware.threads = static_cast<std::uint32_t>(from.number("threads", 0, kMost));
  hardware.memory_bytes = from.number("memory_bytes", 0, kAnyNumber);
  for (const JsonFields& disk : from.objects("disks", kMaxDevices)) {
    hardware.disks.push_back(decode_disk(disk));
  }
  for (const JsonFields& link : from.objects("links", kMaxDevices)) {
    hardware.links.push_back(decode_link(link));
  }
  return hardware;
}

std::string text_or_empty(const Uuid& uuid) {
  return uuid.is_nil() ? "" : uuid.to_string();
}

Uuid uuid_or_nil(const JsonFields& from, std::string_view field) {
  return from.string(field).empty() ? Uuid{} : from.uuid(field);
}

ReplicaRecord decode_replica(const JsonFields& from) {
  return {.service = from.name("service"), .replica = from.uuid("replica")};
}

// Each replica at most once, and each service too unless `same_service`: a server may replace a
// replica of its own that it lost.
std::vector<ReplicaRecord> decode_replicas(const JsonFields& from, std::string_view field,
                                           bool same_service = false) {
  std::vector<ReplicaRecord> replicas;
  std::set<std::string> services;
  std::set<Uuid> uuids;
  for (const JsonFields& item : from.objects(field, kMaxReplicas)) {
    replicas.push_back(decode_replica(item));
    const bool new_service = services.insert(replicas.back().service).second || same_service;
    const bool new_uuid = uuids.insert(replicas.back().replica).second;
    if (!new_service) item.refuse("service", "a service that is not listed before");
    if (!new_uuid) item.refuse("replica", "a replica that is not listed before");
  }
  return replicas;
}

std::uint16_t decode_port(const JsonFields& from, std::string_view field, std::uint64_t least) {
  return static_cast<std::uint16_t>(from.number(field, least, 65535));
}

}  // namespace

std::string_view name(NodeState state) {
  return word_of(kNodeStates, state);
}
std::string_view name(ServiceType type) {
  return word_of(kServiceTypes, type);
}
std::string_view name(Access access) {
  return word_of(kAccesses, access);
}

std::string InstanceRecord::to_json() const {
  return json::serialize(json::object{{"format", format}, {"uuid", uuid.to_string()}});
}

InstanceRecord InstanceRecord::from_json(std::string_view text) {
  const JsonFields from = JsonFields::parse("instance record", text);
  return {.format = static_cast<int>(from.number("format", 1, 1'000'000)),
          .uuid = from.uuid("uuid")};
}

std::string ActiveRecord::to_json() const {
  return json::serialize(json::object{
      {"service", service}, {"address", address}, {"epoch", epoch.to_string()}, {"pid", pid}});
}

ActiveRecord ActiveRecord::from_json(std::string_view text) {
  const JsonFields from = JsonFields::parse("active config service record", text);
  return {.service = from.name("service"),
          .address = from.string("address"),
          .epoch = from.uuid("epoch"),
          .pid = static_cast<std::int64_t>(from.number("pid", 0, kMaxPid))};
}

std::string PropertyRecord::to_json() const {
  return json::serialize(
      json::object{{"value", value}, {"changed_by", changed_by}, {"changed_at", changed_at}});
}

PropertyRecord PropertyRecord::from_json(std::string_view text) {
  const JsonFields from = JsonFields::parse("property record", text);
  return {.value = from.string("value"),
          .changed_by = from.string("changed_by"),
          .changed_at = from.string("changed_at")};
}

std::string NodeRecord::to_json() const {
  return json::serialize(json::object{{"uuid", uuid.to_string()},
                                      {"host", host},
                                      {"state", view(name(state))},
                                      {"hardware", encode(hardware)}});
}

NodeRecord NodeRecord::from_json(std::string_view text) {
  const JsonFields from = JsonFields::parse("node record", text);
  return {.uuid = from.uuid("uuid"),
          .host = from.string("host"),
          .state = value_of(kNodeStates, from, "state"),
          .hardware = decode_hardware(from.object("hardware"))};
}

std::string ServiceRecord::to_json() const {
  return json::serialize(json::object{
      {"type", view(name(type))}, {"node", node}, {"port", port}, {"nbd_port", nbd_port}});
}

ServiceRecord ServiceRecord::from_json(std::string_view text) {
  const JsonFields from = JsonFields::parse("service record", text);
  return {.type = value_of(kServiceTypes, from, "type"),
          .node = from.name("node"),
          .port = decode_port(from, "port", 1),
          .nbd_port = decode_port(from, "nbd_port", 0)};
}

static json::object encode(const Limits& limits) {
  return {{"iops", limits.iops}, {"mib", limits.mib}, {"burst", limits.burst}};
}

// Volumes that were made before there were limits have none.
static Limits decode_limits(const JsonFields& from) {
  Limits limits;
  if (!from.has("limits")) return limits;
  const JsonFields object = from.object("limits");
  limits.iops = object.number("iops", 0, kMaxIops);
  limits.mib = object.number("mib", 0, kMaxMib);
  limits.burst = object.number("burst", 0, kMaxBurst);
  return limits;
}

std::string VolumeRecord::to_json() const {
  return json::serialize(json::object{{"id", id.to_string()},
                                      {"name", name},
                                      {"size", size},
                                      {"block_size", block_size},
                                      {"access", view(protocol::name(access))},
                                      {"replicas", encode_all(replicas)},
                                      {"move_from", text_or_empty(move_from)},
                                      {"move_to", text_or_empty(move_to)},
                                      {"undo_move", undo_move},
                                      {"removing", removing},
                                      {"limits", encode(limits)}});
}

VolumeRecord VolumeRecord::from_json(std::string_view text) {
  const JsonFields from = JsonFields::parse("volume record", text);
  VolumeRecord record;
  record.id = from.uuid("id");
  record.name = from.name("name");
  record.size = from.number("size", kBlockSize, std::uint64_t{1} << 62);
  if (record.size % kBlockSize != 0) from.refuse("size", "a multiple of 4096");
  record.block_size = static_cast<std::uint32_t>(from.number("block_size", 4096, 4096));
  record.access = value_of(kAccesses, from, "access");
  record.move_from = uuid_or_nil(from, "move_from");
  record.move_to = uuid_or_nil(from, "move_to");
  record.undo_move = from.boolean("undo_move");
  record.replicas = decode_replicas(from, "replicas", !record.move_to.is_nil());
  record.removing = from.boolean("removing");
  record.limits = decode_limits(from);
  return record;
}

std::string GroupRecord::to_json() const {
  return json::serialize(json::object{{"term", term.value()},
                                      {"phase", view(word_of(kPhases, phase))},
                                      {"leader", leader},
                                      {"nonce", nonce},
                                      {"config_epoch", config_epoch},
                                      {"voters", encode_all(voters)},
                                      {"next_voters", encode_all(next_voters)},
                                      {"learners", encode_all(learners)}});
}

GroupRecord GroupRecord::from_json(std::string_view text) {
  const JsonFields from = JsonFields::parse("group record", text);
  GroupRecord record;
  record.term = Term(from.number("term", 0, kAnyNumber));
  record.phase = value_of(kPhases, from, "phase");
  if (!from.string("leader").empty()) record.leader = from.name("leader");
  if (record.leader.empty() != (record.phase == Phase::no_leader)) {
    from.refuse("leader", "a name in phase leader, nothing in phase no_leader");
  }
  record.nonce = from.number("nonce", 0, kAnyNumber);
  record.config_epoch = from.number("config_epoch", 1, kAnyNumber);
  record.voters = decode_replicas(from, "voters");
  if (record.voters.empty()) from.refuse("voters", "at least one voter");
  record.next_voters = decode_replicas(from, "next_voters");
  for (const JsonFields& one : from.objects("learners", 1)) {
    record.learners.push_back({decode_replica(one), one.uuid("replaces")});
  }
  return record;
}

}  // namespace datom::protocol

// The values kept in the coordination tree, as readable JSON, and where they are (design: the
// coordination tree). Every from_json throws Error{corrupt} naming the path's kind, the field, what
// was found and what was expected; unknown fields are ignored, so that an older service reads a
// newer tree.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/strong.h"
#include "common/uuid.h"

namespace datom::protocol {

// Paths. Names are checked by valid_name() before they get here.
namespace paths {
inline constexpr std::string_view kRoot = "/datom";
inline constexpr std::string_view kConfigService = "/datom/configservice";
inline constexpr std::string_view kActiveConfigService = "/datom/configservice/instance";
std::string domain(std::string_view domain);
std::string properties(std::string_view domain);
std::string property(std::string_view domain, std::string_view name);
std::string nodes(std::string_view domain);
std::string node(std::string_view domain, std::string_view name);
std::string services(std::string_view domain);
std::string service(std::string_view domain, std::string_view name);
std::string service_instance(std::string_view domain, std::string_view name);
std::string volumes(std::string_view domain);
std::string volume(std::string_view domain, std::string_view name);
std::string groups(std::string_view domain);
std::string group(std::string_view domain, const Uuid& volume);
std::string group_members(std::string_view domain, const Uuid& volume);
std::string group_locks(std::string_view domain, const Uuid& volume);
}  // namespace paths

// Names of domains, nodes, services, volumes and properties: 1 to 63 of [a-z0-9._-], lower case,
// the first a letter or digit.
bool valid_name(std::string_view name);

// /datom/configservice: makes this tree a datom instance.
struct InstanceRecord {
  int format = 1;
  Uuid uuid;

  std::string to_json() const;
  static InstanceRecord from_json(std::string_view text);
};

// /datom/configservice/instance, ephemeral: the config service that is active.
struct ActiveRecord {
  std::string service;
  std::string address;  // "192.0.2.7:7400"
  Uuid epoch;           // a new one at each start of the process
  std::int64_t pid = 0;

  std::string to_json() const;
  static ActiveRecord from_json(std::string_view text);
};

struct PropertyRecord {
  std::string value;
  std::string changed_by;  // "root@host1"
  std::string changed_at;  // RFC 3339, UTC

  std::string to_json() const;
  static PropertyRecord from_json(std::string_view text);
};

struct DiskRecord {
  std::string name;  // "nvme0n1"
  std::string model;
  std::uint64_t bytes = 0;
  bool rotational = false;
};
struct LinkRecord {
  std::string name;  // "eth0"
  std::vector<std::string> addresses;
  std::uint64_t megabits_per_second = 0;  // 0: unknown
};
struct HardwareRecord {
  std::string processor;  // model name
  std::uint32_t cores = 0;
  std::uint32_t threads = 0;
  std::uint64_t memory_bytes = 0;
  std::vector<DiskRecord> disks;
  std::vector<LinkRecord> links;
};

enum class NodeState { in_service, draining, out };
std::string_view name(NodeState state);  // "in service", "draining", "out"

struct NodeRecord {
  Uuid uuid;
  std::string host;  // host name, for people
  NodeState state = NodeState::in_service;
  HardwareRecord hardware;

  std::string to_json() const;
  static NodeRecord from_json(std::string_view text);
};

enum class ServiceType { config_service, volume_server };
std::string_view name(ServiceType type);  // "configservice", "volumeserver"

struct ServiceRecord {
  ServiceType type = ServiceType::volume_server;
  std::string node;
  std::uint16_t port = 0;
  std::uint16_t nbd_port = 0;  // 0: none

  std::string to_json() const;
  static ServiceRecord from_json(std::string_view text);
};

enum class Access { exclusive, shared };
std::string_view name(Access access);

// One replica: a volume server and the identity of what it keeps.
struct ReplicaRecord {
  std::string service;
  Uuid replica;
  bool operator==(const ReplicaRecord&) const = default;
};

// A replica that is brought in step before it takes the place of a voter.
struct LearnerRecord {
  ReplicaRecord member;
  Uuid replaces;  // the voter's replica
  bool operator==(const LearnerRecord&) const = default;
};

// What clients of a volume may ask for, together; 0: as much as they like.
struct Limits {
  std::uint64_t iops = 0;   // requests a second
  std::uint64_t mib = 0;    // MiB a second, read and written
  std::uint64_t burst = 0;  // seconds: so long unused limits are saved up

  friend bool operator==(const Limits&, const Limits&) = default;
};
inline constexpr std::uint64_t kMaxIops = 100'000'000;
inline constexpr std::uint64_t kMaxMib = 1'000'000;
inline constexpr std::uint64_t kMaxBurst = 3600;

struct VolumeRecord {
  Uuid id;
  std::string name;
  std::uint64_t size = 0;  // bytes, multiple of 4096
  std::uint32_t block_size = 4096;
  Access access = Access::exclusive;
  // Who is to keep a replica: as placed, and while one is replaced both the old and the new one.
  // Who votes now is in the group's record.
  std::vector<ReplicaRecord> replicas;
  // The replica that is being replaced and its successor, both in `replicas`; nil: none is.
  Uuid move_from;
  Uuid move_to;
  // The successor is to go again, as long as it is no voter.
  bool undo_move = false;
  // Deletion is under way: replicas remove their data, then the record goes.
  bool removing = false;
  Limits limits;

  std::string to_json() const;
  static VolumeRecord from_json(std::string_view text);
};

enum class Phase {
  no_leader,  // a term was raised; its election is not over
  leader,     // the term's leader is named
};

// /datom/domains/D/groups/VOLUME_ID: the authority on term and voters. Written by the group's
// elector and leader only, each time guarded by its version, so that terms and configurations have
// one order.
//
// Replacing a replica (rule M3) is three writes, each with the next config_epoch: the new one
// becomes a learner; once it is in step, joint: elections and commits need a majority of `voters`
// and one of `next_voters`; once an entry has been committed so, stable: `voters` = `next_voters`.
struct GroupRecord {
  Term term;
  Phase phase = Phase::no_leader;
  std::string leader;       // service name, "" when none
  std::uint64_t nonce = 0;  // of the write that made this value: tells one's own after a lost reply
  std::uint64_t config_epoch = 1;
  std::vector<ReplicaRecord> voters;
  std::vector<ReplicaRecord> next_voters;  // empty unless joint
  std::vector<LearnerRecord> learners;     // at most one, none while joint

  std::string to_json() const;
  static GroupRecord from_json(std::string_view text);
};

}  // namespace datom::protocol

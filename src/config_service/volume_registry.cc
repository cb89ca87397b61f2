#include "config_service/volume_registry.h"

#include <optional>

#include "common/bytes.h"
#include "common/error.h"
#include "config_service/choose.h"
#include "config_service/views.h"
#include "placement/placement.h"
#include "protocol/config.pb.h"

namespace datom::config_service {
namespace {

using coordination::Check;
using coordination::Create;
using coordination::Delete;
using coordination::Operation;
using coordination::Set;
using protocol::VolumeRecord;
using runtime::Task;

namespace paths = protocol::paths;

constexpr std::uint64_t kMinSize = 1ull << 20;
constexpr std::uint64_t kMaxSize = 64ull << 40;
constexpr std::uint32_t kDefaultReplicas = 3;
constexpr std::uint32_t kMaxReplicas = 7;
constexpr std::size_t kMaxVolumes = 4096;  // of a domain
constexpr int kMaxAttempts = 5;

protocol::Access access_of(const std::string& text) {
  if (text.empty() || text == name(protocol::Access::exclusive)) return protocol::Access::exclusive;
  if (text == name(protocol::Access::shared)) return protocol::Access::shared;
  throw Error(Code::invalid_argument, "access is '{}', expected exclusive or shared",
              text.substr(0, 80));
}

void check_size(std::uint64_t size) {
  if (size >= kMinSize && size <= kMaxSize && size % kBlockSize == 0) return;
  throw Error(Code::invalid_argument,
              "size is {} bytes, expected a multiple of {} from {} (1 MiB) to {} (64 TiB)", size,
              kBlockSize, kMinSize, kMaxSize);
}

std::uint32_t replica_count(std::uint32_t asked) {
  if (asked == 0) return kDefaultReplicas;
  if (asked > kMaxReplicas) {
    throw Error(Code::invalid_argument, "replicas is {}, expected 1 to {}", asked, kMaxReplicas);
  }
  return asked;
}

std::optional<Uuid> requested_id(const std::string& text) {
  if (text.empty()) return std::nullopt;
  const std::optional<Uuid> id = Uuid::parse(text);
  if (!id || id->is_nil()) {
    throw Error(Code::invalid_argument, "id is '{}', expected a uuid", text.substr(0, 80));
  }
  return id;
}

void check_limit(std::string_view what, std::uint64_t limit, std::uint64_t most) {
  if (limit <= most) return;
  throw Error(Code::invalid_argument, "{} is {}, expected 0 (no limit) to {}", what, limit, most);
}

protocol::Limits checked(protocol::Limits limits) {
  check_limit("iops_limit", limits.iops, protocol::kMaxIops);
  check_limit("mib_limit", limits.mib, protocol::kMaxMib);
  check_limit("burst", limits.burst, protocol::kMaxBurst);
  return limits;
}

Uuid new_uuid(runtime::Random& random) {
  const std::uint64_t high = random.next();
  const std::uint64_t low = random.next();
  return Uuid::from_random(high, low);
}

// What the request asks for; the servers are not chosen yet.
VolumeRecord wanted_volume(const protocol::CreateVolumeRequest& request, runtime::Random& random) {
  check_name("volume", request.name());
  check_size(request.size());
  const std::optional<Uuid> id = requested_id(request.id());
  VolumeRecord volume;
  volume.id = id ? *id : new_uuid(random);
  volume.name = request.name();
  volume.size = request.size();
  volume.access = access_of(request.access());
  volume.limits = checked({request.iops_limit(), request.mib_limit(), request.burst()});
  return volume;
}

// True: the request was carried out before.
bool exists(const Domain& domain, const VolumeRecord& wanted) {
  const auto found = domain.volumes.find(wanted.name);
  if (found == domain.volumes.end()) {
    if (!domain.groups.contains(wanted.id.to_string())) return false;
    throw Error(Code::already_exists, "id {} is that of another volume, expected a new one",
                wanted.id.to_string());
  }
  const VolumeRecord& there = found->second.record;
  if (there.id == wanted.id && !there.removing) return true;
  throw Error(Code::already_exists, "volume {} is there already (id {}, {} bytes{}), expected none",
              wanted.name, there.id.to_string(), there.size,
              there.removing ? ", being removed" : "");
}

std::vector<Operation> creation(const std::string& domain, const VolumeRecord& volume) {
  protocol::GroupRecord group;
  group.voters = volume.replicas;
  std::vector<Operation> operations;
  // A service that leaves the domain at this moment makes the step fail; and who takes a node away
  // notices the volume by the version of the node above the volumes.
  for (const protocol::ReplicaRecord& replica : volume.replicas) {
    operations.push_back(Check{paths::service(domain, replica.service)});
  }
  operations.push_back(Set{paths::volumes(domain), ""});
  operations.push_back(Create{paths::group(domain, volume.id), group.to_json()});
  operations.push_back(Create{paths::group_members(domain, volume.id), ""});
  operations.push_back(Create{paths::group_locks(domain, volume.id), ""});
  operations.push_back(Create{paths::volume(domain, volume.name), volume.to_json()});
  return operations;
}

[[noreturn]] void no_such_volume(const std::string& volume, const std::string& domain) {
  throw Error(Code::not_found, "volume {} is not in domain {}", volume, domain);
}

std::vector<std::string> services_of(const Domain& domain, const VolumeRecord& volume) {
  std::vector<std::string> services;
  for (const protocol::ReplicaRecord& replica : domain.replicas_of(volume)) {
    services.push_back(replica.service);
  }
  return services;
}

Removal standing(const Answers& answers, const Uuid& volume) {
  Removal removal;
  for (const auto& [service, answer] : answers) {
    if (!answer.up) {
      removal.down.push_back(service);
    } else if (!answer.trouble.empty() || has_replica(answer, volume)) {
      removal.waiting.push_back(service);
    }
  }
  return removal;
}

}  // namespace

VolumeRegistry::VolumeRegistry(runtime::Loop& loop, runtime::Random& random,
                               coordination::Client& client, rpc::Caller& caller,
                               std::string domain, runtime::Duration ask_timeout)
    : loop_(loop),
      random_(random),
      client_(client),
      caller_(caller),
      domain_(std::move(domain)),
      ask_timeout_(ask_timeout) {}

Task<std::vector<std::string>> VolumeRegistry::place(const Domain& domain, std::uint32_t replicas,
                                                     std::uint64_t size) {
  const Answers answers =
      co_await ask_replicas(loop_, caller_, domain, volume_servers(domain), Uuid{}, ask_timeout_);
  placement::Demand demand;
  demand.replicas = replicas;
  demand.bytes = size;
  co_return placement::place(demand, candidates(domain, answers));
}

Task<void> VolumeRegistry::create(protocol::CreateVolumeRequest request) {
  VolumeRecord volume = wanted_volume(request, random_);
  const std::uint32_t replicas = replica_count(request.replicas());
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    const Domain domain = co_await read_domain(loop_, client_, domain_);
    if (exists(domain, volume)) co_return;
    if (domain.volumes.size() >= kMaxVolumes) {
      throw Error(Code::too_large, "domain {} has {} volumes, expected at most {}", domain_,
                  domain.volumes.size(), kMaxVolumes);
    }
    const std::vector<std::string> services = co_await place(domain, replicas, volume.size);
    volume.replicas.clear();
    for (const std::string& service : services) {
      volume.replicas.push_back({service, new_uuid(random_)});
    }
    const bool done = co_await commit(client_, creation(domain_, volume));
    if (done) co_return;
  }
  throw Error(Code::unavailable, "creating volume {}: the tree keeps changing, try again",
              volume.name);
}

Task<protocol::Volume> VolumeRegistry::info(std::string name) {
  check_name("volume", name);
  const Domain domain = co_await read_volume(loop_, client_, domain_, name);
  const auto found = domain.volumes.find(name);
  if (found == domain.volumes.end()) no_such_volume(name, domain_);
  const VolumeRecord& record = found->second.record;
  const Answers answers = co_await ask_replicas(loop_, caller_, domain, services_of(domain, record),
                                                record.id, ask_timeout_);
  co_return volume_view(domain, name, answers);
}

Task<VolumeRecord> VolumeRegistry::change(std::string name,
                                          std::function<void(VolumeRecord&)> alter) {
  check_name("volume", name);
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    const Domain domain = co_await read_volume(loop_, client_, domain_, name);
    const auto found = domain.volumes.find(name);
    if (found == domain.volumes.end()) no_such_volume(name, domain_);
    VolumeRecord record = found->second.record;
    alter(record);
    if (record.to_json() == found->second.record.to_json()) co_return record;
    std::vector<Operation> operations;
    operations.push_back(
        Set{paths::volume(domain_, name), record.to_json(), found->second.version});
    const bool done = co_await commit(client_, std::move(operations));
    if (done) co_return record;
  }
  throw Error(Code::unavailable, "changing volume {}: the tree keeps changing, try again", name);
}

Task<void> VolumeRegistry::set_limits(protocol::SetVolumeRequest request) {
  co_await change(request.name(), [&request](VolumeRecord& record) {
    if (request.has_iops_limit()) record.limits.iops = request.iops_limit();
    if (request.has_mib_limit()) record.limits.mib = request.mib_limit();
    if (request.has_burst()) record.limits.burst = request.burst();
    record.limits = checked(record.limits);
  });
}

Task<Uuid> VolumeRegistry::begin_removal(std::string name) {
  const VolumeRecord record =
      co_await change(std::move(name), [](VolumeRecord& volume) { volume.removing = true; });
  co_return record.id;
}

Task<std::vector<Operation>> VolumeRegistry::deletion(const VolumeRecord& volume,
                                                      coordination::Version version) {
  std::vector<Operation> operations;
  operations.push_back(Delete{paths::volume(domain_, volume.name), version});
  // Whatever the replicas keep there: members, locks, marks.
  const std::string group = paths::group(domain_, volume.id);
  const auto parts = co_await client_.children(group);
  if (!parts) co_return operations;
  for (const std::string& part : *parts) {
    const std::string parent = group + "/" + part;
    const auto names = co_await client_.children(parent);
    if (!names) continue;
    for (const std::string& name : *names) operations.push_back(Delete{parent + "/" + name});
    operations.push_back(Delete{parent});
  }
  operations.push_back(Delete{group});
  co_return operations;
}

Task<Removal> VolumeRegistry::continue_removal(std::string name, Uuid id) {
  const Domain domain = co_await read_volume(loop_, client_, domain_, name);
  const auto found = domain.volumes.find(name);
  Removal gone;
  gone.done = true;
  if (found == domain.volumes.end() || found->second.record.id != id) co_return gone;
  const VolumeRecord& record = found->second.record;
  const Answers answers =
      co_await ask_replicas(loop_, caller_, domain, services_of(domain, record), id, ask_timeout_);
  Removal removal = standing(answers, id);
  if (!removal.waiting.empty()) co_return removal;
  std::vector<Operation> operations = co_await deletion(record, found->second.version);
  removal.done = co_await commit(client_, std::move(operations));
  co_return removal;
}

Task<std::map<std::string, Uuid>> VolumeRegistry::removals() {
  const Domain domain = co_await read_domain(loop_, client_, domain_);
  std::map<std::string, Uuid> result;
  for (const auto& [name, volume] : domain.volumes) {
    if (volume.record.removing) result[name] = volume.record.id;
  }
  co_return result;
}

}  // namespace datom::config_service

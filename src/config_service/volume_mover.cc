#include "config_service/volume_mover.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "common/error.h"
#include "config_service/choose.h"
#include "config_service/move_step.h"
#include "config_service/replica_answers.h"
#include "properties/known.h"
#include "protocol/methods.h"
#include "protocol/volume.pb.h"

namespace datom::config_service {
namespace {

using coordination::Check;
using coordination::Operation;
using coordination::Set;
using protocol::GroupRecord;
using protocol::ReplicaRecord;
using protocol::VolumeRecord;
using runtime::Task;

namespace method = protocol::method;
namespace paths = protocol::paths;

constexpr int kMaxAttempts = 5;

const Versioned<VolumeRecord>& find_volume(const Domain& domain, const std::string& name) {
  const auto found = domain.volumes.find(name);
  if (found == domain.volumes.end()) {
    throw Error(Code::not_found, "volume {} is not in domain {}", name, domain.name);
  }
  return found->second;
}

const GroupRecord& find_group(const Domain& domain, const VolumeRecord& volume) {
  const auto found = domain.groups.find(volume.id.to_string());
  if (found == domain.groups.end()) {
    throw Error(Code::not_found, "volume {} has no group in the tree", volume.name);
  }
  return found->second.record;
}

std::string services_of(const VolumeRecord& volume) {
  std::string text;
  for (const ReplicaRecord& replica : volume.replicas) {
    text += (text.empty() ? "" : ", ") + replica.service;
  }
  return text;
}

ReplicaRecord replica_on(const VolumeRecord& volume, const std::string& service) {
  for (const ReplicaRecord& replica : volume.replicas) {
    if (replica.service == service) return replica;
  }
  throw Error(Code::not_found, "volume {} has no replica on {}; it has them on {}", volume.name,
              service, services_of(volume));
}

// True: the move is under way as asked.
bool is_under_way(const VolumeRecord& volume, const GroupRecord& group, const std::string& from,
                  const std::string& to) {
  if (volume.removing) throw Error(Code::conflict, "volume {} is being removed", volume.name);
  const std::optional<Move> move = move_of(volume);
  if (!move) return false;
  const bool same = move->from.service == from && (to.empty() || move->to.service == to);
  if (same && !volume.undo_move) return true;
  throw Error(Code::conflict,
              "volume {} is being moved from {} to {} already ({}): wait until that is done, or "
              "undo it with datom volume move {} --cancel",
              volume.name, move->from.service, move->to.service, name(phase_of(volume, group)),
              volume.name);
}

void check_limit(const Domain& domain, std::uint64_t limit) {
  const std::size_t moves = count_moves(domain);
  if (moves < limit) return;
  throw Error(Code::conflict,
              "{} moves are under way in domain {}, expected fewer than {}: wait for one, or raise "
              "the property {}",
              moves, domain.name, limit, properties::kReplaceConcurrent.name);
}

std::string volume_bytes(const Uuid& uuid) {
  return std::string(uuid.bytes.begin(), uuid.bytes.end());
}

Uuid new_uuid(runtime::Random& random) {
  const std::uint64_t high = random.next();
  const std::uint64_t low = random.next();
  return Uuid::from_random(high, low);
}

[[noreturn]] void too_many_changes(const std::string& volume) {
  throw Error(Code::unavailable, "moving volume {}: the tree keeps changing, try again", volume);
}

}  // namespace

std::size_t count_moves(const Domain& domain) {
  return static_cast<std::size_t>(
      std::count_if(domain.volumes.begin(), domain.volumes.end(), [](const auto& each) {
        return !each.second.record.removing && move_of(each.second.record).has_value();
      }));
}

VolumeMover::VolumeMover(runtime::Loop& loop, runtime::Random& random, coordination::Client& client,
                         rpc::Caller& caller, PropertyRegistry& properties, std::string domain,
                         runtime::Duration ask_timeout)
    : loop_(loop),
      random_(random),
      client_(client),
      caller_(caller),
      properties_(properties),
      domain_(std::move(domain)),
      ask_timeout_(ask_timeout) {}

Task<void> VolumeMover::begin(std::string volume, std::string from, std::string to) {
  check_name("volume", volume);
  check_name("service", from);
  if (!to.empty()) check_name("service", to);
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    Domain domain = co_await read_domain(loop_, client_, domain_);
    const VolumeRecord record = find_volume(domain, volume).record;
    const GroupRecord group = find_group(domain, record);
    if (is_under_way(record, group, from, to)) co_return;
    const ReplicaRecord leaving = replica_on(record, from);
    const std::uint64_t limit = co_await properties_.number(properties::kReplaceConcurrent);
    check_limit(domain, limit);
    const Answers answers =
        co_await ask_replicas(loop_, caller_, domain, volume_servers(domain), Uuid{}, ask_timeout_);
    const std::string service = choose_successor(domain, answers, record, leaving, to);
    const bool done = co_await place(domain, volume, leaving, service);
    if (done) co_return;
  }
  too_many_changes(volume);
}

Task<Uuid> VolumeMover::begin_undo(std::string volume) {
  check_name("volume", volume);
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    Domain domain = co_await read_volume(loop_, client_, domain_, volume);
    VolumeRecord record = find_volume(domain, volume).record;
    const GroupRecord group = find_group(domain, record);
    const std::optional<Move> move = move_of(record);
    if (!move || record.removing) {
      throw Error(Code::not_found, "volume {} is not being moved", volume);
    }
    if (record.undo_move) co_return move->to.replica;
    if (votes(group, move->to.replica)) {
      throw Error(Code::conflict,
                  "the move of volume {} from {} to {} cannot be undone any more: {} votes already "
                  "({}); let it end, then move it back",
                  volume, move->from.service, move->to.service, move->to.service,
                  name(phase_of(record, group)));
    }
    record.undo_move = true;
    const bool done = co_await write(domain, volume, std::move(record), "");
    if (done) co_return move->to.replica;
  }
  too_many_changes(volume);
}

Task<bool> VolumeMover::place(Domain& domain, std::string volume, ReplicaRecord from,
                              std::string service) {
  VolumeRecord record = domain.volumes.at(volume).record;
  const ReplicaRecord to{service, new_uuid(random_)};
  record.replicas.push_back(to);
  record.move_from = from.replica;
  record.move_to = to.replica;
  co_return co_await write(domain, volume, std::move(record), service);
}

Task<bool> VolumeMover::place_elsewhere(Domain& domain, std::string volume, std::string service) {
  VolumeRecord record = domain.volumes.at(volume).record;
  const std::string id = record.id.to_string();
  const Uuid before = record.move_to;
  if (!domain.groups.at(id).record.learners.empty()) {
    const GroupRecord group = domain.groups.at(id).record;
    const std::string trouble = co_await cancel_learner(group, record.id, before);
    if (!trouble.empty()) throw Error(Code::unavailable, "{}", trouble);
    co_await client_.sync();  // the leader wrote the record, not this client
    const Domain now = co_await read_volume(loop_, client_, domain_, volume);
    const auto found = now.groups.find(id);
    if (found == now.groups.end()) co_return false;
    domain.groups[id] = found->second;
  }
  const GroupRecord group = domain.groups.at(id).record;
  if (!group.learners.empty() || votes(group, before)) co_return false;
  std::erase_if(record.replicas, [&](const auto& each) { return each.replica == before; });
  const ReplicaRecord to{service, new_uuid(random_)};
  record.replicas.push_back(to);
  record.move_to = to.replica;
  co_return co_await write(domain, volume, std::move(record), service);
}

// Writes what was decided by the two records of the volume, while they are as they were read.
Task<bool> VolumeMover::write(Domain& domain, const std::string& volume, VolumeRecord record,
                              std::string new_service) {
  const Versioned<VolumeRecord> before = domain.volumes.at(volume);
  const auto group = domain.groups.find(record.id.to_string());
  std::vector<Operation> operations;
  if (!new_service.empty()) {
    // As for a new volume: who takes a node away at this moment notices, and so do we.
    const auto node = domain.nodes.find(domain.node_of(new_service));
    if (node == domain.nodes.end()) co_return false;
    operations.push_back(Check{paths::service(domain_, new_service)});
    operations.push_back(Check{paths::node(domain_, node->first), node->second.version});
    operations.push_back(Set{paths::volumes(domain_), ""});
  }
  operations.push_back(Set{paths::volume(domain_, volume), record.to_json(), before.version});
  if (group != domain.groups.end()) {
    operations.push_back(Check{paths::group(domain_, record.id), group->second.version});
  }
  const bool done = co_await commit(client_, std::move(operations));
  if (done) domain.volumes[volume] = {std::move(record), before.version + 1};
  co_return done;
}

Task<std::string> VolumeMover::step(std::string volume) {
  Domain domain = co_await read_volume(loop_, client_, domain_, volume);
  if (!domain.volumes.contains(volume)) co_return "";
  const VolumeRecord record = domain.volumes.at(volume).record;
  const auto found = domain.groups.find(record.id.to_string());
  if (found == domain.groups.end()) co_return "";
  const GroupRecord group = found->second.record;
  const NextStep next = next_step(record, group);
  if (const auto* wanted = std::get_if<WriteVolume>(&next)) {
    co_await write(domain, volume, wanted->record, "");
  } else if (const auto* cancel = std::get_if<AskCancel>(&next)) {
    co_return co_await cancel_learner(group, record.id, cancel->learner);
  } else if (std::holds_alternative<AskReplace>(next)) {
    const Move move = *move_of(record);
    protocol::ReplaceReplicaRequest request;
    request.set_volume(volume_bytes(record.id));
    request.set_from(volume_bytes(move.from.replica));
    request.set_to(volume_bytes(move.to.replica));
    request.set_service(move.to.service);
    co_return co_await ask_leader(group, method::kReplaceReplica, request.SerializeAsString());
  }
  co_return "";
}

Task<std::string> VolumeMover::cancel_learner(const GroupRecord& group, Uuid volume, Uuid learner) {
  protocol::CancelReplaceRequest request;
  request.set_volume(volume_bytes(volume));
  request.set_to(volume_bytes(learner));
  co_return co_await ask_leader(group, method::kCancelReplace, request.SerializeAsString());
}

// Of the leader that the group's record names, or of the one that this one names. Gives why it was
// not done; empty: it was.
Task<std::string> VolumeMover::ask_leader(const GroupRecord& group, rpc::Method method,
                                          std::string request) {
  if (group.leader.empty()) co_return "its group has no leader now";
  std::string leader = group.leader;
  std::string trouble;
  for (int attempt = 0; attempt < 2; ++attempt) {
    rpc::Message message;
    message.header = request;
    std::string other;
    try {
      co_await caller_.call(leader, method, std::move(message), ask_timeout_);
      co_return "";
    } catch (const Error& error) {
      trouble = fmt::format("{} refuses: {}", leader, error.what());
      if (error.code() == Code::not_leader) {
        trouble = fmt::format("{} does not lead its group now", leader);
        other = error.what();
      }
    }
    if (!protocol::valid_name(other) || other == leader) break;
    leader = other;
  }
  co_return trouble;
}

}  // namespace datom::config_service

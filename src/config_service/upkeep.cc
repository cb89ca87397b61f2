#include "config_service/upkeep.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "common/error.h"
#include "config_service/choose.h"
#include "config_service/move_step.h"
#include "config_service/views.h"
#include "properties/known.h"
#include "protocol/config.pb.h"
#include "runtime/task_group.h"

namespace datom::config_service {
namespace {

using protocol::ReplicaRecord;
using protocol::VolumeRecord;
using runtime::Duration;
using runtime::Task;

constexpr Duration kLookEvery = std::chrono::seconds(1);
constexpr Duration kStepEvery = std::chrono::milliseconds(200);
// Of a large domain: the tree and the servers are left alone for this many times what a look took.
constexpr int kRestFactor = 5;

std::int64_t seconds(Duration duration) {
  return std::chrono::duration_cast<std::chrono::seconds>(duration).count();
}

std::vector<std::string> volume_names(const Domain& domain) {
  std::vector<std::string> names;
  for (const auto& [name, volume] : domain.volumes) {
    if (!volume.record.removing) names.push_back(name);
  }
  return names;
}

const protocol::GroupRecord* find_group(const Domain& domain, const VolumeRecord& volume) {
  const auto found = domain.groups.find(volume.id.to_string());
  return found == domain.groups.end() ? nullptr : &found->second.record;
}

// Neither moved nor being put right: a move can begin.
bool at_rest(const Domain& domain, const VolumeRecord& volume) {
  const protocol::GroupRecord* group = find_group(domain, volume);
  return group != nullptr && group->next_voters.empty() && group->learners.empty() &&
         volume.move_to.is_nil() && !volume.removing;
}

bool has_something_to_do(const Domain& domain, const VolumeRecord& volume) {
  const protocol::GroupRecord* group = find_group(domain, volume);
  if (group == nullptr) return false;
  return move_of(volume).has_value() || !std::holds_alternative<Rest>(next_step(volume, *group));
}

}  // namespace

Upkeep::Upkeep(Parts parts, telemetry::Log log, std::string domain, Duration ask_timeout)
    : parts_(parts),
      log_(std::move(log)),
      domain_(std::move(domain)),
      ask_timeout_(ask_timeout),
      pause_(parts.loop) {}

Task<void> Upkeep::run() {
  while (!stopping_) {
    pause_.reset();
    if (!std::exchange(woken_, false)) {
      co_await pause_.sleep_for(moving_.empty() ? kLookEvery : kStepEvery);
    } else {
      next_look_ = parts_.loop.now();
    }
    if (stopping_) break;
    if (parts_.role.role() != Role::active) {
      clocks_.forget();
      continue;
    }
    std::string trouble;
    try {
      co_await turn();
    } catch (const Error& error) {
      trouble = error.what();
    }
    if (!trouble.empty()) {
      // What was not seen may have been well.
      clocks_.forget();
      next_look_ = parts_.loop.now() + kLookEvery;
      if (trouble != trouble_) log_.warn("upkeep.delayed", {}, trouble);
    }
    trouble_ = std::move(trouble);
  }
}

void Upkeep::stop() {
  stopping_ = true;
  pause_.cancel();
}

void Upkeep::wake() {
  woken_ = true;
  pause_.cancel();
}

std::string Upkeep::move_trouble(const std::string& volume) const {
  const auto found = move_troubles_.find(volume);
  return found == move_troubles_.end() ? "" : found->second;
}

std::string Upkeep::waiting(const std::string& volume) const {
  const auto found = waiting_.find(volume);
  return found == waiting_.end() ? "" : found->second;
}

Task<void> Upkeep::turn() {
  if (takeover_ != parts_.role.takeovers()) {
    clocks_.forget();
    takeover_ = parts_.role.takeovers();
  }
  const runtime::Time begin = parts_.loop.now();
  if (begin < next_look_) {
    co_await step_volumes(moving_);
    co_return;
  }
  co_await look();
  const Duration took = parts_.loop.now() - begin;
  next_look_ = parts_.loop.now() + std::max(kLookEvery, took * kRestFactor);
}

Task<Upkeep::Round> Upkeep::read() {
  co_await parts_.client.sync();
  Round round;
  round.domain = co_await read_domain(parts_.loop, parts_.client, domain_);
  round.answers = co_await ask_replicas(parts_.loop, parts_.caller, round.domain,
                                        volume_servers(round.domain), Uuid{}, ask_timeout_);
  const std::uint64_t after = co_await parts_.properties.number(properties::kReplaceAfter);
  round.replace_after = std::chrono::milliseconds(after);
  round.limit = co_await parts_.properties.number(properties::kReplaceConcurrent);
  co_return round;
}

Task<void> Upkeep::look() {
  Round round = co_await read();
  clocks_.observe(parts_.loop.now(), round.domain, round.answers);
  co_await leave_lost_targets(round);
  co_await replace_lost(round);
  co_await drain_nodes(round);
  waiting_ = std::move(round.waiting);
  std::set<std::string> names;
  for (const std::string& name : volume_names(round.domain)) {
    if (has_something_to_do(round.domain, round.domain.volumes.at(name).record)) names.insert(name);
  }
  std::erase_if(move_troubles_, [&](const auto& each) { return !names.contains(each.first); });
  moving_ = names;
  co_await step_volumes(std::move(names));
}

// ---- moves that are under way

Task<void> Upkeep::step_volumes(std::set<std::string> names) {
  std::exception_ptr failed;
  runtime::TaskGroup steps(parts_.loop,
                           [&](std::exception_ptr error) { failed = failed ? failed : error; });
  for (const std::string& name : names) steps.spawn(step_volume(name));
  co_await steps.close();
  if (failed) std::rethrow_exception(failed);
}

Task<void> Upkeep::step_volume(std::string name) {
  std::string trouble = co_await parts_.mover.step(name);
  if (trouble.empty()) {
    move_troubles_.erase(name);
    co_return;
  }
  if (move_trouble(name) != trouble) {
    log_.info("volume.move_waits", {{"volume", name}}, trouble);
  }
  move_troubles_[name] = std::move(trouble);
}

// A new replica whose server is gone for long, or whose node is to be left itself, does not get in
// step: another one is tried, as long as the first one has no vote.
Task<void> Upkeep::leave_lost_targets(Round& round) {
  for (const std::string& name : volume_names(round.domain)) {
    const VolumeRecord volume = round.domain.volumes.at(name).record;
    const protocol::GroupRecord* group = find_group(round.domain, volume);
    const std::optional<Move> move = move_of(volume);
    if (!move || group == nullptr || volume.undo_move) continue;
    if (votes(*group, move->to.replica)) continue;
    const auto node = round.domain.nodes.find(round.domain.node_of(move->to.service));
    const bool leaves = node != round.domain.nodes.end() &&
                        node->second.record.state != protocol::NodeState::in_service;
    if (!leaves && lost_for_long(round, move->to.replica) == nullptr) continue;
    co_await leave_lost_target(round, name);
  }
}

Task<void> Upkeep::leave_lost_target(Round& round, std::string volume) {
  const VolumeRecord record = round.domain.volumes.at(volume).record;
  const Move move = *move_of(record);
  std::string trouble;
  try {
    const std::string service =
        choose_successor(round.domain, round.answers, record, move.from, "");
    const bool done = co_await parts_.mover.place_elsewhere(round.domain, volume, service);
    if (done) {
      log_.info("volume.move_elsewhere",
                {{"volume", volume}, {"instead_of", move.to.service}, {"to", service}});
    }
  } catch (const Error& error) {
    if (error.code() != Code::unavailable && error.code() != Code::no_space) throw;
    trouble = error.what();
  }
  if (!trouble.empty()) {
    round.waiting[volume] = fmt::format(
        "{} does not get in step, and none can be tried instead: {}", move.to.service, trouble);
  }
}

// ---- replicas that should be elsewhere

const TroubleClocks::Lost* Upkeep::lost_for_long(const Round& round, const Uuid& replica) const {
  const TroubleClocks::Lost* lost = clocks_.find(replica);
  if (lost == nullptr || round.replace_after == Duration::zero()) return nullptr;
  return parts_.loop.now() - lost->since >= round.replace_after ? lost : nullptr;
}

// Others must be able to carry the volume on without it: a leader serves, and as many others as are
// a quorum of all are in step.
bool Upkeep::can_be_replaced(const Round& round, const std::string& volume,
                             const ReplicaRecord& replica) const {
  const protocol::Volume view = volume_view(round.domain, volume, round.answers);
  if (!view.has_leader()) return false;
  std::size_t voters = 0;
  std::size_t sound = 0;
  for (const protocol::VolumeMember& member : view.members()) {
    if (!member.voter()) continue;
    ++voters;
    const bool functional =
        member.state() == "LEADER_FUNCTIONAL" || member.state() == "FOLLOWER_FUNCTIONAL";
    if (functional && member.replica() != replica.replica.to_string()) ++sound;
  }
  return sound >= voters / 2 + 1;
}

Task<void> Upkeep::replace_lost(Round& round) {
  for (const std::string& name : volume_names(round.domain)) {
    if (at_rest(round.domain, round.domain.volumes.at(name).record)) {
      co_await replace_lost_of(round, name);
    }
  }
}

Task<void> Upkeep::replace_lost_of(Round& round, std::string volume) {
  const VolumeRecord record = round.domain.volumes.at(volume).record;
  const protocol::GroupRecord group = *find_group(round.domain, record);
  for (const ReplicaRecord& replica : group.voters) {
    const TroubleClocks::Lost* lost = clocks_.find(replica.replica);
    if (lost == nullptr) continue;
    std::string& note = round.waiting[volume];
    const std::int64_t age = seconds(parts_.loop.now() - lost->since);
    if (round.replace_after == Duration::zero()) {
      note =
          fmt::format("{}; is not replaced, as {} is 0", lost->why, properties::kReplaceAfter.name);
    } else if (lost_for_long(round, replica.replica) == nullptr) {
      note = fmt::format("{} for {} s; is replaced after {} s", lost->why, age,
                         seconds(round.replace_after));
    } else if (!can_be_replaced(round, volume, replica)) {
      note = fmt::format("{}; is not replaced while fewer than a quorum of the others are in step",
                         lost->why);
    } else {
      const bool may_stay = lost->service_up;
      co_await move_away(round, volume, replica, may_stay, lost->why);
      co_return;
    }
  }
}

Task<void> Upkeep::drain_nodes(Round& round) {
  std::vector<std::string> draining;
  for (const auto& [name, node] : round.domain.nodes) {
    if (node.record.state == protocol::NodeState::draining) draining.push_back(name);
  }
  for (const std::string& name : draining) co_await drain_node(round, name);
}

Task<void> Upkeep::drain_node(Round& round, std::string node) {
  bool empty = true;
  for (const auto& [name, volume] : Records<VolumeRecord>(round.domain.volumes)) {
    for (const ReplicaRecord& replica : round.domain.replicas_of(volume.record)) {
      if (round.domain.node_of(replica.service) != node) continue;
      empty = false;
      const VolumeRecord now = round.domain.volumes.at(name).record;
      if (!at_rest(round.domain, now) || !votes(*find_group(round.domain, now), replica.replica)) {
        continue;
      }
      co_await move_away(round, name, replica, false, fmt::format("node {} is drained", node));
    }
  }
  if (!empty) co_return;
  const bool done = co_await parts_.nodes.finish_drain(round.domain, node);
  if (done) log_.info("node.drained", {{"node", node}});
}

// `may_stay`: a new replica on the same server will do if no other server can take it.
Task<void> Upkeep::move_away(Round& round, std::string volume, ReplicaRecord replica, bool may_stay,
                             std::string why) {
  std::string& note = round.waiting[volume];
  if (count_moves(round.domain) >= round.limit) {
    note = fmt::format("{}; waits for other moves, of which there are {} ({})", why,
                       count_moves(round.domain), properties::kReplaceConcurrent.name);
    co_return;
  }
  const VolumeRecord record = round.domain.volumes.at(volume).record;
  std::string service;
  try {
    service = choose_successor(round.domain, round.answers, record, replica, "");
  } catch (const Error& error) {
    if (error.code() != Code::unavailable && error.code() != Code::no_space) throw;
    note = fmt::format("{}; {}", why, error.what());
  }
  if (service.empty() && may_stay) service = replica.service;
  if (service.empty()) co_return;
  const bool done = co_await parts_.mover.place(round.domain, volume, replica, service);
  if (!done) co_return;
  round.waiting.erase(volume);
  log_.info("volume.moving", {{"volume", volume}, {"from", replica.service}, {"to", service}}, why);
}

}  // namespace datom::config_service

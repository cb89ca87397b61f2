#include "config_service/config_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "common/error.h"
#include "config_service/active_role.h"
#include "config_service/domain.h"
#include "config_service/init.h"
#include "config_service/move_step.h"
#include "config_service/node_registry.h"
#include "config_service/property_registry.h"
#include "config_service/replica_answers.h"
#include "config_service/upkeep.h"
#include "config_service/verify.h"
#include "config_service/views.h"
#include "config_service/volume_mover.h"
#include "config_service/volume_registry.h"
#include "coordination/caching_client.h"
#include "protocol/config.pb.h"
#include "runtime/task_group.h"
#include "runtime/wait.h"

namespace datom::config_service {
namespace {

using runtime::Duration;
using runtime::Task;

namespace paths = protocol::paths;

constexpr std::uint32_t kMaxWaitMs = 60'000;
constexpr std::uint32_t kDefaultWaitMs = 10'000;  // for a removal, or for a move to be undone
constexpr Duration kLookAgainAfter = std::chrono::milliseconds(100);
constexpr Duration kRemovalInterval = std::chrono::seconds(2);
constexpr std::size_t kPageBytes = 512 << 10;  // of volumes in one reply

Duration wait_of(std::uint32_t wait_ms) {
  return std::chrono::milliseconds(std::min(wait_ms, kMaxWaitMs));
}

Task<void> sleep(runtime::Loop& loop, Duration duration) {
  runtime::Timer timer(loop);
  co_await timer.sleep_for(duration);
}

protocol::ActiveRecord active_record(const ConfigServiceOptions& options) {
  protocol::ActiveRecord record;
  record.service = options.service;
  record.address = options.address;
  record.epoch = options.epoch;
  record.pid = options.pid;
  return record;
}

}  // namespace

struct ConfigService::Impl {
  Impl(runtime::Loop& loop_, runtime::Random& random_, coordination::Client& client_,
       rpc::Caller& caller_, telemetry::Log log_, ConfigServiceOptions options_)
      : loop(loop_),
        random(random_),
        client(client_),
        caller(caller_),
        log(std::move(log_)),
        options(std::move(options_)),
        role(loop, client_, log, active_record(options), options.domain),
        nodes(loop, client, options.domain),
        volumes(loop, random, client, caller, options.domain, options.ask_timeout),
        properties(loop, client, options.domain),
        mover(loop, random, client, caller, properties, options.domain, options.ask_timeout),
        upkeep({loop, client, caller, role, mover, nodes, properties}, log, options.domain,
               options.ask_timeout),
        background(loop, [this](std::exception_ptr error) { report(error); }),
        removal_timer(loop) {}

  // The root of a background task: nothing but our own mistakes gets here.
  void report(std::exception_ptr error) {
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& what) {
      log.error("config_service.task_failed", {}, what.what());
    }
  }

  Task<Domain> everything() { return read_domain(loop, client, options.domain); }
  Task<Answers> ask_all(const Domain& domain) {
    return ask_replicas(loop, caller, domain, volume_servers(domain), Uuid{}, options.ask_timeout);
  }

  // What this one knows besides the tree and its servers' answers.
  void add_upkeep(protocol::Volume& volume) const {
    volume.set_replacing(upkeep.waiting(volume.name()));
    const std::string trouble = upkeep.move_trouble(volume.name());
    if (volume.has_move() && !trouble.empty()) volume.mutable_move()->set_trouble(trouble);
  }
  // Volumes whose name is greater than `after`, as many as fit one reply. True: there are more.
  template <typename Volumes>
  bool add_page(const Domain& domain, const Answers& answers, const std::string& after,
                Volumes& into) const {
    std::size_t bytes = 0;
    for (auto at = domain.volumes.upper_bound(after); at != domain.volumes.end(); ++at) {
      if (bytes >= kPageBytes) return true;
      protocol::Volume& volume = *into.Add();
      volume = volume_view(domain, at->first, answers);
      add_upkeep(volume);
      bytes += volume.ByteSizeLong();
    }
    return false;
  }
  Task<protocol::Volume> info(std::string name) {
    protocol::Volume volume = co_await volumes.info(std::move(name));
    add_upkeep(volume);
    co_return volume;
  }
  Task<protocol::Node> node(std::string name);

  Task<protocol::Volume> wait_for_undo(std::string name, Uuid replica, std::uint32_t wait_ms);
  Task<protocol::Volume> wait_for_leader(std::string name, runtime::Time deadline);
  Task<protocol::RemoveVolumeReply> wait_for_removal(std::string name, Uuid id,
                                                     std::uint32_t wait_ms);
  Task<void> finish_removals();
  Task<void> continue_removals();
  Task<Removal> continue_removal(std::string name, Uuid id);

  runtime::Loop& loop;
  runtime::Random& random;
  coordination::CachingClient client;  // the domain is read often, and seldom changes
  rpc::Caller& caller;
  telemetry::Log log;
  ConfigServiceOptions options;
  ActiveRole role;
  NodeRegistry nodes;
  VolumeRegistry volumes;
  PropertyRegistry properties;
  VolumeMover mover;
  Upkeep upkeep;
  runtime::TaskGroup background;

  // Volumes on their way out, as known since the last takeover.
  std::map<std::string, Uuid> removals;
  std::uint64_t removals_of_takeover = 0;
  runtime::Timer removal_timer;
  bool stopping = false;
};

// Its last state, if the time runs out first.
Task<protocol::Volume> ConfigService::Impl::wait_for_leader(std::string name,
                                                            runtime::Time deadline) {
  while (true) {
    protocol::Volume volume = co_await info(name);
    if (volume.has_leader() || loop.now() >= deadline) co_return volume;
    role.require_active();
    co_await sleep(loop, kLookAgainAfter);
  }
}

Task<protocol::Node> ConfigService::Impl::node(std::string name) {
  check_name("node", name);
  const Domain domain = co_await everything();
  if (!domain.nodes.contains(name)) {
    throw Error(Code::not_found, "node {} is not in domain {}", name, domain.name);
  }
  protocol::Node view = node_info_view(domain, name);
  const bool draining = domain.nodes.at(name).record.state == protocol::NodeState::draining;
  for (protocol::HeldReplica& held : *view.mutable_held()) {
    if (held.has_move()) {
      held.mutable_move()->set_trouble(upkeep.move_trouble(held.volume()));
    } else if (draining) {
      held.set_trouble(upkeep.waiting(held.volume()));
    }
  }
  co_return view;
}

Task<protocol::Volume> ConfigService::Impl::wait_for_undo(std::string name, Uuid replica,
                                                          std::uint32_t wait_ms) {
  const runtime::Time deadline = loop.now() + wait_of(wait_ms);
  while (true) {
    protocol::Volume volume = co_await info(name);
    const protocol::VolumeMove& move = volume.move();
    const std::string uuid = replica.to_string();
    const bool listed = std::any_of(volume.members().begin(), volume.members().end(),
                                    [&](const auto& member) { return member.replica() == uuid; });
    if (!listed) co_return volume;
    if (!volume.has_move() || move.phase() != config_service::name(MovePhase::undoing)) {
      throw Error(Code::conflict,
                  "the move of volume {} cannot be undone any more: the new replica votes already; "
                  "let it end, then move it back",
                  name);
    }
    role.require_active();
    if (loop.now() >= deadline) {
      throw Error(Code::timeout,
                  "the move of volume {} is being undone, not done within {} ms{}{}; it goes on",
                  name, wait_of(wait_ms).count() / 1'000'000, move.trouble().empty() ? "" : ": ",
                  move.trouble());
    }
    co_await sleep(loop, kLookAgainAfter);
  }
}

Task<protocol::RemoveVolumeReply> ConfigService::Impl::wait_for_removal(std::string name, Uuid id,
                                                                        std::uint32_t wait_ms) {
  const runtime::Time deadline = loop.now() + wait_of(wait_ms);
  while (true) {
    const Removal removal = co_await continue_removal(name, id);
    if (removal.done) {
      protocol::RemoveVolumeReply reply;
      reply.mutable_down()->Assign(removal.down.begin(), removal.down.end());
      co_return reply;
    }
    role.require_active();
    if (loop.now() >= deadline) {
      const std::string why =
          removal.waiting.empty()
              ? "its place in the tree keeps changing"
              : fmt::format("{} did not drop its replica", fmt::join(removal.waiting, ", "));
      throw Error(Code::timeout,
                  "volume {} is being removed, not done within {} ms: {}; the removal goes on",
                  name, wait_of(wait_ms).count() / 1'000'000, why);
    }
    co_await sleep(loop, kLookAgainAfter);
  }
}

// A removal that was decided is carried through, also by the next active config service.
Task<void> ConfigService::Impl::finish_removals() {
  while (!stopping) {
    co_await removal_timer.sleep_for(kRemovalInterval);
    if (stopping || role.role() != Role::active) continue;
    try {
      co_await continue_removals();
    } catch (const Error& error) {
      log.warn("volume.removal_delayed", {}, error.what());
    }
  }
}

Task<void> ConfigService::Impl::continue_removals() {
  if (removals_of_takeover != role.takeovers()) {
    const std::uint64_t takeover = role.takeovers();
    removals = co_await volumes.removals();
    removals_of_takeover = takeover;
  }
  const std::map<std::string, Uuid> now = removals;
  for (const auto& [name, id] : now) co_await continue_removal(name, id);
}

Task<Removal> ConfigService::Impl::continue_removal(std::string name, Uuid id) {
  Removal removal = co_await volumes.continue_removal(name, id);
  if (!removal.done) co_return removal;
  const auto found = removals.find(name);
  if (found == removals.end() || found->second != id) co_return removal;
  removals.erase(found);
  log.info("volume.removed", {{"volume", name}, {"id", id.to_string()}});
  co_return removal;
}

ConfigService::ConfigService(runtime::Loop& loop, runtime::Random& random,
                             coordination::Client& client, rpc::Caller& caller, telemetry::Log log,
                             ConfigServiceOptions options)
    : impl_(std::make_unique<Impl>(loop, random, client, caller, std::move(log),
                                   std::move(options))) {}

ConfigService::~ConfigService() = default;

void ConfigService::start() {
  impl_->background.spawn(impl_->role.run());
  impl_->background.spawn(impl_->finish_removals());
  impl_->background.spawn(impl_->upkeep.run());
}

Task<void> ConfigService::wait_ready() {
  return impl_->role.wait_settled();
}

Task<void> ConfigService::stop() {
  impl_->stopping = true;
  impl_->role.stop();
  impl_->removal_timer.cancel();
  impl_->upkeep.stop();
  co_await impl_->background.close();
  try {
    co_await impl_->role.leave();
  } catch (const Error& error) {
    // The session's end does the same, later.
    impl_->log.warn("config_service.not_left", {}, error.what());
  }
}

bool ConfigService::is_active() const {
  return impl_->role.role() == Role::active;
}

Task<protocol::InitReply> ConfigService::init(protocol::InitRequest request) {
  if (request.domain() != impl_->options.domain) {
    throw Error(Code::invalid_argument, "domain is '{}', expected {}: config service {} is for it",
                request.domain().substr(0, 80), impl_->options.domain, impl_->options.service);
  }
  const Uuid uuid = co_await make_tree(impl_->client, impl_->random, std::move(request));
  impl_->log.info("instance.made", {{"uuid", uuid.to_string()}, {"domain", impl_->options.domain}});
  // Who asked goes on with add_node, of whoever is active by then.
  co_await impl_->role.wait_settled();
  protocol::InitReply reply;
  reply.set_uuid(uuid.to_string());
  co_return reply;
}

Task<protocol::AddNodeReply> ConfigService::add_node(protocol::AddNodeRequest request) {
  impl_->role.require_active();
  const std::string name = request.name();
  co_await impl_->nodes.add(std::move(request));
  impl_->log.info("node.added", {{"node", name}});
  const Domain domain = co_await impl_->everything();
  if (!domain.nodes.contains(name)) {
    throw Error(Code::conflict, "node {} was removed while it was added", name);
  }
  protocol::AddNodeReply reply;
  *reply.mutable_node() = node_view(domain, name);
  co_return reply;
}

Task<protocol::RemoveNodeReply> ConfigService::remove_node(protocol::RemoveNodeRequest request) {
  impl_->role.require_active();
  co_await impl_->nodes.remove(request.name());
  impl_->log.info("node.removed", {{"node", request.name()}});
  co_return protocol::RemoveNodeReply();
}

Task<protocol::ListNodesReply> ConfigService::list_nodes(protocol::ListNodesRequest) {
  impl_->role.require_active();
  const Domain domain = co_await impl_->everything();
  protocol::ListNodesReply reply;
  for (const auto& [name, node] : domain.nodes) *reply.add_nodes() = node_view(domain, name);
  co_return reply;
}

Task<protocol::ListServicesReply> ConfigService::list_services(protocol::ListServicesRequest) {
  impl_->role.require_active();
  const Domain domain = co_await read_services(impl_->loop, impl_->client, impl_->options.domain);
  protocol::ListServicesReply reply;
  for (const auto& [name, service] : domain.services) {
    *reply.add_services() = service_view(domain, name);
  }
  co_return reply;
}

Task<protocol::CreateVolumeReply> ConfigService::create_volume(
    protocol::CreateVolumeRequest request) {
  impl_->role.require_active();
  const std::string name = request.name();
  const runtime::Time deadline = impl_->loop.now() + wait_of(request.wait_ms());
  co_await impl_->volumes.create(std::move(request));
  impl_->log.info("volume.created", {{"volume", name}});
  protocol::CreateVolumeReply reply;
  try {
    *reply.mutable_volume() = co_await impl_->wait_for_leader(name, deadline);
  } catch (const Error& error) {
    // Not `unavailable`: that would say that nothing happened.
    throw Error(Code::outcome_unknown, "volume {} was made, but how it is cannot be told: {}", name,
                error.what());
  }
  co_return reply;
}

Task<protocol::ListVolumesReply> ConfigService::list_volumes(protocol::ListVolumesRequest request) {
  impl_->role.require_active();
  const Domain domain = co_await impl_->everything();
  const Answers answers = co_await impl_->ask_all(domain);
  protocol::ListVolumesReply reply;
  reply.set_more(impl_->add_page(domain, answers, request.after(), *reply.mutable_volumes()));
  co_return reply;
}

Task<protocol::VolumeInfoReply> ConfigService::volume_info(protocol::VolumeInfoRequest request) {
  impl_->role.require_active();
  protocol::VolumeInfoReply reply;
  *reply.mutable_volume() = co_await impl_->info(request.name());
  co_return reply;
}

Task<protocol::RemoveVolumeReply> ConfigService::remove_volume(
    protocol::RemoveVolumeRequest request) {
  impl_->role.require_active();
  const std::string name = request.name();
  const std::uint32_t wait_ms = request.wait_ms() == 0 ? kDefaultWaitMs : request.wait_ms();
  const Uuid id = co_await impl_->volumes.begin_removal(name);
  impl_->log.info("volume.removing", {{"volume", name}, {"id", id.to_string()}});
  impl_->removals[name] = id;
  try {
    co_return co_await impl_->wait_for_removal(name, id, wait_ms);
  } catch (const Error& error) {
    if (error.code() == Code::timeout) throw;
    throw Error(Code::outcome_unknown, "volume {} is being removed, but how far cannot be told: {}",
                name, error.what());
  }
}

Task<protocol::SetVolumeReply> ConfigService::set_volume(protocol::SetVolumeRequest request) {
  impl_->role.require_active();
  const std::string name = request.name();
  co_await impl_->volumes.set_limits(std::move(request));
  impl_->log.info("volume.limits_set", {{"volume", name}});
  protocol::SetVolumeReply reply;
  try {
    *reply.mutable_volume() = co_await impl_->info(name);
  } catch (const Error& error) {
    throw Error(Code::outcome_unknown, "volume {} has its limits, but how it is cannot be told: {}",
                name, error.what());
  }
  co_return reply;
}

Task<protocol::MoveVolumeReply> ConfigService::move_volume(protocol::MoveVolumeRequest request) {
  impl_->role.require_active();
  const std::string name = request.name();
  co_await impl_->mover.begin(name, request.from(), request.to());
  impl_->upkeep.wake();
  impl_->log.info("volume.move_asked",
                  {{"volume", name}, {"from", request.from()}, {"to", request.to()}});
  protocol::MoveVolumeReply reply;
  try {
    *reply.mutable_volume() = co_await impl_->info(name);
  } catch (const Error& error) {
    throw Error(Code::outcome_unknown, "volume {} is moved, but how it is cannot be told: {}", name,
                error.what());
  }
  co_return reply;
}

Task<protocol::CancelMoveReply> ConfigService::cancel_move(protocol::CancelMoveRequest request) {
  impl_->role.require_active();
  const std::string name = request.name();
  const std::uint32_t wait_ms = request.wait_ms() == 0 ? kDefaultWaitMs : request.wait_ms();
  const Uuid replica = co_await impl_->mover.begin_undo(name);
  impl_->upkeep.wake();
  impl_->log.info("volume.move_undone", {{"volume", name}});
  protocol::CancelMoveReply reply;
  *reply.mutable_volume() = co_await impl_->wait_for_undo(name, replica, wait_ms);
  co_return reply;
}

Task<protocol::DrainNodeReply> ConfigService::drain_node(protocol::DrainNodeRequest request) {
  impl_->role.require_active();
  co_await impl_->nodes.drain(request.name(), request.cancel());
  impl_->upkeep.wake();
  impl_->log.info(request.cancel() ? "node.in_service" : "node.draining",
                  {{"node", request.name()}});
  protocol::DrainNodeReply reply;
  *reply.mutable_node() = co_await impl_->node(request.name());
  co_return reply;
}

Task<protocol::NodeInfoReply> ConfigService::node_info(protocol::NodeInfoRequest request) {
  impl_->role.require_active();
  protocol::NodeInfoReply reply;
  *reply.mutable_node() = co_await impl_->node(request.name());
  co_return reply;
}

Task<protocol::VerifyVolumeReply> ConfigService::verify_volume(
    protocol::VerifyVolumeRequest request) {
  impl_->role.require_active();
  const Domain domain = co_await impl_->everything();
  protocol::VerifyVolumeReply reply =
      co_await config_service::verify_volume(impl_->caller, domain, std::move(request));
  co_return reply;
}

Task<protocol::ListPropertiesReply> ConfigService::list_properties(
    protocol::ListPropertiesRequest) {
  impl_->role.require_active();
  co_return co_await impl_->properties.list();
}

Task<protocol::GetPropertyReply> ConfigService::get_property(protocol::GetPropertyRequest request) {
  impl_->role.require_active();
  protocol::GetPropertyReply reply;
  *reply.mutable_property() = co_await impl_->properties.get(request.name());
  co_return reply;
}

Task<protocol::SetPropertyReply> ConfigService::set_property(protocol::SetPropertyRequest request) {
  impl_->role.require_active();
  protocol::SetPropertyReply reply;
  *reply.mutable_property() = co_await impl_->properties.set(request);
  impl_->log.info(
      "property.set",
      {{"property", request.name()}, {"value", request.value()}, {"by", request.changed_by()}});
  co_return reply;
}

Task<protocol::StatusReply> ConfigService::status(protocol::StatusRequest request) {
  impl_->role.require_active();
  const auto instance = co_await impl_->client.get(std::string(paths::kConfigService));
  const Domain domain = co_await impl_->everything();
  const Answers answers = co_await impl_->ask_all(domain);
  protocol::StatusReply reply;
  reply.set_domain(domain.name);
  if (instance) {
    const auto record = protocol::InstanceRecord::from_json(instance->data);
    reply.set_instance(record.uuid.to_string());
  }
  protocol::ActiveConfigService& active = *reply.mutable_config_service();
  active.set_service(impl_->options.service);
  active.set_address(impl_->options.address);
  active.set_pid(impl_->options.pid);
  for (const auto& [name, node] : domain.nodes) *reply.add_nodes() = node_view(domain, name);
  for (const auto& [name, service] : domain.services) {
    *reply.add_services() = service_view(domain, name);
  }
  reply.set_more_volumes(
      impl_->add_page(domain, answers, request.volumes_after(), *reply.mutable_volumes()));
  co_return reply;
}

}  // namespace datom::config_service

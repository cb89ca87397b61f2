#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <ostream>

#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/size.h"
#include "cli/table.h"
#include "common/uuid.h"
#include "protocol/config.pb.h"
#include "protocol/methods.h"
#include "runtime/event_loop.h"

namespace datom::cli {
namespace {

namespace method = protocol::method;

struct LimitOptions {
  std::optional<std::uint64_t> iops;
  std::optional<std::uint64_t> mib;
  std::optional<std::uint64_t> burst;
};

struct CreateOptions {
  std::string name;
  std::string size;
  std::uint32_t replicas = 3;
  std::string access = "exclusive";
  std::uint32_t wait_seconds = 30;
  LimitOptions limits;
};

struct SetOptions {
  std::string name;
  LimitOptions limits;
};

struct RemoveOptions {
  std::string name;
  bool yes = false;
};

protocol::Volume volume_info(Connection& connection, const std::string& name) {
  protocol::VolumeInfoRequest request;
  request.set_name(name);
  return ask<protocol::VolumeInfoReply>(connection, method::kVolumeInfo, request).volume();
}

// How far a replica that copies blocks has come; empty for one that does not.
std::string sync_text(const protocol::VolumeMember& member) {
  if (!member.has_sync_blocks_done()) return "";
  const std::uint64_t total = member.sync_blocks_total();
  return std::to_string(total == 0 ? 0 : member.sync_blocks_done() * 100 / total) + " %";
}

// How far the background check of each replica's blocks is; empty where no service tells.
std::string scrub_text(const protocol::Volume& volume) {
  std::string text;
  for (const protocol::VolumeMember& member : volume.members()) {
    if (!member.has_scrub_position()) continue;
    text += (text.empty() ? "" : ", ") + member.service();
    if (member.scrub_position() > 0) {
      text += " " + std::to_string(member.scrub_position() * 100 / volume.size()) + " %";
    } else {
      text += member.has_scrubbed_at() ? " done" : " not begun";
    }
    if (member.repaired_blocks() > 0) {
      text += " (" + std::to_string(member.repaired_blocks()) + " blocks repaired)";
    }
  }
  return text;
}

std::string members_text(const protocol::Volume& volume) {
  Table table({{"SERVICE"},
               {"NODE"},
               {"MEMBERSHIP"},
               {"STATE"},
               {"ROLE"},
               {"APPLIED", Align::right},
               {"SYNC", Align::right},
               {"TROUBLE"}});
  for (const protocol::VolumeMember& member : volume.members()) {
    table.add({member.service(), member.node(), member.membership(), member.state(), member.role(),
               member.has_applied_op() ? std::to_string(member.applied_op()) : "",
               sync_text(member), member.trouble()});
  }
  return table.text();
}

// Empty where there are none.
std::string limits_text(const protocol::Volume& volume) {
  std::string text;
  if (volume.iops_limit() > 0) text = std::to_string(volume.iops_limit()) + " requests/s";
  if (volume.mib_limit() > 0) {
    text += (text.empty() ? "" : ", ") + std::to_string(volume.mib_limit()) + " MiB/s";
  }
  if (!text.empty() && volume.burst() > 0) {
    text += ", bursts of " + std::to_string(volume.burst()) + " s";
  }
  return text;
}

std::string info_text(const protocol::Volume& volume) {
  Facts facts;
  facts.add("name", volume.name());
  facts.add("id", volume.id());
  facts.add("size", human_size(volume.size()));
  facts.add("block size", human_size(volume.block_size()));
  facts.add("replicas", std::to_string(volume.replicas()));
  facts.add("access", volume.access());
  const std::string limits = limits_text(volume);
  if (!limits.empty()) facts.add("limits", limits);
  facts.add("state", volume.state() + (volume.removing() ? ", being removed" : ""));
  if (volume.has_move()) facts.add("move", move_text(volume.move()));
  if (!volume.replacing().empty()) facts.add("replacing", volume.replacing());
  facts.add("leader", volume.leader());
  facts.add("term", std::to_string(volume.term()));
  facts.add("commit op", std::to_string(volume.commit_op()));
  const std::string scrubs = scrub_text(volume);
  if (!scrubs.empty()) facts.add("scrub", scrubs);
  for (int i = 0; i < volume.nbd_size(); ++i) facts.add(i == 0 ? "nbd" : "", volume.nbd(i));
  return facts.text() + "\n" + members_text(volume);
}

template <typename Request>
void put_limits(const LimitOptions& limits, Request& request) {
  if (limits.iops) request.set_iops_limit(*limits.iops);
  if (limits.mib) request.set_mib_limit(*limits.mib);
  if (limits.burst) request.set_burst(*limits.burst);
}

int create(Context& context, const CreateOptions& options) {
  protocol::CreateVolumeRequest request;
  request.set_name(options.name);
  request.set_size(parse_size(options.size, "--size"));
  request.set_replicas(options.replicas);
  request.set_access(options.access);
  request.set_wait_ms(options.wait_seconds * 1000);
  put_limits(options.limits, request);
  runtime::SystemRandom random;
  const std::uint64_t high = random.next();
  request.set_id(Uuid::from_random(high, random.next()).to_string());
  Connection connection(find_target(context.options));
  const auto reply =
      ask<protocol::CreateVolumeReply>(connection, method::kCreateVolume, request,
                                       kAskTimeout + std::chrono::seconds(options.wait_seconds));
  print(context, reply.volume(), info_text(reply.volume()));
  if (options.wait_seconds > 0 && reply.volume().leader().empty()) {
    throw Error(Code::unavailable,
                "volume '{}' is made but has no leader after {} s; see datom volume info {}",
                options.name, options.wait_seconds, options.name);
  }
  return 0;
}

int set(Context& context, const SetOptions& options) {
  const LimitOptions& limits = options.limits;
  if (!limits.iops && !limits.mib && !limits.burst) {
    throw Error(Code::invalid_argument,
                "nothing is to be set, expected --iops_limit, --mib_limit or --burst");
  }
  protocol::SetVolumeRequest request;
  request.set_name(options.name);
  put_limits(limits, request);
  Connection connection(find_target(context.options));
  const auto reply = ask<protocol::SetVolumeReply>(connection, method::kSetVolume, request);
  print(context, reply.volume(), info_text(reply.volume()));
  return 0;
}

int list(Context& context) {
  Connection connection(find_target(context.options));
  protocol::ListVolumesRequest request;
  protocol::ListVolumesReply all;
  for (bool more = true; more;) {
    auto page = ask<protocol::ListVolumesReply>(connection, method::kListVolumes, request);
    more = page.more() && page.volumes_size() > 0;
    if (more) request.set_after(page.volumes(page.volumes_size() - 1).name());
    all.MergeFrom(page);
  }
  all.set_more(false);
  print(context, all, volumes_table(all.volumes()));
  return 0;
}

int info(Context& context, const std::string& name) {
  Connection connection(find_target(context.options));
  const protocol::Volume volume = volume_info(connection, name);
  print(context, volume, info_text(volume));
  return 0;
}

std::string removal_plan(const protocol::Volume& volume) {
  std::string services;
  for (const protocol::VolumeMember& member : volume.members()) {
    services += (services.empty() ? "" : ", ") + member.service();
  }
  return fmt::format("This destroys volume '{}' ({}) and its replicas on {}.", volume.name(),
                     human_size(volume.size()), services.empty() ? "no service" : services);
}

int remove(Context& context, const RemoveOptions& options) {
  Connection connection(find_target(context.options));
  const protocol::Volume volume = volume_info(connection, options.name);
  if (!options.yes && !confirm(context, removal_plan(volume), "Destroy it?")) {
    throw Error(Code::cancelled, "volume '{}' stays as it is", options.name);
  }
  protocol::RemoveVolumeRequest request;
  request.set_name(options.name);
  const auto reply =
      ask<protocol::RemoveVolumeReply>(connection, method::kRemoveVolume, request, 2 * kAskTimeout);
  std::string text = fmt::format("volume '{}' is removed\n", options.name);
  for (const std::string& service : reply.down()) {
    text += fmt::format("{} is down and drops its replica once it is up again\n", service);
  }
  print(context, reply, text);
  return 0;
}

void add_limit_options(CLI::App& command, LimitOptions& limits) {
  command.add_option("--iops_limit", limits.iops,
                     "Requests a second of all its clients; 0: no limit");
  command.add_option("--mib_limit", limits.mib, "MiB a second of all its clients; 0: no limit");
  command.add_option("--burst", limits.burst, "Seconds: so long what they do not use is saved up");
}

void add_create(CLI::App& volume, Context& context) {
  const auto options = std::make_shared<CreateOptions>();
  CLI::App* command = add_command(volume, "create", "Make a volume",
                                  "datom volume create db --size 10G --replicas 3");
  command->add_option("name", options->name, "Name of the volume")->required();
  command->add_option("--size", options->size, "Its size: 10G, 512M, 1T or bytes")->required();
  command->add_option("--replicas", options->replicas, "How many servers keep a copy")
      ->capture_default_str();
  command
      ->add_option("--access", options->access,
                   "exclusive: one writer; shared: many, for cluster filesystems")
      ->check(CLI::IsMember({"exclusive", "shared"}).description(""))
      ->capture_default_str();
  command->add_option("--wait", options->wait_seconds, "Seconds to wait until it can be used")
      ->check(CLI::Range(0, 60).description(""))
      ->capture_default_str();
  add_limit_options(*command, options->limits);
  command->callback([&context, options] {
    context.action = [&context, options] { return create(context, *options); };
  });
}

void add_set(CLI::App& volume, Context& context) {
  const auto options = std::make_shared<SetOptions>();
  CLI::App* command = add_command(volume, "set", "Change what its clients may ask for",
                                  "datom volume set db --iops_limit 5000 --burst 10");
  command->add_option("name", options->name, "Name of the volume")->required();
  add_limit_options(*command, options->limits);
  command->callback([&context, options] {
    context.action = [&context, options] { return set(context, *options); };
  });
}

void add_remove(CLI::App& volume, Context& context) {
  const auto options = std::make_shared<RemoveOptions>();
  CLI::App* command =
      add_command(volume, "rm", "Destroy a volume and its data", "datom volume rm db");
  command->add_option("name", options->name, "Name of the volume")->required();
  command->add_flag("--yes", options->yes, "Do not ask");
  command->callback([&context, options] {
    context.action = [&context, options] { return remove(context, *options); };
  });
}

}  // namespace

void add_volume_commands(CLI::App& app, Context& context) {
  CLI::App* volume =
      add_noun(app, "volume", "Make, show, move and remove volumes", "datom volume ls");
  add_create(*volume, context);
  CLI::App* ls = add_command(*volume, "ls", "List the volumes", "datom volume ls -o json");
  ls->callback([&context] { context.action = [&context] { return list(context); }; });
  CLI::App* info_command =
      add_command(*volume, "info", "Show a volume and its replicas", "datom volume info db");
  const auto name = std::make_shared<std::string>();
  info_command->add_option("name", *name, "Name of the volume")->required();
  info_command->callback(
      [&context, name] { context.action = [&context, name] { return info(context, *name); }; });
  add_set(*volume, context);
  add_move_command(*volume, context);
  add_verify_command(*volume, context);
  add_remove(*volume, context);
}

}  // namespace datom::cli

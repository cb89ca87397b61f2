#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>

#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "protocol/config.pb.h"
#include "protocol/methods.h"

namespace datom::cli {
namespace {

namespace method = protocol::method;

// With replicas left and nothing moving for so long, it waits for something else than time.
constexpr auto kStuckAfter = std::chrono::seconds(15);

struct DrainOptions {
  std::string name;
  bool cancel = false;
  bool no_wait = false;
};

bool moves(const protocol::Node& node) {
  for (const protocol::HeldReplica& held : node.held()) {
    if (held.has_move() && held.move().trouble().empty()) return true;
  }
  return false;
}

// What happens to the replicas that are left.
std::string left_text(const protocol::Node& node) {
  for (const protocol::HeldReplica& held : node.held()) {
    if (held.has_move()) return fmt::format("{}: {}", held.volume(), move_text(held.move()));
  }
  return node.held_size() == 0 ? "all have moved" : fmt::format("{} waits", node.held(0).volume());
}

std::string reasons(const protocol::Node& node) {
  for (const protocol::HeldReplica& held : node.held()) {
    const std::string& why = held.has_move() ? held.move().trouble() : held.trouble();
    if (!why.empty()) return fmt::format("{}: {}", held.volume(), why);
  }
  return "no reason is known";
}

void show(Progress& progress, const protocol::Node& node, std::uint32_t total) {
  const std::uint32_t left = std::min(node.replicas(), total);
  const std::uint32_t percent = total == 0 ? 100 : (total - left) * 100 / total;
  progress.show(percent, fmt::format("{} of {} replicas left, {}", left, total, left_text(node)));
}

// Asks until the node is out.
protocol::Node wait_until_out(Context& context, Connection& connection, protocol::Node node) {
  using Clock = std::chrono::steady_clock;
  protocol::NodeInfoRequest request;
  request.set_name(node.name());
  const std::uint32_t total = node.replicas();
  Progress progress(context);
  Patience patience;
  Clock::time_point moved = Clock::now();
  while (true) {
    std::optional<Error> failed;
    try {
      node = ask<protocol::NodeInfoReply>(connection, method::kNodeInfo, request).node();
      patience.renew();
    } catch (const Error& error) {
      failed = error;
    }
    if (failed) {
      patience.try_again_after(*failed);
      continue;
    }
    if (node.state() == "out") return node;
    if (node.state() != "draining") {
      throw Error(Code::cancelled, "node '{}' is {} again", node.name(), node.state());
    }
    show(progress, node, total);
    if (moves(node) || node.held_size() == 0) moved = Clock::now();
    if (Clock::now() - moved > kStuckAfter) {
      throw Error(
          Code::unavailable,
          "node '{}' is draining, but {} replicas do not get away ({}); this goes on by "
          "itself once they can, datom node drain {} --cancel puts the node back in service",
          node.name(), node.replicas(), reasons(node), node.name());
    }
    Patience::pause();
  }
}

int drain(Context& context, const DrainOptions& options) {
  Connection connection(find_target(context.options));
  protocol::DrainNodeRequest request;
  request.set_name(options.name);
  request.set_cancel(options.cancel);
  protocol::Node node =
      ask<protocol::DrainNodeReply>(connection, method::kDrainNode, request).node();
  if (options.cancel) {
    print(context, node,
          fmt::format("node '{}' is in service; moves under way go on\n", options.name));
    return 0;
  }
  if (!options.no_wait) node = wait_until_out(context, connection, std::move(node));
  print(context, node,
        node.state() == "out"
            ? fmt::format("node '{}' is out: it holds no replica\n", options.name)
            : fmt::format("node '{}' is draining, {} replicas are left; see datom node info {}\n",
                          options.name, node.replicas(), options.name));
  return 0;
}

}  // namespace

void add_drain_command(CLI::App& node, Context& context) {
  const auto options = std::make_shared<DrainOptions>();
  CLI::App* command = add_command(node, "drain", "Let all replicas of a node move to others",
                                  "datom node drain n1\n  datom node drain n1 --cancel");
  command->add_option("name", options->name, "Name of the node")->required();
  command->add_flag("--cancel", options->cancel, "Put it back in service");
  command->add_flag("--no_wait", options->no_wait,
                    "Return at once; the draining goes on by itself");
  command->callback([&context, options] {
    context.action = [&context, options] { return drain(context, *options); };
  });
}

}  // namespace datom::cli

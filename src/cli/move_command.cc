#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
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

struct MoveOptions {
  std::string name;
  std::string from;
  std::string to;
  bool cancel = false;
  bool no_wait = false;
};

void check(const MoveOptions& options) {
  if (options.cancel && !(options.from.empty() && options.to.empty())) {
    throw Error(Code::invalid_argument, "found --cancel with --from or --to, expected it alone");
  }
  if (!options.cancel && options.from.empty()) {
    throw Error(Code::invalid_argument,
                "found no --from, expected the server that the replica is to leave: datom volume "
                "info {} lists them",
                options.name);
  }
}

bool votes(const protocol::Volume& volume, const std::string& replica) {
  return std::any_of(volume.members().begin(), volume.members().end(), [&](const auto& member) {
    return member.replica() == replica && member.voter();
  });
}

// How far the move is, of 100: most of it is the copying.
std::uint32_t percent_of(const protocol::VolumeMove& move) {
  if (move.phase() == "syncing") return 5 + move.percent() * 85 / 100;
  if (move.phase() == "joint") return 90;
  return move.phase() == "done" ? 95 : 0;
}

// Asks until the move is over, and gives the volume then. `last`: the move as it was last seen.
protocol::Volume wait_until_over(Context& context, Connection& connection, const std::string& name,
                                 protocol::VolumeMove& last) {
  protocol::VolumeInfoRequest request;
  request.set_name(name);
  Progress progress(context);
  Patience patience;
  while (true) {
    std::optional<Error> failed;
    try {
      const protocol::Volume volume =
          ask<protocol::VolumeInfoReply>(connection, method::kVolumeInfo, request).volume();
      if (!volume.has_move()) return volume;
      patience.renew();
      last = volume.move();
      progress.show(percent_of(last), fmt::format("{}: {}", name, move_text(last)));
    } catch (const Error& error) {
      failed = error;
    }
    if (failed) {
      patience.try_again_after(*failed);
    } else {
      Patience::pause();
    }
  }
}

int cancel(Context& context, const MoveOptions& options) {
  Connection connection(find_target(context.options));
  protocol::CancelMoveRequest request;
  request.set_name(options.name);
  const auto reply =
      ask<protocol::CancelMoveReply>(connection, method::kCancelMove, request, 2 * kAskTimeout);
  print(context, reply.volume(), fmt::format("the move of volume '{}' is undone\n", options.name));
  return 0;
}

int move(Context& context, const MoveOptions& options) {
  check(options);
  if (options.cancel) return cancel(context, options);
  Connection connection(find_target(context.options));
  protocol::MoveVolumeRequest request;
  request.set_name(options.name);
  request.set_from(options.from);
  request.set_to(options.to);
  const protocol::Volume begun =
      ask<protocol::MoveVolumeReply>(connection, method::kMoveVolume, request).volume();
  protocol::VolumeMove last = begun.move();
  if (options.no_wait) {
    print(context, begun,
          fmt::format("volume '{}' moves {}; see datom volume info {}\n", options.name,
                      move_text(last), options.name));
    return 0;
  }
  const protocol::Volume volume =
      begun.has_move() ? wait_until_over(context, connection, options.name, last) : begun;
  if (begun.has_move() && !votes(volume, last.to_replica())) {
    throw Error(Code::cancelled, "the move of volume '{}' from {} to {} was undone", options.name,
                last.from(), last.to());
  }
  print(context, volume,
        fmt::format("volume '{}' has moved from {} to {}\n", options.name, options.from,
                    begun.has_move() ? last.to() : options.to));
  return 0;
}

}  // namespace

void add_move_command(CLI::App& volume, Context& context) {
  const auto options = std::make_shared<MoveOptions>();
  CLI::App* command = add_command(volume, "move", "Let another server keep one of the replicas",
                                  "datom volume move db --from vs1 --to vs4\n"
                                  "  datom volume move db --cancel");
  command->add_option("name", options->name, "Name of the volume")->required();
  command->add_option("--from", options->from, "The volume server that the replica leaves");
  command->add_option("--to", options->to,
                      "The one that keeps it then (default: the least used that can)");
  command->add_flag("--cancel", options->cancel, "Undo the move that is under way");
  command->add_flag("--no_wait", options->no_wait, "Return at once; the move goes on by itself");
  command->callback([&context, options] {
    context.action = [&context, options] { return move(context, *options); };
  });
}

}  // namespace datom::cli

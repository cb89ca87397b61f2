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

using protocol::VerifyVolumeReply;

constexpr runtime::Duration kPartTimeout = std::chrono::seconds(90);
constexpr int kMostListed = 1000;

struct VerifyOptions {
  std::string name;
  bool deep = false;
};

VerifyVolumeReply ask_part(Connection& connection, const protocol::VerifyVolumeRequest& request) {
  Patience patience;
  while (true) {
    std::optional<Error> failed;
    try {
      return ask<VerifyVolumeReply>(connection, protocol::method::kVerifyVolume, request,
                                    kPartTimeout);
    } catch (const Error& error) {
      failed = error;
    }
    patience.try_again_after(*failed);
  }
}

// Adds what was found of a part.
void add(VerifyVolumeReply& all, const VerifyVolumeReply& part) {
  all.set_equal(all.equal() && part.equal());
  all.set_difference_count(all.difference_count() + part.difference_count());
  all.set_blocks(part.blocks());
  for (const auto& difference : part.differences()) {
    if (all.differences_size() < kMostListed) *all.add_differences() = difference;
  }
  for (const auto& member : part.members()) {
    for (auto& known : *all.mutable_members()) {
      if (known.service() == member.service() && known.trouble().empty()) {
        known.set_trouble(member.trouble());
      }
    }
  }
}

void compare_blocks(Context& context, Connection& connection, const VerifyOptions& options,
                    VerifyVolumeReply& all) {
  Progress progress(context);
  protocol::VerifyVolumeRequest request;
  request.set_name(options.name);
  request.set_deep(options.deep);
  do {
    const VerifyVolumeReply part = ask_part(connection, request);
    add(all, part);
    const std::uint64_t at = part.next_block() == 0 ? part.blocks() : part.next_block();
    progress.show(
        static_cast<std::uint32_t>(at * 100 / std::max<std::uint64_t>(part.blocks(), 1)),
        fmt::format("{}: {} blocks that are not equal", options.name, all.difference_count()));
    request.set_from_block(part.next_block());
  } while (request.from_block() > 0);
}

std::string text_of(const VerifyVolumeReply::Copy& copy) {
  if (copy.damaged()) {
    return copy.service() + " damaged" + (copy.repaired() ? ", repaired now" : "");
  }
  return fmt::format("{} {} of op {}{}", copy.service(), copy.kind(), copy.op(),
                     copy.kind() == "data" ? " " + copy.checksum() : "");
}

bool all_compared(const VerifyVolumeReply& found) {
  return std::all_of(found.members().begin(), found.members().end(),
                     [](const auto& member) { return member.trouble().empty(); });
}

std::string text_of(const VerifyOptions& options, const VerifyVolumeReply& found) {
  std::string text;
  for (const auto& member : found.members()) {
    if (!member.trouble().empty()) {
      text += fmt::format("{} was not compared: {}\n", member.service(), member.trouble());
    }
  }
  for (const auto& difference : found.differences()) {
    text += fmt::format("block {}:", difference.block());
    for (int i = 0; i < difference.copies_size(); ++i) {
      text += (i == 0 ? " " : "; ") + text_of(difference.copies(i));
    }
    text += "\n";
  }
  if (found.difference_count() > static_cast<std::uint64_t>(found.differences_size())) {
    text += fmt::format(
        "and {} more blocks\n",
        found.difference_count() - static_cast<std::uint64_t>(found.differences_size()));
  }
  if (found.equal()) {
    text += fmt::format("volume '{}' is equal on {} members: op {}, fingerprint {}\n", options.name,
                        found.members_size(), found.op(), found.members(0).fingerprint());
  } else if (found.difference_count() > 0) {
    text += fmt::format("volume '{}' is not equal everywhere: {} blocks\n", options.name,
                        found.difference_count());
  } else if (all_compared(found)) {
    text += fmt::format(
        "volume '{}': no block differs, but the fingerprints did; the next scrub counts anew\n",
        options.name);
  } else {
    text +=
        fmt::format("volume '{}': no block differs where members were compared\n", options.name);
  }
  return text;
}

int verify(Context& context, const VerifyOptions& options) {
  Connection connection(find_target(context.options));
  protocol::VerifyVolumeRequest request;
  request.set_name(options.name);
  request.set_fingerprints(true);
  VerifyVolumeReply found = ask_part(connection, request);
  if (!found.equal() || options.deep) compare_blocks(context, connection, options, found);
  print(context, found, text_of(options, found));
  return found.equal() ? 0 : 1;
}

}  // namespace

void add_verify_command(CLI::App& volume, Context& context) {
  const auto options = std::make_shared<VerifyOptions>();
  CLI::App* command = add_command(
      volume, "verify", "Compare the replicas of a volume; exit status 1 if they are not equal",
      "datom volume verify db --deep");
  command->add_option("name", options->name, "Name of the volume")->required();
  command->add_flag("--deep", options->deep,
                    "Read every block on every server too, and repair what is damaged");
  command->callback([&context, options] {
    context.action = [&context, options] { return verify(context, *options); };
  });
}

}  // namespace datom::cli

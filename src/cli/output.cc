#include "cli/output.h"

#include <ostream>

#include "cli/size.h"
#include "cli/table.h"
#include "protocol/config.pb.h"
#include "protocol/json.h"

namespace datom::cli {

using google::protobuf::RepeatedPtrField;

namespace {

std::string state_text(const protocol::Volume& volume) {
  if (volume.removing()) return "removing";
  return volume.state() + (volume.has_move() ? ", moving" : "");
}

}  // namespace

void print(Context& context, const google::protobuf::Message& message, const std::string& text) {
  if (context.options.format == Format::json) {
    context.terminal.out << protocol::to_json(message) << std::endl;
  } else {
    context.terminal.out << text << std::flush;
  }
}

std::string joined(const RepeatedPtrField<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string move_text(const protocol::VolumeMove& move) {
  std::string text = move.from() + " -> " + move.to() + ", " + move.phase();
  if (move.has_percent()) text += ", " + std::to_string(move.percent()) + " %";
  if (!move.trouble().empty()) text += "; " + move.trouble();
  return text;
}

std::string nodes_table(const RepeatedPtrField<protocol::Node>& nodes) {
  Table table({{"NODE"},
               {"HOST"},
               {"STATE"},
               {"REPLICAS", Align::right},
               {"CORES", Align::right},
               {"MEMORY", Align::right},
               {"DISKS", Align::right},
               {"SERVICES"}});
  for (const protocol::Node& node : nodes) {
    std::uint64_t bytes = 0;
    for (const protocol::Disk& disk : node.hardware().disks()) bytes += disk.bytes();
    table.add({node.name(), node.host(), node.state(), std::to_string(node.replicas()),
               std::to_string(node.hardware().cores()), human_size(node.hardware().memory_bytes()),
               human_size(bytes), joined(node.services())});
  }
  return table.text();
}

std::string services_table(const RepeatedPtrField<protocol::Service>& services) {
  Table table({{"SERVICE"}, {"TYPE"}, {"NODE"}, {"STATE"}, {"ADDRESS"}, {"NBD"}, {"PID"}});
  for (const protocol::Service& service : services) {
    table.add({service.name(), service.type(), service.node(), service.up() ? "up" : "down",
               service.address(), service.nbd_address(),
               service.has_pid() ? std::to_string(service.pid()) : ""});
  }
  return table.text();
}

std::string volumes_table(const RepeatedPtrField<protocol::Volume>& volumes) {
  Table table({{"VOLUME"},
               {"SIZE", Align::right},
               {"REPLICAS", Align::right},
               {"ACCESS"},
               {"STATE"},
               {"LEADER"}});
  for (const protocol::Volume& volume : volumes) {
    table.add({volume.name(), human_size(volume.size()), std::to_string(volume.replicas()),
               volume.access(), state_text(volume), volume.leader()});
  }
  return table.text();
}

}  // namespace datom::cli

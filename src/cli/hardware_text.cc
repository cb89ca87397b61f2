#include "cli/hardware_text.h"

#include <fmt/core.h>

#include "cli/output.h"
#include "cli/size.h"

namespace datom::cli {
namespace {

std::string disk_text(const protocol::Disk& disk) {
  return fmt::format("{}  {}{}{}{}", disk.name(), human_size(disk.bytes()),
                     disk.rotational() ? ", rotating" : "", disk.model().empty() ? "" : ", ",
                     disk.model());
}

std::string link_text(const protocol::Link& link) {
  std::string text = link.name() + "  " + joined(link.addresses());
  if (link.megabits_per_second() > 0) {
    text += fmt::format(", {} Mbit/s", link.megabits_per_second());
  }
  return text;
}

}  // namespace

protocol::Hardware hardware_message(const protocol::HardwareRecord& hardware) {
  protocol::Hardware message;
  message.set_processor(hardware.processor);
  message.set_cores(hardware.cores);
  message.set_threads(hardware.threads);
  message.set_memory_bytes(hardware.memory_bytes);
  for (const protocol::DiskRecord& each : hardware.disks) {
    protocol::Disk* disk = message.add_disks();
    disk->set_name(each.name);
    disk->set_model(each.model);
    disk->set_bytes(each.bytes);
    disk->set_rotational(each.rotational);
  }
  for (const protocol::LinkRecord& each : hardware.links) {
    protocol::Link* link = message.add_links();
    link->set_name(each.name);
    for (const std::string& address : each.addresses) link->add_addresses(address);
    link->set_megabits_per_second(each.megabits_per_second);
  }
  return message;
}

void add_hardware(Facts& facts, const protocol::Hardware& hardware) {
  facts.add("processor", hardware.processor());
  facts.add("cores", fmt::format("{} ({} threads)", hardware.cores(), hardware.threads()));
  facts.add("memory", human_size(hardware.memory_bytes()));
  for (int i = 0; i < hardware.disks_size(); ++i) {
    facts.add(i == 0 ? "disks" : "", disk_text(hardware.disks(i)));
  }
  for (int i = 0; i < hardware.links_size(); ++i) {
    facts.add(i == 0 ? "links" : "", link_text(hardware.links(i)));
  }
}

}  // namespace datom::cli

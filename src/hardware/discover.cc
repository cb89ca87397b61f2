#include <hwloc.h>
#include <unistd.h>

#include <memory>
#include <type_traits>

#include "hardware/hardware.h"

namespace datom::hardware {
namespace {

using Topology =
    std::unique_ptr<std::remove_pointer_t<hwloc_topology_t>, decltype(&hwloc_topology_destroy)>;

Topology load_topology() {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) return {nullptr, hwloc_topology_destroy};
  Topology owner(topology, hwloc_topology_destroy);
  if (hwloc_topology_load(topology) != 0) owner.reset();
  return owner;
}

std::uint32_t count(hwloc_topology_t topology, hwloc_obj_type_t type) {
  const int found = hwloc_get_nbobjs_by_type(topology, type);
  return found > 0 ? static_cast<std::uint32_t>(found) : 0;
}

std::string processor_model(hwloc_topology_t topology) {
  hwloc_obj_t package = hwloc_get_obj_by_type(topology, HWLOC_OBJ_PACKAGE, 0);
  for (hwloc_obj_t object : {package, hwloc_get_root_obj(topology)}) {
    const char* model =
        object == nullptr ? nullptr : hwloc_obj_get_info_by_name(object, "CPUModel");
    if (model != nullptr) return model;
  }
  return {};
}

}  // namespace

// Not hwloc's sum over NUMA nodes: that misses memory which was plugged in after the start.
std::uint64_t memory_bytes() {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page = sysconf(_SC_PAGESIZE);
  return pages > 0 && page > 0
             ? static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page)
             : 0;
}

protocol::HardwareRecord discover(const SystemPaths& paths) {
  protocol::HardwareRecord hardware;
  if (const Topology topology = load_topology()) {
    hardware.processor = processor_model(topology.get());
    hardware.cores = count(topology.get(), HWLOC_OBJ_CORE);
    hardware.threads = count(topology.get(), HWLOC_OBJ_PU);
  }
  hardware.memory_bytes = memory_bytes();
  hardware.disks = discover_disks(paths.block);
  hardware.links = discover_links(paths.net, interface_addresses());
  return hardware;
}

}  // namespace datom::hardware

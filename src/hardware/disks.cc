#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "hardware/hardware.h"
#include "hardware/sysfs.h"

namespace datom::hardware {
namespace {

constexpr std::uint64_t kSectorBytes = 512;  // the unit of sysfs, whatever the disk's sectors are

bool holds_no_data_of_its_own(std::string_view name) {
  constexpr std::array<std::string_view, 8> kPrefixes = {"loop", "ram", "zram", "nbd",
                                                         "dm-",  "md",  "sr",   "fd"};
  return std::any_of(kPrefixes.begin(), kPrefixes.end(),
                     [name](std::string_view prefix) { return name.starts_with(prefix); });
}

}  // namespace

std::vector<protocol::DiskRecord> discover_disks(const std::string& block) {
  std::vector<protocol::DiskRecord> disks;
  for (const std::string& name : list_directory(block)) {
    if (holds_no_data_of_its_own(name)) continue;
    const std::string directory = block + "/" + name;
    protocol::DiskRecord disk;
    disk.name = name;
    disk.model = read_line(directory + "/device/model");
    disk.bytes = read_number(directory + "/size") * kSectorBytes;
    disk.rotational = read_number(directory + "/queue/rotational") != 0;
    if (disk.bytes > 0) disks.push_back(std::move(disk));
  }
  return disks;
}

}  // namespace datom::hardware

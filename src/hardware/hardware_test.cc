#include "hardware/hardware.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "common/error.h"

namespace datom::hardware {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A tree of one-line files, as sysfs is, in a directory that goes with the test.
class SysfsTest : public ::testing::Test {
 protected:
  SysfsTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "datom_sysfs_XXXXXX").string();
    root_ = mkdtemp(pattern.data());
  }
  ~SysfsTest() override { std::filesystem::remove_all(root_); }

  void put(const std::string& path, const std::string& content) {
    const std::filesystem::path file = std::filesystem::path(root_) / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << content;
  }
  void put_disk(const std::string& name, const std::string& sectors) {
    put(name + "/size", sectors + "\n");
  }

  std::string root_;
};

TEST_F(SysfsTest, DiskHasModelSizeAndKind) {
  put_disk("sda", "3907029168");
  put("sda/device/model", "WDC WD20EFRX-68E\n");
  put("sda/queue/rotational", "1\n");
  const auto disks = discover_disks(root_);
  ASSERT_EQ(disks.size(), 1u);
  EXPECT_EQ(disks[0].name, "sda");
  EXPECT_EQ(disks[0].model, "WDC WD20EFRX-68E");
  EXPECT_EQ(disks[0].bytes, 3907029168ull * 512);
  EXPECT_TRUE(disks[0].rotational);
}

TEST_F(SysfsTest, DiskWithoutModelOrQueueIsStillADisk) {
  put_disk("vda", "2048");
  const auto disks = discover_disks(root_);
  ASSERT_EQ(disks.size(), 1u);
  EXPECT_EQ(disks[0].model, "");
  EXPECT_FALSE(disks[0].rotational);
}

TEST_F(SysfsTest, MemoryLoopNetworkAndComposedDevicesAreNoDisks) {
  for (const char* name : {"loop0", "ram1", "zram0", "nbd3", "dm-0", "md127", "sr0"}) {
    put_disk(name, "2048");
  }
  EXPECT_THAT(discover_disks(root_), IsEmpty());
}

TEST_F(SysfsTest, DrivesWithoutAMediumAndGarbledSizesAreLeftOut) {
  put_disk("sdb", "0");
  put_disk("sdc", "many");
  put_disk("sdd", "-5");
  EXPECT_THAT(discover_disks(root_), IsEmpty());
}

TEST_F(SysfsTest, DisksComeSortedByName) {
  put_disk("sdb", "8");
  put_disk("nvme0n1", "8");
  put_disk("sda", "8");
  std::vector<std::string> names;
  for (const auto& disk : discover_disks(root_)) names.push_back(disk.name);
  EXPECT_THAT(names, ElementsAre("nvme0n1", "sda", "sdb"));
}

TEST_F(SysfsTest, NoSysfsMeansNoDisks) {
  EXPECT_THAT(discover_disks(root_ + "/missing"), IsEmpty());
}

TEST_F(SysfsTest, LinkGathersItsAddressesAndSpeed) {
  put("eth0/speed", "25000\n");
  const auto links = discover_links(
      root_, {{"lo", "127.0.0.1", true}, {"eth0", "192.0.2.7"}, {"eth0", "2001:db8::7"}});
  ASSERT_EQ(links.size(), 1u);
  EXPECT_EQ(links[0].name, "eth0");
  EXPECT_THAT(links[0].addresses, ElementsAre("192.0.2.7", "2001:db8::7"));
  EXPECT_EQ(links[0].megabits_per_second, 25000u);
}

TEST_F(SysfsTest, UnknownSpeedIsZero) {
  put("eth0/speed", "-1\n");
  EXPECT_EQ(discover_links(root_, {{"eth0", "192.0.2.7"}})[0].megabits_per_second, 0u);
  EXPECT_EQ(discover_links(root_, {{"eth1", "192.0.2.8"}})[0].megabits_per_second, 0u);
}

TEST(PickAddress, PrefersIPv4) {
  EXPECT_EQ(pick_address("eth0", {{"eth0", "2001:db8::7"}, {"eth0", "192.0.2.7"}}), "192.0.2.7");
}

TEST(PickAddress, TakesAGlobalIPv6AddressButNoLinkLocalOne) {
  EXPECT_EQ(pick_address("eth0", {{"eth0", "fe80::1"}, {"eth0", "2001:db8::7"}}), "2001:db8::7");
  EXPECT_THROW(pick_address("eth0", {{"eth0", "fe80::1"}}), Error);
}

TEST(PickAddress, TakesAnAddressAsItIs) {
  EXPECT_EQ(pick_address("198.51.100.3", {}), "198.51.100.3");
  EXPECT_EQ(pick_address("2001:db8::9", {}), "2001:db8::9");
}

TEST(PickAddress, UnknownInterfaceErrorListsThoseThatExist) {
  try {
    pick_address("eth9", {{"eth0", "192.0.2.7"}, {"lo", "127.0.0.1", true}});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::not_found);
    EXPECT_THAT(error.what(), HasSubstr("'eth9'"));
    EXPECT_THAT(error.what(), HasSubstr("eth0 (192.0.2.7), lo (127.0.0.1)"));
  }
}

TEST(Discover, FindsTheMachineThatRunsTheTest) {
  const protocol::HardwareRecord hardware = discover();
  EXPECT_GT(hardware.cores, 0u);
  EXPECT_GE(hardware.threads, hardware.cores);
  EXPECT_GT(hardware.memory_bytes, 0u);
}

}  // namespace
}  // namespace datom::hardware

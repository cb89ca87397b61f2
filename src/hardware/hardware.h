// What a machine is made of: processors, memory, disks and links, as `datom addnode` reports them.
#pragma once

#include <string>
#include <vector>

#include "protocol/records.h"

namespace datom::hardware {

// Where the kernel describes devices; tests point them at a tree of their own.
struct SystemPaths {
  std::string block = "/sys/block";
  std::string net = "/sys/class/net";
};

// One address of one network interface.
struct InterfaceAddress {
  std::string interface;
  std::string address;  // without a zone: "192.0.2.7", "fe80::1"
  bool loopback = false;
};

// Everything below reads the system with short blocking calls and is thread-safe.

// The machine as it is now. A part that the system does not tell stays zero or empty.
protocol::HardwareRecord discover(const SystemPaths& paths = {});

// Of the machine; 0 where the system does not tell.
std::uint64_t memory_bytes();

// Disks that can hold data, sorted by name: neither memory (ram, zram) nor loop and network
// devices, nor devices made of other disks (dm, md), nor drives without a medium.
std::vector<protocol::DiskRecord> discover_disks(const std::string& block);

// The links that `addresses` name, sorted by name, without loopback ones.
std::vector<protocol::LinkRecord> discover_links(const std::string& net,
                                                 const std::vector<InterfaceAddress>& addresses);

// Addresses of the interfaces that are up, in the system's order. Throws Error{io_error}.
std::vector<InterfaceAddress> interface_addresses();

// The address to publish for `--nic_if`: of the interface with that name, IPv4 first, and no IPv6
// link-local one, which means nothing elsewhere; or `interface` itself where it is an IP address.
// Throws Error{not_found} listing what there is.
std::string pick_address(const std::string& interface,
                         const std::vector<InterfaceAddress>& addresses);
std::string address_of_interface(const std::string& interface);

// The machine's name, for people; "localhost" where it has none.
std::string host_name();

}  // namespace datom::hardware

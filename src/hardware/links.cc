#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <memory>

#include "common/error.h"
#include "hardware/hardware.h"
#include "hardware/sysfs.h"

namespace datom::hardware {
namespace {

// The address as text; empty for families other than IP.
std::string address_text(const sockaddr* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const void* bytes = nullptr;
  if (address->sa_family == AF_INET) {
    bytes = &reinterpret_cast<const sockaddr_in*>(address)->sin_addr;
  } else if (address->sa_family == AF_INET6) {
    bytes = &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
  } else {
    return {};
  }
  if (inet_ntop(address->sa_family, bytes, text.data(), text.size()) == nullptr) return {};
  return text.data();
}

bool is_ipv4(const std::string& text) {
  in_addr ignored{};
  return inet_pton(AF_INET, text.c_str(), &ignored) == 1;
}

bool is_ipv6(const std::string& text) {
  in6_addr ignored{};
  return inet_pton(AF_INET6, text.c_str(), &ignored) == 1;
}

bool is_link_local(const std::string& text) {
  in6_addr address{};
  return inet_pton(AF_INET6, text.c_str(), &address) == 1 && IN6_IS_ADDR_LINKLOCAL(&address);
}

// "eth0 (192.0.2.7, 2001:db8::7), lo (127.0.0.1)", for errors.
std::string describe(const std::vector<InterfaceAddress>& addresses) {
  std::map<std::string, std::string> interfaces;
  for (const InterfaceAddress& each : addresses) {
    std::string& list = interfaces[each.interface];
    list += (list.empty() ? "" : ", ") + each.address;
  }
  std::string text;
  for (const auto& [name, list] : interfaces) {
    text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", name, list);
  }
  return text.empty() ? "none" : text;
}

}  // namespace

std::vector<protocol::LinkRecord> discover_links(const std::string& net,
                                                 const std::vector<InterfaceAddress>& addresses) {
  std::map<std::string, protocol::LinkRecord> links;
  for (const InterfaceAddress& each : addresses) {
    if (each.loopback) continue;
    links[each.interface].addresses.push_back(each.address);
  }
  std::vector<protocol::LinkRecord> sorted;
  for (auto& [name, link] : links) {
    link.name = name;
    link.megabits_per_second = read_number(net + "/" + name + "/speed");
    sorted.push_back(std::move(link));
  }
  return sorted;
}

std::vector<InterfaceAddress> interface_addresses() {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) throw_errno(errno, "cannot list the network interfaces");
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list, freeifaddrs);
  std::vector<InterfaceAddress> addresses;
  for (const ifaddrs* each = list; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || (each->ifa_flags & IFF_UP) == 0) continue;
    const std::string address = address_text(each->ifa_addr);
    if (address.empty()) continue;
    addresses.push_back({each->ifa_name, address, (each->ifa_flags & IFF_LOOPBACK) != 0});
  }
  return addresses;
}

std::string pick_address(const std::string& interface,
                         const std::vector<InterfaceAddress>& addresses) {
  if (is_ipv4(interface) || is_ipv6(interface)) return interface;
  const InterfaceAddress* best = nullptr;
  for (const InterfaceAddress& each : addresses) {
    if (each.interface != interface || is_link_local(each.address)) continue;
    if (best == nullptr || (!is_ipv4(best->address) && is_ipv4(each.address))) best = &each;
  }
  if (best == nullptr) {
    throw Error(Code::not_found, "network interface '{}' has no usable address here; found: {}",
                interface, describe(addresses));
  }
  return best->address;
}

std::string address_of_interface(const std::string& interface) {
  return pick_address(interface, interface_addresses());
}

std::string host_name() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "localhost";
  return name.data();
}

}  // namespace datom::hardware

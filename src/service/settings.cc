#include "service/settings.h"

#include "common/error.h"
#include "hardware/hardware.h"

namespace datom::service {

std::string ServiceSettings::address(std::uint16_t port) const {
  const bool ipv6 = host.find(':') != std::string::npos;
  return ipv6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

ServiceSettings settle(const NodeFile& node, const ServiceOptions& options,
                       protocol::ServiceType type) {
  ServiceSettings settings;
  settings.node = node;
  settings.service = node.service(options.service_name);
  settings.root = options.root;
  settings.nbd_socket = options.nbd_socket;
  if (settings.service.type != type) {
    throw Error(Code::invalid_argument, "service '{}' of node '{}' is a {}, expected a {}",
                settings.service.name, node.node, name(settings.service.type), name(type));
  }
  if (!options.domain_name.empty() && options.domain_name != node.domain) {
    throw Error(Code::invalid_argument, "node '{}' is of domain '{}', expected '{}'", node.node,
                node.domain, options.domain_name);
  }
  if (options.port != 0) settings.service.port = options.port;
  if (options.nbd_port != 0) settings.service.nbd_port = options.nbd_port;
  settings.host =
      hardware::address_of_interface(options.nic_if.empty() ? node.nic_if : options.nic_if);
  settings.coordination = options.coordination.empty()
                              ? node.coordination
                              : CoordinationUrl::parse(options.coordination);
  return settings;
}

}  // namespace datom::service

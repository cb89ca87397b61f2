// How one service runs: its flags together with what ROOT/node.json says.
#pragma once

#include <cstdint>
#include <string>

#include "service/node_file.h"

namespace datom::service {

// Flags. Empty and 0: as node.json says.
struct ServiceOptions {
  std::string root;
  std::string service_name;
  std::string nic_if;
  std::string domain_name;
  std::string coordination;
  std::uint16_t port = 0;
  std::uint16_t nbd_port = 0;
  std::string nbd_socket;   // a Unix socket to serve NBD on as well; empty: none
  std::uint32_t loops = 0;  // 0: one a hardware thread, at most 8
};

struct ServiceSettings {
  NodeFile node;
  NodeService service;  // with the ports in force
  std::string root;     // absolute
  std::string host;     // IP address that is published
  std::string nbd_socket;
  CoordinationUrl coordination;

  // "192.0.2.7:7401", "[2001:db8::7]:7401".
  std::string address(std::uint16_t port) const;
};

// Throws Error{not_found} where the node has no such service, Error{invalid_argument} where it is
// not of `type` or the domain is not the node's, and what address_of_interface() throws.
ServiceSettings settle(const NodeFile& node, const ServiceOptions& options,
                       protocol::ServiceType type);

}  // namespace datom::service

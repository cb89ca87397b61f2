// `datom addnode`: makes this machine a node of the domain.
#pragma once

#include <string>
#include <vector>

#include "cli/context.h"

namespace datom::cli {

struct AddNodeOptions {
  std::string name;                   // empty: the host's name
  std::string nic_if;                 // empty: the first link with an address
  std::vector<std::string> services;  // parse_service_spec(); empty: a volume server, and a config
                                      // service too where none is up yet
  bool yes = false;                   // ask nothing
};

// Discovers the hardware, asks what is not given, registers the node and its services (with the
// config service, or in coordination itself while none is up), and stamps ROOT/node.json. Repeated
// on the same root it brings the registration up to date; services that are not named stay.
int add_node(Context& context, AddNodeOptions options);

}  // namespace datom::cli

// The node that a command is run on.
#pragma once

#include <optional>
#include <string>

#include "cli/context.h"
#include "service/node_file.h"

namespace datom::cli {

struct NodeRoot {
  std::string path;  // absolute
  service::NodeFile node;
};

// --root, absolute.
std::string absolute_root(const GlobalOptions& options);

// nullopt where ROOT/node.json is missing; throws Error{corrupt} where it is broken.
std::optional<service::NodeFile> find_node_file(const std::string& root);

// Throws Error{not_found} where the root is no node yet, Error{invalid_argument} where it is of
// another domain than --domain_name says, and as find_node_file.
NodeRoot read_node_root(const GlobalOptions& options);

}  // namespace datom::cli

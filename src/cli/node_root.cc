#include "cli/node_root.h"

#include <filesystem>
#include <fstream>

#include "common/error.h"

namespace datom::cli {

std::string absolute_root(const GlobalOptions& options) {
  std::string path = std::filesystem::absolute(options.root).lexically_normal().string();
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

std::optional<service::NodeFile> find_node_file(const std::string& root) {
  const std::string path = service::node_file_path(root);
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::string text(service::kMaxNodeFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > service::kMaxNodeFileBytes) {
    throw Error(Code::corrupt, "{} is larger than {} bytes", path, service::kMaxNodeFileBytes);
  }
  return service::NodeFile::from_json(path, text);
}

NodeRoot read_node_root(const GlobalOptions& options) {
  std::string root = absolute_root(options);
  std::optional<service::NodeFile> node = find_node_file(root);
  if (!node) {
    throw Error(Code::not_found,
                "{} is missing: give the --root of a node, or make one: datom addnode",
                service::node_file_path(root));
  }
  if (!options.domain_name.empty() && options.domain_name != node->domain) {
    throw Error(Code::invalid_argument, "node '{}' is of domain '{}', expected '{}'", node->node,
                node->domain, options.domain_name);
  }
  return {std::move(root), *std::move(node)};
}

}  // namespace datom::cli

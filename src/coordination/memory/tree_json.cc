#include <boost/json.hpp>

#include "common/error.h"
#include "coordination/checks.h"
#include "coordination/memory/tree.h"

namespace datom::coordination::memory {
namespace {

namespace json = boost::json;

constexpr std::int64_t kFormat = 1;
constexpr std::int64_t kMaxLoads = INT32_MAX - 1;

json::value node_to_json(const std::string& path, const NodeState& node) {
  return {{"path", path},
          {"data", node.data},
          {"version", node.version},
          {"created", node.created},
          {"sequence", node.next_sequence}};
}

NodeState node_from_json(const json::object& object) {
  NodeState node;
  node.data = json::value_to<std::string>(object.at("data"));
  node.version = object.at("version").to_number<Version>();
  node.created = object.at("created").to_number<std::int64_t>();
  node.next_sequence = object.at("sequence").to_number<std::uint32_t>();
  return node;
}

// Nodes come in the order of their paths, so that parents come before their children.
void add(std::map<std::string, NodeState>& nodes, const json::object& object) {
  const std::string path = json::value_to<std::string>(object.at("path"));
  check_path(path);
  NodeState node = node_from_json(object);
  if (path == "/") {
    nodes[path] = std::move(node);
    return;
  }
  const auto parent = nodes.find(parent_of(path));
  if (parent == nodes.end()) throw Error(Code::corrupt, "{} has no parent", path);
  parent->second.children.insert(path.substr(path.rfind('/') + 1));
  if (!nodes.emplace(path, std::move(node)).second) throw Error(Code::corrupt, "{} twice", path);
}

}  // namespace

std::string Tree::to_json() const {
  json::array nodes;
  for (const auto& [path, node] : nodes_) {
    if (node.owner == 0) nodes.push_back(node_to_json(path, node));
  }
  const json::value all = {
      {"format", kFormat}, {"loads", transaction_ >> 32}, {"nodes", std::move(nodes)}};
  return json::serialize(all);
}

void Tree::load_json(const std::string& text) {
  json::parse_options options;
  options.allow_invalid_utf8 = true;  // data are bytes
  try {
    const json::value all = json::parse(text, {}, options);
    const json::object& object = all.as_object();
    const auto format = object.at("format").to_number<std::int64_t>();
    if (format != kFormat) throw Error(Code::corrupt, "format {}, expected {}", format, kFormat);
    const auto loads = object.at("loads").to_number<std::int64_t>();
    if (loads < 0 || loads > kMaxLoads) throw Error(Code::corrupt, "\"loads\" is {}", loads);
    std::map<std::string, NodeState> nodes{{"/", NodeState{}}};
    for (const json::value& node : object.at("nodes").as_array()) add(nodes, node.as_object());
    nodes_ = std::move(nodes);
    transaction_ = (loads + 1) << 32;
  } catch (const std::exception& error) {
    throw Error(Code::corrupt, "coordination tree: {}", error.what());
  }
}

}  // namespace datom::coordination::memory

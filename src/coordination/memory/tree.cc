#include "coordination/memory/tree.h"

#include <fmt/format.h>

#include <utility>

#include "common/error.h"
#include "coordination/checks.h"

namespace datom::coordination::memory {
namespace {

std::string name_of(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

}  // namespace

Tree::Tree() {
  nodes_.emplace("/", NodeState{});
}

const NodeState* Tree::find(const std::string& path) const {
  const auto found = nodes_.find(path);
  return found == nodes_.end() ? nullptr : &found->second;
}

std::vector<std::string> Tree::owned_by(std::int64_t session) const {
  std::vector<std::string> paths;
  for (const auto& [path, node] : nodes_) {
    if (node.owner == session) paths.push_back(path);
  }
  return paths;
}

Transaction::~Transaction() {
  if (committed_) return;
  for (auto& [path, node] : before_) {
    if (node) {
      tree_.nodes_[path] = std::move(*node);
    } else {
      tree_.nodes_.erase(path);
    }
  }
}

Commit Transaction::commit() {
  committed_ = true;
  tree_.transaction_ = id_;
  Commit commit;
  for (const auto& [path, before] : before_) {
    const NodeState* now = tree_.find(path);
    commit.nodes.emplace_back(path, now == nullptr ? std::nullopt : std::optional(*now));
  }
  commit.changes = std::move(changes_);
  return commit;
}

OperationResult Transaction::apply(const Operation& operation, std::int64_t session) {
  return std::visit([&](const auto& one) { return step(one, session); }, operation);
}

OperationResult Transaction::step(const Create& create, std::int64_t session) {
  if (create.path == "/") throw Error(Code::already_exists, "/ exists");
  const std::string parent = parent_of(create.path);
  const NodeState* found = tree_.find(parent);
  if (found == nullptr) {
    throw Error(Code::not_found, "{}: there is no {} to create it in", create.path, parent);
  }
  if (found->owner != 0) {
    throw Error(Code::conflict, "{}: {} is ephemeral and cannot have children", create.path,
                parent);
  }
  std::string path = create.path;
  if (create.options.sequential) path += fmt::format("{:010}", found->next_sequence);
  if (tree_.find(path) != nullptr) throw Error(Code::already_exists, "{} exists", path);

  NodeState& above = touch(parent);
  ++above.next_sequence;
  above.children.insert(name_of(path));
  NodeState& node = touch(path);
  node.data = create.data;
  node.created = id_;
  node.owner = create.options.ephemeral ? session : 0;
  persistent_ |= node.owner == 0;
  // A watch on the children of a missing node hears its creation.
  changes_.insert(changes_.end(), {{path, false}, {path, true}, {parent, true}});
  return {path, 0};
}

OperationResult Transaction::step(const Set& set, std::int64_t) {
  require(set.path, set.expected);
  NodeState& node = touch(set.path);
  node.data = set.data;
  ++node.version;
  persistent_ |= node.owner == 0;
  changes_.push_back({set.path, false});
  return {{}, node.version};
}

OperationResult Transaction::step(const Delete& remove, std::int64_t) {
  const NodeState& node = require(remove.path, remove.expected);
  if (!node.children.empty()) {
    throw Error(Code::conflict, "{} has {} children", remove.path, node.children.size());
  }
  persistent_ |= node.owner == 0;
  touch(remove.path);
  tree_.nodes_.erase(remove.path);
  const std::string parent = parent_of(remove.path);
  touch(parent).children.erase(name_of(remove.path));
  changes_.insert(changes_.end(), {{remove.path, false}, {remove.path, true}, {parent, true}});
  return {};
}

OperationResult Transaction::step(const Check& check, std::int64_t) {
  return {{}, require(check.path, check.expected).version};
}

NodeState& Transaction::touch(const std::string& path) {
  const auto found = tree_.nodes_.find(path);
  if (found == tree_.nodes_.end()) {
    before_.emplace(path, std::nullopt);
    return tree_.nodes_[path];
  }
  before_.emplace(path, found->second);
  return found->second;
}

const NodeState& Transaction::require(const std::string& path, Version expected) const {
  const NodeState* node = tree_.find(path);
  if (node == nullptr) throw Error(Code::not_found, "there is no {}", path);
  if (expected != kAnyVersion && expected != node->version) {
    throw Error(Code::conflict, "{} is at version {}, expected {}", path, node->version, expected);
  }
  return *node;
}

}  // namespace datom::coordination::memory

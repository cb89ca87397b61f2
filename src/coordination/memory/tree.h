// The nodes of a coordination tree in memory and what a write does to them. No threads, no
// sessions.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "coordination/client.h"

namespace datom::coordination::memory {

struct NodeState {
  std::string data;
  Version version = 0;
  std::int64_t created = 0;
  std::int64_t owner = 0;  // session of an ephemeral node, else 0
  std::uint32_t next_sequence = 0;
  std::set<std::string> children;  // names
};

// What a watch would hear: the data and existence of `path`, or its children.
struct Change {
  std::string path;
  bool of_children = false;
};

// What a transaction left behind.
struct Commit {
  std::vector<std::pair<std::string, std::optional<NodeState>>> nodes;  // nullopt: gone
  std::vector<Change> changes;                                          // in order
};

class Tree {
 public:
  Tree();

  // nullptr where there is none.
  const NodeState* find(const std::string& path) const;
  std::vector<std::string> owned_by(std::int64_t session) const;
  bool empty() const { return nodes_.size() == 1; }

  // The persistent nodes, and back. Ids of transactions never repeat after a load. from_json throws
  // Error{corrupt} and then leaves the tree as it was.
  std::string to_json() const;
  void load_json(const std::string& json);

 private:
  friend class Transaction;
  std::map<std::string, NodeState> nodes_;  // by path; "/" is always there
  std::int64_t transaction_ = 0;            // high half: how often the tree was loaded
};

// Changes to the tree that all stay (commit) or all go (destroyed without it).
class Transaction {
 public:
  explicit Transaction(Tree& tree) : tree_(tree), id_(tree.transaction_ + 1) {}
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  // Throws Error as Client does for a single step. `session` will own an ephemeral node.
  OperationResult apply(const Operation& operation, std::int64_t session);
  // Whether a persistent node came, went or changed.
  bool persistent() const { return persistent_; }
  Commit commit();

 private:
  OperationResult step(const Create& create, std::int64_t session);
  OperationResult step(const Set& set, std::int64_t session);
  OperationResult step(const Delete& remove, std::int64_t session);
  OperationResult step(const Check& check, std::int64_t session);
  // The node, its state before this transaction kept for the way back.
  NodeState& touch(const std::string& path);
  const NodeState& require(const std::string& path, Version expected) const;

  Tree& tree_;
  std::int64_t id_;
  bool committed_ = false;
  bool persistent_ = false;
  std::map<std::string, std::optional<NodeState>> before_;
  std::vector<Change> changes_;
};

}  // namespace datom::coordination::memory

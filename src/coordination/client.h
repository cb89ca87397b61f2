// The Coordination seam: a small tree of named values with versions, ephemeral and sequential
// nodes, watches and sessions, as ZooKeeper keeps it. Implementations: zookeeper/ (real) and
// memory/ (simulation, `datom dev`); both pass the same contract tests (coordination_contract.h).
//
// A Client belongs to one loop: calls are made there, results and watches arrive there. Several
// clients may share one session.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "runtime/task.h"

namespace datom::coordination {

// A node's version: 0 when created, one more at each set. kAnyVersion matches all.
using Version = std::int32_t;
inline constexpr Version kAnyVersion = -1;

inline constexpr std::size_t kMaxPath = 1024;
inline constexpr std::size_t kMaxData = 512 * 1024;  // of a node, and of all steps of a multi
inline constexpr std::size_t kMaxOperations = 256;   // steps of a multi

struct Stat {
  Version version = 0;
  std::int64_t created = 0;          // transaction that created the node: tells a re-created one
  std::int64_t ephemeral_owner = 0;  // session id, 0: persistent
  std::int32_t children = 0;
};

struct Node {
  std::string data;
  Stat stat;
};

struct CreateOptions {
  bool ephemeral = false;   // vanishes with the session
  bool sequential = false;  // a 10 digit counter of the parent is appended to the name
};

// One step of a multi; all happen or none.
struct Create {
  std::string path;
  std::string data;
  CreateOptions options{};
};
struct Set {
  std::string path;
  std::string data;
  Version expected = kAnyVersion;
};
struct Delete {
  std::string path;
  Version expected = kAnyVersion;
};
struct Check {  // the node exists and has that version
  std::string path;
  Version expected = kAnyVersion;
};
using Operation = std::variant<Create, Set, Delete, Check>;

// Result of one step: the path created (with its sequence) or the version after a set.
struct OperationResult {
  std::string created_path;
  Version version = 0;
};

enum class SessionState {
  connecting,  // no server reachable now; the session may or may not live on
  connected,
  expired,  // for ever: ephemeral nodes are gone, every call fails with session_expired
};

// A watch fires once, after the first change of what was read with it, or when the session expires;
// then read again. It does not fire for a mere disconnection: what changed meanwhile fires it after
// the reconnection. It runs on the client's loop. Destroying the Watch silences it.
class Watch {
 public:
  virtual ~Watch() = default;
};
using WatchHandle = std::unique_ptr<Watch>;
using OnChange = std::function<void()>;

// Every call fails with Error:
//   not_found         the node (or, to create, its parent) is not there
//   already_exists    create: it is there
//   conflict          the version is another; delete: it has children; create: the parent is
//                     ephemeral; multi: any of these, not_found or already_exists: the message says
//                     which step and why
//   unavailable       not connected and certainly not executed
//   outcome_unknown   sent, then the connection broke: done or not done. Reads may be repeated;
//   writes
//                     only after looking
//   session_expired   the session is over
//   too_large         data over kMaxData, a path over kMaxPath, a multi over kMaxOperations
//   invalid_argument  the path is none
// Paths are absolute, of the tree the client was made for ("/datom/...").
class Client {
 public:
  virtual ~Client() = default;

  // Gives the path created: with its sequence if sequential.
  virtual runtime::Task<std::string> create(std::string path, std::string data,
                                            CreateOptions options = {}) = 0;
  virtual runtime::Task<Version> set(std::string path, std::string data,
                                     Version expected = kAnyVersion) = 0;
  virtual runtime::Task<void> remove(std::string path, Version expected = kAnyVersion) = 0;
  virtual runtime::Task<std::vector<OperationResult>> multi(std::vector<Operation> operations) = 0;

  // nullopt where there is no such node. With `on_change` a watch is set in the same step, on the
  // node's data and existence (created, set, deleted), also when the node is missing; `watch` keeps
  // it alive.
  virtual runtime::Task<std::optional<Node>> get(std::string path) = 0;
  virtual runtime::Task<std::optional<Node>> get(std::string path, OnChange on_change,
                                                 WatchHandle& watch) = 0;
  // Names (not paths) of the children, sorted; nullopt where there is no such node. The watch fires
  // when a child comes or goes, or the node is deleted; where the node is missing, when it is
  // created.
  virtual runtime::Task<std::optional<std::vector<std::string>>> children(std::string path) = 0;
  virtual runtime::Task<std::optional<std::vector<std::string>>> children(std::string path,
                                                                          OnChange on_change,
                                                                          WatchHandle& watch) = 0;
  // Reads after it see everything that was written before it, by anyone (ZooKeeper's sync).
  virtual runtime::Task<void> sync() = 0;

  virtual SessionState state() const = 0;
  virtual std::int64_t session_id() const = 0;
  // `on_state` hears every change of state, on the client's loop, until the handle is destroyed.
  virtual WatchHandle watch_session(std::function<void(SessionState)> on_state) = 0;
};

// Makes the node and its missing parents, persistent and empty; those that exist stay as they are.
runtime::Task<void> ensure_path(Client& client, std::string path);

}  // namespace datom::coordination

// Coordination in memory: the tree of `datom dev` and of tests.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "coordination/client.h"
#include "runtime/loop.h"

namespace datom::coordination {

namespace memory {
struct Commit;
}

// The tree and its sessions. Thread-safe; outlives its clients.
class MemoryTree {
 public:
  // `on_persistent_change` hears the whole tree of persistent nodes as JSON after each change of
  // one (under the tree's lock: it writes the file and returns), so that `datom dev` survives a
  // restart; a change is not acknowledged before it returns. May be empty.
  explicit MemoryTree(std::function<void(const std::string& json)> on_persistent_change = {});
  ~MemoryTree();

  // Loads what on_persistent_change was given. Throws Error{corrupt}. REQUIRES: the tree is empty.
  void load(const std::string& json);

  // Hears each transaction right after it has happened, under the tree's lock: it notes it and
  // returns. Set before the first session; may be empty.
  void on_commit(std::function<void(const memory::Commit&)> observer);

  // A new session, and a client of it on `loop`.
  std::unique_ptr<Client> open_session(runtime::Loop& loop);
  // Another client of an open session, on any loop. Error{not_found}.
  std::unique_ptr<Client> join_session(std::int64_t session_id, runtime::Loop& loop);

  // What befalls sessions. All are idempotent.
  void expire(std::int64_t session_id);  // ephemerals vanish; the clients hear `expired`
  void end(std::int64_t session_id);     // the orderly end; the same for the tree
  // The same at the tree, but whoever is disconnected hears of it only once connected again.
  void expire_unseen(std::int64_t session_id);
  void disconnect(std::int64_t session_id);  // calls fail with unavailable; the session lives on
  void reconnect(std::int64_t session_id);

  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace datom::coordination

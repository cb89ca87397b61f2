// ZooKeeper through its C client (3.8). Its own threads only post to loops.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "coordination/client.h"
#include "runtime/loop.h"

namespace datom::coordination {

struct ZooKeeperOptions {
  std::string servers;  // "host:port,host:port/chroot"
  std::chrono::milliseconds session_timeout{6000};
};

// One session with an ensemble, shared by the clients of all loops. Reconnects by itself; once
// expired it stays so: make another. Thread-safe.
class ZooKeeperSession {
 public:
  // Starts connecting. Throws Error{invalid_argument} for a malformed server list.
  static std::shared_ptr<ZooKeeperSession> open(ZooKeeperOptions options);
  virtual ~ZooKeeperSession() = default;

  // Waits until connected; Error{timeout} naming the servers. On `loop`.
  virtual runtime::Task<void> wait_connected(runtime::Loop& loop, runtime::Duration timeout) = 0;
  // A client of this session on `loop`, which must outlive it.
  virtual std::unique_ptr<Client> make_client(runtime::Loop& loop) = 0;
  // Ends the session: ephemeral nodes vanish at once. Blocks for a round trip, or two seconds if no
  // server answers: calls that are still under way then end with outcome_unknown. Watches are
  // silent from then on, later calls fail with session_expired. Call it outside of loops that
  // clients use.
  virtual void close() = 0;
};

}  // namespace datom::coordination

// Coordination as a domain meets it: ZooKeeper's servers follow one history, each at its own pace.
// A session is with one of them: it reads that server's state of the tree, older than the newest;
// its watches fire when that server has come so far. What a session wrote it reads, and sync()
// waits until its server has caught up. Within a session nothing goes backwards, also when it
// reconnects to another server; a new session may begin anywhere.
//
// And all of it can be out for a while: then no session reaches it and none expires.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "coordination/memory/memory.h"
#include "coordination/memory/tree.h"
#include "runtime/task.h"
#include "runtime/virtual_loop.h"

namespace datom::sim {

// How long coordination waits for a client that is silent.
inline constexpr runtime::Duration kSession = std::chrono::seconds(4);

class Ensemble {
 public:
  static constexpr std::size_t kServers = 3;

  Ensemble(runtime::VirtualLoop& world, std::uint64_t seed);
  ~Ensemble();

  // From now on each change reaches each server after up to `longest`.
  void lag(runtime::Duration longest) { longest_ = longest; }
  // The server takes nothing in for so long.
  void hold(std::size_t server, runtime::Duration how_long);
  // Everything has arrived everywhere, and does at once from now on.
  void calm();

  // A client of a new session, on `loop`. Its watches' callbacks run where the change arrives,
  // beside that loop: they only note it. While coordination is out it begins unconnected.
  std::unique_ptr<coordination::Client> open_session(runtime::Loop& loop);
  // One that sees the newest and is there even while coordination is out.
  std::unique_ptr<coordination::Client> open_observer(runtime::Loop& loop);

  // What befalls one session.
  void cut(std::int64_t session);
  void mend(std::int64_t session);
  void end(std::int64_t session);            // in order
  void expire(std::int64_t session);         // REQUIRES: not out()
  void expire_unseen(std::int64_t session);  // the same, of one that is cut
  // Its process is dead: it expires in a while, counted anew if coordination is out meanwhile.
  void bereave(std::int64_t session, runtime::Duration lingers);

  // Nobody reaches it until end_outage(); then clients find it again within a second.
  void begin_outage();
  void end_outage();
  bool out() const { return out_; }
  // Returns when it is not out.
  runtime::Task<void> reachable();

  // While one lives, somebody is about to begin with a new session: no outage comes in between.
  class Beginning {
   public:
    explicit Beginning(Ensemble& ensemble) : ensemble_(ensemble) { ++ensemble_.beginning_; }
    ~Beginning() { --ensemble_.beginning_; }
    Beginning(const Beginning&) = delete;
    Beginning& operator=(const Beginning&) = delete;

   private:
    Ensemble& ensemble_;
  };
  bool somebody_begins() const { return beginning_ > 0; }

 private:
  class Client;
  class Server;
  struct Session {
    bool cut = false;
    bool dead = false;
  };

  void committed(const coordination::memory::Commit& commit);
  void reconnect(std::int64_t session);
  void bury(std::int64_t session, runtime::Duration after);

  runtime::VirtualLoop& world_;
  runtime::SeededRandom random_;
  runtime::Duration longest_{};
  coordination::MemoryTree tree_;
  std::uint64_t newest_ = 0;  // how many transactions there were
  std::vector<std::unique_ptr<Server>> servers_;
  std::map<std::int64_t, Session> sessions_;  // the open ones
  bool out_ = false;
  std::uint64_t outages_ = 0;
  std::size_t beginning_ = 0;
};

}  // namespace datom::sim

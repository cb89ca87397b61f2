// Who wants to hear of peers that come and go (Caller::watch_peers). Belongs to one loop.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "rpc/rpc.h"

namespace datom::rpc {

class PeerWatchers {
 public:
  explicit PeerWatchers(runtime::Loop& loop);
  ~PeerWatchers();

  std::unique_ptr<Caller::Subscription> add(Caller::OnPeer on_up, Caller::OnPeer on_down);
  // Told through the loop's queue, in order: a watcher may call, send, watch and unwatch as it
  // likes.
  void up(const std::string& service);
  void down(const std::string& service);

 private:
  struct Watchers;
  void tell(const std::string& service, bool up);

  runtime::Loop& loop_;
  std::shared_ptr<Watchers> watchers_;
};

}  // namespace datom::rpc

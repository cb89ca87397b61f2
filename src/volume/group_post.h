// Carries the group messages of the replicas of a loop. What one step makes for many groups, the
// heartbeats of all that are due and the answers to them, travels together: one message for a pair
// of servers, not one for each volume. It means what its parts mean, each by itself: they are lost,
// repeated and late together, which the group protocol takes of each.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "protocol/group_messages.h"
#include "rpc/rpc.h"

namespace datom::volume {

class GroupPost {
 public:
  // Outlives it.
  explicit GroupPost(rpc::Caller& caller) : caller_(caller) {}

  // At once, but for what act() of together() makes. In order, for each service.
  void send(const std::string& service, const protocol::GroupMessage& message, Buffer entries);

  // What act() sends without entries waits until it has returned.
  template <typename Act>
  void together(const Act& act) {
    {
      const Depth depth(depth_);
      act();
    }
    if (depth_ == 0) send_waiting();
  }

 private:
  struct Depth {
    explicit Depth(int& of) : depth(of) { ++depth; }
    ~Depth() { --depth; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;
    int& depth;
  };

  void send_waiting();
  void send_waiting(const std::string& service);

  rpc::Caller& caller_;
  int depth_ = 0;
  std::map<std::string, std::vector<protocol::GroupMessage>> waiting_;  // by service
};

}  // namespace datom::volume

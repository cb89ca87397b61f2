// RPC in memory, for tests: services on one loop that call each other through its queue. Works on a
// VirtualLoop. Links can be cut and services taken down.
#pragma once

#include <memory>
#include <string>

#include "rpc/rpc.h"

namespace datom::rpc {

struct MemoryEndpointState;
struct MemoryNetworkState;

// One incarnation of a service on the network: its Caller, and where its Router is served from.
class MemoryEndpoint final : public Caller {
 public:
  // stop() must have returned.
  ~MemoryEndpoint() override;

  runtime::Task<Message> call(std::string service, Method method, Message request,
                              runtime::Duration timeout) override;
  void send(const std::string& service, Method method, Message message) override;
  std::unique_ptr<Subscription> watch_peers(OnPeer on_up, OnPeer on_down) override;

  // Leaves the network as MemoryNetwork::take_down does, then waits for its handlers.
  runtime::Task<void> stop();

 private:
  friend class MemoryNetwork;
  explicit MemoryEndpoint(std::shared_ptr<MemoryEndpointState> state);

  std::shared_ptr<MemoryEndpointState> state_;
};

// Belongs to one loop. Each message takes one turn of the loop's queue; between two services they
// arrive in the order they were sent. A connection is made by the first call or message (the
// sender's watchers hear `up`) and lasts until one of the two goes down. An Error thrown by the
// handler of a one-way message concerns nobody else.
class MemoryNetwork {
 public:
  // `loop` must outlive it.
  explicit MemoryNetwork(runtime::Loop& loop);
  ~MemoryNetwork();

  // A service comes up. `router` must outlive the endpoint. REQUIRES: no service of that name is
  // up.
  std::unique_ptr<MemoryEndpoint> join(std::string service, const Router& router);

  // Between the two, requests, replies and messages vanish without a trace, those on their way
  // included: a call times out. Nobody hears `down`, even if one of the two dies meanwhile, and no
  // connection can be made. Services need not be up.
  void cut(const std::string& one, const std::string& other);
  // The same for what goes from `from` to `to` only.
  void cut_one_way(const std::string& from, const std::string& to);
  // Ends both of the above between the two, both ways.
  void heal(const std::string& one, const std::string& other);

  // As kill -9: every service connected to it hears `down` and its calls fail with outcome_unknown;
  // new calls fail with unavailable and are reported as `down` again. What it had sent is lost, its
  // own calls fail with closed, and its watchers hear nothing any more. No effect if it is not up.
  void take_down(const std::string& service);

 private:
  std::shared_ptr<MemoryNetworkState> state_;
};

}  // namespace datom::rpc

#include "rpc/memory_network.h"

#include <map>
#include <optional>
#include <set>
#include <utility>
#include <variant>

#include "common/check.h"
#include "rpc/dispatch.h"
#include "rpc/peer_watchers.h"
#include "rpc/pending_calls.h"
#include "runtime/task_group.h"

namespace datom::rpc {

using runtime::Task;
using Endpoint = std::shared_ptr<MemoryEndpointState>;

// What one service knows of another.
struct MemoryPeer {
  MemoryPeer(runtime::Loop& loop, const std::string& service) : calls(loop, service) {}

  bool connected = false;
  PendingCalls calls;
};

struct MemoryNetworkState {
  explicit MemoryNetworkState(runtime::Loop& loop_) : loop(loop_) {}

  bool is_cut(const std::string& from, const std::string& to) const {
    return cuts.contains({from, to});
  }
  bool can_connect(const std::string& from, const std::string& to) const {
    return !is_cut(from, to) && !is_cut(to, from);
  }
  Endpoint find(const std::string& service) const {
    const auto found = up.find(service);
    return found == up.end() ? nullptr : found->second;
  }
  void take_down(const std::string& service);

  runtime::Loop& loop;
  std::map<std::string, Endpoint> up;
  std::set<std::pair<std::string, std::string>> cuts;  // from, to
};

struct MemoryEndpointState : std::enable_shared_from_this<MemoryEndpointState> {
  MemoryEndpointState(std::shared_ptr<MemoryNetworkState> network_, std::string service_,
                      const Router& router_)
      : network(std::move(network_)),
        service(std::move(service_)),
        router(router_),
        watchers(network->loop),
        handlers(network->loop, [](std::exception_ptr) {
          DATOM_CHECK(false);  // answer() lets nothing through
        }) {}

  MemoryPeer& peer(const std::string& name) {
    return peers.try_emplace(name, network->loop, name).first->second;
  }

  // The service's endpoint, connected to; nullptr where it is not up or cannot be connected to.
  Endpoint reach(const std::string& name);
  void lose(const std::string& name);
  void leave();

  // Runs `deliver(receiver)` at `to` a turn later, if that incarnation and the link still live
  // then.
  template <typename Deliver>
  void transmit(const Endpoint& to, Deliver deliver);
  void request(const Endpoint& to, std::uint64_t id, Method method, Message message);
  Task<void> serve(Endpoint caller, std::uint64_t id, Method method, Message message);
  Peer as_peer() const { return Peer{service, "memory:" + service}; }

  std::shared_ptr<MemoryNetworkState> network;
  const std::string service;
  const Router& router;
  bool up = true;
  std::map<std::string, MemoryPeer> peers;
  PeerWatchers watchers;
  runtime::TaskGroup handlers;
};

Endpoint MemoryEndpointState::reach(const std::string& name) {
  Endpoint target = network->find(name);
  MemoryPeer& known = peer(name);
  if (target && known.connected) return target;
  if (!network->can_connect(service, name)) return nullptr;
  known.connected = target != nullptr;
  if (target) {
    watchers.up(name);
  } else {
    watchers.down(name);
  }
  return target;
}

void MemoryEndpointState::lose(const std::string& name) {
  const auto found = peers.find(name);
  if (found == peers.end()) return;
  const bool was_connected = std::exchange(found->second.connected, false);
  if (!network->can_connect(service, name)) return;  // the news cannot get here
  const Error sent(Code::outcome_unknown, "the connection to service \"{}\" broke", name);
  const Error not_sent(Code::unavailable, "service \"{}\" is not up", name);
  found->second.calls.reject_all(sent, not_sent);
  if (was_connected) watchers.down(name);
}

void MemoryEndpointState::leave() {
  up = false;
  const Error gone(Code::closed, "service \"{}\" has left the network", service);
  for (auto& [name, known] : peers) known.calls.reject_all(gone, gone);
}

template <typename Deliver>
void MemoryEndpointState::transmit(const Endpoint& to, Deliver deliver) {
  network->loop.post([from = shared_from_this(), to, deliver = std::move(deliver)]() mutable {
    if (!from->up || !to->up || from->network->is_cut(from->service, to->service)) return;
    deliver(*to);
  });
}

void MemoryEndpointState::request(const Endpoint& to, std::uint64_t id, Method method,
                                  Message message) {
  auto deliver = [caller = shared_from_this(), id, method,
                  message = std::move(message)](MemoryEndpointState& receiver) mutable {
    receiver.handlers.spawn(receiver.serve(caller, id, method, std::move(message)));
  };
  transmit(to, std::move(deliver));
}

Task<void> MemoryEndpointState::serve(Endpoint caller, std::uint64_t id, Method method,
                                      Message message) {
  Answer answered = co_await answer(router, service, method, caller->as_peer(), std::move(message));
  if (!up) co_return;
  auto deliver = [id, name = service,
                  answered = std::move(answered)](MemoryEndpointState& receiver) mutable {
    PendingCalls& calls = receiver.peer(name).calls;
    if (const auto* error = std::get_if<Error>(&answered)) {
      calls.reject(id, *error);
    } else {
      calls.resolve(id, std::get<Message>(std::move(answered)));
    }
  };
  transmit(caller, std::move(deliver));
}

void MemoryNetworkState::take_down(const std::string& service) {
  const auto found = up.find(service);
  if (found == up.end()) return;
  const Endpoint gone = found->second;
  up.erase(found);
  gone->leave();
  for (const auto& [name, other] : up) other->lose(service);
}

MemoryEndpoint::MemoryEndpoint(std::shared_ptr<MemoryEndpointState> state)
    : state_(std::move(state)) {}

MemoryEndpoint::~MemoryEndpoint() {
  DATOM_CHECK(!state_->up);
}

Task<Message> MemoryEndpoint::call(std::string service, Method method, Message request,
                                   runtime::Duration timeout) {
  check_bounds(request);
  const Endpoint self = state_;
  if (!self->up) throw Error(Code::closed, "service \"{}\" has left the network", self->service);
  const Endpoint target = self->reach(service);
  if (!target && self->network->can_connect(self->service, service)) {
    throw Error(Code::unavailable, "service \"{}\" is not up", service);
  }
  MemoryPeer& peer = self->peer(service);
  PendingCall pending(peer.calls, method, self->network->loop.now() + timeout);
  if (target) {
    peer.calls.mark_sent(pending.id());
    self->request(target, pending.id(), method, std::move(request));
  }
  Message reply = co_await pending.wait();
  co_return reply;
}

void MemoryEndpoint::send(const std::string& service, Method method, Message message) {
  check_bounds(message);
  if (!state_->up) return;
  const Endpoint target = state_->reach(service);
  if (!target) return;
  auto deliver = [sender = state_->as_peer(), method,
                  message = std::move(message)](MemoryEndpointState& receiver) mutable {
    try {
      hand_over(receiver.router, receiver.service, method, sender, std::move(message));
    } catch (const Error&) {  // the sender wants no answer
    }
  };
  state_->transmit(target, std::move(deliver));
}

std::unique_ptr<Caller::Subscription> MemoryEndpoint::watch_peers(OnPeer on_up, OnPeer on_down) {
  const auto tell = [](std::weak_ptr<MemoryEndpointState> state, OnPeer told) -> OnPeer {
    return [state = std::move(state), told = std::move(told)](const std::string& service) {
      const Endpoint self = state.lock();
      if (self && self->up && told) told(service);
    };
  };
  return state_->watchers.add(tell(state_, std::move(on_up)), tell(state_, std::move(on_down)));
}

Task<void> MemoryEndpoint::stop() {
  const Endpoint self = state_;
  // Another incarnation may bear the name by now.
  if (self->up) self->network->take_down(self->service);
  co_await self->handlers.close();
}

MemoryNetwork::MemoryNetwork(runtime::Loop& loop)
    : state_(std::make_shared<MemoryNetworkState>(loop)) {}

MemoryNetwork::~MemoryNetwork() = default;

std::unique_ptr<MemoryEndpoint> MemoryNetwork::join(std::string service, const Router& router) {
  auto endpoint = std::make_shared<MemoryEndpointState>(state_, service, router);
  const bool added = state_->up.emplace(std::move(service), endpoint).second;
  DATOM_CHECK(added);
  return std::unique_ptr<MemoryEndpoint>(new MemoryEndpoint(std::move(endpoint)));
}

void MemoryNetwork::cut(const std::string& one, const std::string& other) {
  cut_one_way(one, other);
  cut_one_way(other, one);
}

void MemoryNetwork::cut_one_way(const std::string& from, const std::string& to) {
  state_->cuts.emplace(from, to);
}

void MemoryNetwork::heal(const std::string& one, const std::string& other) {
  state_->cuts.erase({one, other});
  state_->cuts.erase({other, one});
}

void MemoryNetwork::take_down(const std::string& service) {
  state_->take_down(service);
}

}  // namespace datom::rpc

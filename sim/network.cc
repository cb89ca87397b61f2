#include "sim/network.h"

#include <algorithm>

#include "common/error.h"
#include "protocol/group_messages.h"
#include "protocol/methods.h"
#include "runtime/wait.h"
#include "sim/server.h"

namespace datom::sim {

using runtime::Task;

namespace {

// What travels together is heard one by one. Of the neighbours of the volume nothing is heard.
template <typename Hear>
void each_of_the_volume(rpc::Method method, const rpc::Message& message, const Hear& hear) {
  if (method != protocol::method::kGroupMessages) {
    const bool own = protocol::decode_group_message(message.header).volume == kVolumeId;
    if (own) hear(message);
    return;
  }
  for (const auto& one : protocol::decode_group_messages(message.header)) {
    if (one.volume == kVolumeId) hear(rpc::Message{encode(one), {}});
  }
}

}  // namespace

struct Network::Endpoint::Call {
  explicit Call(runtime::Loop& loop) : done(loop) {}
  std::string to;
  std::uint64_t to_incarnation = 0;
  runtime::Event done;
  bool ended = false;
  rpc::Message reply;
  std::exception_ptr error;

  void end(rpc::Message answer, std::exception_ptr failed) {
    if (std::exchange(ended, true)) return;
    reply = std::move(answer);
    error = failed;
    done.set();
  }
};

struct Network::Endpoint::Watcher final : rpc::Caller::Subscription {
  Watcher(Endpoint& of, OnPeer down) : endpoint(of), on_down(std::move(down)) {
    endpoint.watcher_order_.push_back(this);
  }
  ~Watcher() override { std::erase(endpoint.watcher_order_, this); }
  Endpoint& endpoint;
  OnPeer on_down;
};

// ---- Network

Network::Network(runtime::Loop& loop, std::uint64_t seed)
    : loop_(loop),
      delays_(seed),
      losses_(seed + 1),
      repeats_(seed + 2),
      reorders_(seed + 3),
      replays_(seed + 4) {}

std::unique_ptr<Network::Endpoint> Network::join(std::string service, const rpc::Router& router,
                                                 runtime::Loop& node) {
  const std::uint64_t incarnation = ++incarnations_;
  std::unique_ptr<Endpoint> endpoint(new Endpoint(*this, service, incarnation, node));
  services_[service] = {&router, endpoint.get(), incarnation};
  return endpoint;
}

bool Network::is_cut(const Link& link) const {
  const auto found = cuts_.find(link);
  return found != cuts_.end() && found->second > 0;
}

void Network::mend(const std::string& from, const std::string& to) {
  int& cuts = cuts_[{from, to}];
  cuts = std::max(cuts - 1, 0);
}

void Network::clog(const std::string& from, const std::string& to, runtime::Time until) {
  runtime::Time& clogged = clogged_until_[{from, to}];
  clogged = std::max(clogged, until);
}

void Network::sever(const std::string& one, const std::string& other) {
  ++severed_;
  for (const auto& [here, there] : {std::pair(one, other), std::pair(other, one)}) {
    const auto found = services_.find(here);
    if (found == services_.end()) continue;
    const std::uint64_t incarnation = found->second.incarnation;
    loop_.start_timer(loop_.now() + delay(), [this, to = here, incarnation, gone = there] {
      post_to(to, incarnation, [gone](Endpoint& endpoint) { endpoint.peer_went_down(gone); });
    });
  }
}

void Network::heal() {
  cuts_.clear();
  clogged_until_.clear();
}

bool Network::arrives(const Link& link) {
  if (link.first == link.second) return true;
  if (is_cut(link)) {
    ++cut_off_;
    return false;
  }
  if (chance(losses_, faults.loss_percent, 100)) {
    ++lost_;
    return false;
  }
  return true;
}

void Network::count_faults(Verdict& verdict) const {
  verdict.count("message lost", lost_);
  verdict.count("message cut off", cut_off_);
  verdict.count("message repeated", repeated_);
  verdict.count("message reordered", reordered_);
  verdict.count("message replayed", replayed_);
  verdict.count("connection broken", severed_);
}

runtime::Duration Network::delay() {
  const auto most = static_cast<std::uint64_t>(faults.longest_delay.count());
  return std::chrono::nanoseconds(20'000 + delays_.below(most + 1));
}

runtime::Time Network::arrival(const Link& link) {
  const runtime::Time at = loop_.now() + delay();
  const auto clogged = clogged_until_.find(link);
  if (clogged == clogged_until_.end() || clogged->second <= at) return at;
  return clogged->second + delay();
}

// In that process, if it still lives when it gets to it.
void Network::post_to(const std::string& service, std::uint64_t incarnation,
                      std::function<void(Endpoint&)> action) {
  Endpoint* there = alive(service, incarnation);
  if (there == nullptr) return;
  there->node_.post([this, service, incarnation, act = std::move(action)] {
    Endpoint* still = alive(service, incarnation);
    if (still != nullptr) act(*still);
  });
}

void Network::deliver(const Link& link, std::uint64_t sender, rpc::Method method,
                      rpc::Message message) {
  const auto& [from, to] = link;
  const auto there = services_.find(to);
  if (there == services_.end()) {
    post_to(from, sender, [to](Endpoint& endpoint) { endpoint.peer_went_down(to); });
    return;
  }
  post_to(to, there->second.incarnation,
          [method, from, carried = std::move(message)](Endpoint& endpoint) {
            endpoint.receive(method, carried, from);
          });
}

Network::Endpoint* Network::alive(const std::string& service, std::uint64_t incarnation) {
  const auto found = services_.find(service);
  const bool same = found != services_.end() && found->second.incarnation == incarnation;
  return same ? found->second.endpoint : nullptr;
}

void Network::take_down(const std::string& service) {
  services_.erase(service);
  for (const auto& [name, other] : services_) {
    if (is_cut({service, name}) || chance(losses_, 10, 100)) continue;
    loop_.start_timer(
        arrival({service, name}), [this, to = name, inc = other.incarnation, service] {
          post_to(to, inc, [service](Endpoint& endpoint) { endpoint.peer_went_down(service); });
        });
  }
}

// ---- Endpoint

Network::Endpoint::Endpoint(Network& network, std::string service, std::uint64_t incarnation,
                            runtime::Loop& node)
    : network_(network),
      service_(std::move(service)),
      incarnation_(incarnation),
      node_(node),
      handlers_(node, [](std::exception_ptr error) { std::rethrow_exception(error); }) {}

Network::Endpoint::~Endpoint() = default;

void Network::Endpoint::break_call(Call& call, Code code, const std::string& why) {
  call.end({}, std::make_exception_ptr(Error(code, why)));
}

Task<rpc::Message> Network::Endpoint::call(std::string service, rpc::Method method,
                                           rpc::Message request, runtime::Duration timeout) {
  if (down_) throw Error(Code::closed, "{} is down", service_);
  auto call = std::make_shared<Call>(node_);
  const std::uint64_t number = next_call_++;
  calls_[number] = call;
  call->to = service;
  const auto target = network_.services_.find(service);
  if (target != network_.services_.end()) call->to_incarnation = target->second.incarnation;
  const Link there{service_, service};
  const auto deliver_at = [&](runtime::Time at) {
    network_.loop_.start_timer(
        at, [network = &network_, there, incarnation = incarnation_, call, method, request] {
          ask(*network, there, incarnation, call, method, request);
        });
  };
  if (network_.arrives(there)) deliver_at(network_.arrival(there));
  // Whoever asked may have given up long ago.
  if (chance(network_.replays_, 10 * network_.faults.replay_permille, 1000)) {
    ++network_.replayed_;
    const auto later = std::chrono::milliseconds(100 + network_.replays_.below(4000));
    deliver_at(network_.loop_.now() + later);
    network_.late_until_ = std::max(network_.late_until_, network_.loop_.now() + later);
  }
  const auto timer = node_.start_timer(node_.now() + timeout, [call, service] {
    call->end({}, std::make_exception_ptr(Error(Code::timeout, "no reply from {}", service)));
  });
  co_await call->done.wait();
  node_.cancel_timer(timer);
  calls_.erase(number);
  if (call->error) std::rethrow_exception(call->error);
  co_return std::move(call->reply);
}

// The request has arrived.
void Network::Endpoint::ask(Network& network, const Link& link, std::uint64_t caller,
                            std::shared_ptr<Call> call, rpc::Method method, rpc::Message request) {
  const auto& [from, to] = link;
  const bool refused = call->to_incarnation == 0;
  if (refused || network.alive(to, call->to_incarnation) == nullptr) {
    const Error error = refused ? Error(Code::unavailable, "{} refuses connections", to)
                                : Error(Code::outcome_unknown, "{} went down", to);
    network.post_to(from, caller, [call, refused, error, service = to](Endpoint& endpoint) {
      call->end({}, std::make_exception_ptr(error));
      if (refused) endpoint.peer_went_down(service);
    });
    return;
  }
  auto done = [net = &network, call, caller, link](rpc::Message reply, std::exception_ptr error) {
    const Link back{link.second, link.first};
    if (!net->arrives(back)) return;
    net->loop_.start_timer(net->arrival(back), [net, call, caller, back, reply, error] {
      net->post_to(back.second, caller,
                   [call, reply, error](Endpoint&) { call->end(reply, error); });
    });
  };
  network.post_to(to, call->to_incarnation,
                  [method, from, request, answer = std::move(done)](Endpoint& endpoint) {
                    endpoint.handlers_.spawn(endpoint.handle(endpoint.router().find_call(method),
                                                             request, from, answer));
                  });
}

Task<void> Network::Endpoint::handle(const rpc::Router::Handler* handler, rpc::Message request,
                                     std::string from,
                                     std::function<void(rpc::Message, std::exception_ptr)> done) {
  rpc::Message reply;
  std::exception_ptr error;
  try {
    if (handler == nullptr) throw Error(Code::unsupported, "unknown method");
    reply = co_await (*handler)(rpc::Peer{from, from}, std::move(request));
  } catch (...) {
    error = std::current_exception();
  }
  if (!down_) done(std::move(reply), error);
}

const rpc::Router& Network::Endpoint::router() const {
  return *network_.services_.at(service_).router;
}

void Network::Endpoint::receive(rpc::Method method, rpc::Message message, const std::string& from) {
  if (network_.observer.arrived) {
    each_of_the_volume(method, message, [this](const rpc::Message& one) {
      network_.observer.arrived(service_, one);
    });
  }
  const rpc::Router::MessageHandler* handler = router().find_message(method);
  if (handler != nullptr) (*handler)(rpc::Peer{from, from}, std::move(message));
}

void Network::Endpoint::send(const std::string& service, rpc::Method method, rpc::Message message) {
  if (down_) return;
  bool rare = false;
  each_of_the_volume(method, message, [&](const rpc::Message& one) {
    if (network_.observer.sent) network_.observer.sent(service_, one);
    rare = rare || (network_.observer.rare && network_.observer.rare(one));
  });
  const Link link{service_, service};
  const auto deliver_at = [&](runtime::Time at) {
    network_.loop_.start_timer(at, [network = &network_, link, inc = incarnation_, method,
                                    message] { network->deliver(link, inc, method, message); });
  };
  int replays = network_.faults.replay_permille;
  if (rare) replays *= 30;
  if (chance(network_.replays_, replays, 1000)) {
    ++network_.replayed_;
    const auto later = std::chrono::milliseconds(100 + network_.replays_.below(6000));
    deliver_at(network_.loop_.now() + later);
  }
  if (chance(network_.repeats_, network_.faults.repeat_percent, 100)) {
    ++network_.repeated_;
    deliver_at(network_.arrival(link) + 20 * network_.delay());
  }
  if (!network_.arrives(link)) return;
  // In order, unless this one is held back.
  runtime::Time& last = network_.in_order_[link];
  runtime::Time at = std::max(network_.arrival(link), last);
  if (chance(network_.reorders_, network_.faults.reorder_percent, 100)) {
    at += 20 * network_.delay();
    ++network_.reordered_;
  } else {
    last = at;
  }
  deliver_at(at);
}

std::unique_ptr<rpc::Caller::Subscription> Network::Endpoint::watch_peers(OnPeer, OnPeer on_down) {
  return std::make_unique<Watcher>(*this, std::move(on_down));
}

void Network::Endpoint::peer_went_down(const std::string& service) {
  for (const auto& [number, call] : calls_) {
    if (call->to == service) break_call(*call, Code::outcome_unknown, service + " went down");
  }
  const std::vector<Watcher*> watchers = watcher_order_;
  for (Watcher* watcher : watchers) watcher->on_down(service);
}

void Network::Endpoint::take_down() {
  if (std::exchange(down_, true)) return;
  network_.take_down(service_);
  for (const auto& [number, call] : calls_) break_call(*call, Code::closed, service_ + " is down");
}

Task<void> Network::Endpoint::stop() {
  take_down();
  co_await handlers_.close();
}

}  // namespace datom::sim

#include "sim/network.h"

#include <algorithm>

#include "common/error.h"
#include "runtime/wait.h"

namespace datom::sim {

using runtime::Task;

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

std::unique_ptr<Network::Endpoint> Network::join(std::string service, const rpc::Router& router) {
  const std::uint64_t incarnation = ++incarnations_;
  std::unique_ptr<Endpoint> endpoint(new Endpoint(*this, service, incarnation));
  services_[service] = {&router, endpoint.get(), incarnation};
  return endpoint;
}

bool Network::arrives(const std::string& from, const std::string& to) {
  if (from == to) return true;
  if (cuts_.contains({from, to})) {
    ++cut_off_;
    return false;
  }
  if (chance(faults.loss_percent)) {
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
}

runtime::Duration Network::delay() {
  const auto most = static_cast<std::uint64_t>(faults.longest_delay.count());
  return std::chrono::nanoseconds(20'000 + random_.below(most + 1));
}

void Network::after(runtime::Duration delay, std::function<void()> action) {
  loop_.start_timer(loop_.now() + delay, std::move(action));
}

Network::Endpoint* Network::alive(const std::string& service, std::uint64_t incarnation) {
  const auto found = services_.find(service);
  const bool same = found != services_.end() && found->second.incarnation == incarnation;
  return same ? found->second.endpoint : nullptr;
}

void Network::take_down(const std::string& service) {
  services_.erase(service);
  std::vector<Endpoint*> others;
  for (const auto& [name, other] : services_) others.push_back(other.endpoint);
  for (Endpoint* other : others) {
    const bool told = !cuts_.contains({service, other->service_}) && chance(90);
    if (told)
      after(delay(), [this, name = other->service_, inc = other->incarnation_, service] {
        Endpoint* still = alive(name, inc);
        if (still != nullptr) still->peer_went_down(service);
      });
  }
}

// ---- Endpoint

Network::Endpoint::Endpoint(Network& network, std::string service, std::uint64_t incarnation)
    : network_(network),
      service_(std::move(service)),
      incarnation_(incarnation),
      handlers_(network.loop_, [](std::exception_ptr error) { std::rethrow_exception(error); }) {}

Network::Endpoint::~Endpoint() = default;

void Network::Endpoint::break_call(Call& call, Code code, const std::string& why) {
  call.end({}, std::make_exception_ptr(Error(code, why)));
}

Task<rpc::Message> Network::Endpoint::call(std::string service, rpc::Method method,
                                           rpc::Message request, runtime::Duration timeout) {
  auto call = std::make_shared<Call>(network_.loop_);
  if (down_) throw Error(Code::closed, "{} is down", service_);
  const std::uint64_t number = next_call_++;
  calls_[number] = call;
  call->to = service;
  const auto target = network_.services_.find(service);
  const bool refused = target == network_.services_.end();
  if (!refused) call->to_incarnation = target->second.incarnation;
  if (network_.arrives(service_, service)) {
    network_.after(network_.delay(), [network = &network_, self = service_,
                                      incarnation = incarnation_, call, refused, service, method,
                                      message = std::move(request)] {
      Endpoint* caller = network->alive(self, incarnation);
      if (refused) {
        call->end({}, std::make_exception_ptr(
                          Error(Code::unavailable, "{} refuses connections", service)));
        if (caller != nullptr) caller->peer_went_down(service);
        return;
      }
      Endpoint* endpoint = network->alive(service, call->to_incarnation);
      if (endpoint == nullptr) {
        call->end({},
                  std::make_exception_ptr(Error(Code::outcome_unknown, "{} went down", service)));
        return;
      }
      const rpc::Router::Handler* handler =
          network->services_.at(service).router->find_call(method);
      endpoint->handlers_.spawn(endpoint->handle(
          handler, message, self,
          [network, call, self, service](rpc::Message reply, std::exception_ptr error) {
            if (!network->arrives(service, self)) return;
            network->after(network->delay(),
                           [call, reply = std::move(reply), error] { call->end(reply, error); });
          }));
    });
  }
  const auto timer = network_.loop_.start_timer(network_.loop_.now() + timeout, [call, service] {
    call->end({}, std::make_exception_ptr(Error(Code::timeout, "no reply from {}", service)));
  });
  co_await call->done.wait();
  network_.loop_.cancel_timer(timer);
  calls_.erase(number);
  if (call->error) std::rethrow_exception(call->error);
  co_return std::move(call->reply);
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

void Network::Endpoint::deliver(const rpc::Router& router, rpc::Method method, rpc::Message message,
                                const std::string& from) {
  const rpc::Router::MessageHandler* handler = router.find_message(method);
  if (handler != nullptr) (*handler)(rpc::Peer{from, from}, std::move(message));
}

void Network::Endpoint::send(const std::string& service, rpc::Method method, rpc::Message message) {
  if (down_) return;
  const int copies = network_.chance(network_.faults.repeat_percent) ? 2 : 1;
  network_.repeated_ += static_cast<std::uint64_t>(copies - 1);
  for (int copy = 0; copy < copies; ++copy) {
    if (!network_.arrives(service_, service)) continue;
    // In order, unless this one is held back.
    runtime::Time& last = network_.in_order_[{service_, service}];
    runtime::Time at = std::max(network_.loop_.now() + network_.delay(), last);
    if (copy > 0 || network_.chance(network_.faults.reorder_percent)) {
      at += 20 * network_.delay();
      ++network_.reordered_;
    } else {
      last = at;
    }
    network_.loop_.start_timer(
        at, [network = &network_, service, method, from = service_, inc = incarnation_, message] {
          const auto there = network->services_.find(service);
          if (there != network->services_.end()) {
            there->second.endpoint->deliver(*there->second.router, method, message, from);
            return;
          }
          Endpoint* sender = network->alive(from, inc);
          if (sender != nullptr) sender->peer_went_down(service);
        });
  }
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

// A network between services that does what networks do: messages are late, lost, repeated and out
// of order; links are cut one way or both; services die with requests under way. Deterministic:
// every decision is drawn from one generator. One loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "rpc/rpc.h"
#include "runtime/loop.h"
#include "runtime/task_group.h"
#include "sim/verdict.h"

namespace datom::sim {

struct NetworkFaults {
  int loss_percent = 0;     // of each message, request and reply
  int repeat_percent = 0;   // of one-way messages: delivered twice
  int reorder_percent = 0;  // of one-way messages: held back behind later ones
  runtime::Duration longest_delay = std::chrono::microseconds(500);
};

class Network {
 public:
  Network(runtime::Loop& loop, runtime::Random& random) : loop_(loop), random_(random) {}

  // One incarnation of a service; gone from the network when it is taken down.
  class Endpoint;
  std::unique_ptr<Endpoint> join(std::string service, const rpc::Router& router);

  NetworkFaults faults;
  // From one to the other nothing arrives, until healed. Nobody is told.
  void cut(const std::string& from, const std::string& to) { cuts_.insert({from, to}); }
  void heal() { cuts_.clear(); }

  // What befell messages so far, by kind.
  void count_faults(Verdict& verdict) const;

 private:
  friend class Endpoint;
  struct Service {
    const rpc::Router* router = nullptr;
    Endpoint* endpoint = nullptr;
    std::uint64_t incarnation = 0;
  };

  bool chance(int percent) { return random_.below(100) < static_cast<std::uint64_t>(percent); }
  bool arrives(const std::string& from, const std::string& to);
  runtime::Duration delay();
  void after(runtime::Duration delay, std::function<void()> action);
  // nullptr when that incarnation is down.
  Endpoint* alive(const std::string& service, std::uint64_t incarnation);
  void take_down(const std::string& service);

  runtime::Loop& loop_;
  runtime::Random& random_;
  std::map<std::string, Service> services_;
  std::set<std::pair<std::string, std::string>> cuts_;
  std::map<std::pair<std::string, std::string>, runtime::Time> in_order_;  // last arrival of a link
  std::uint64_t incarnations_ = 0;
  std::uint64_t lost_ = 0;
  std::uint64_t cut_off_ = 0;
  std::uint64_t repeated_ = 0;
  std::uint64_t reordered_ = 0;
};

class Network::Endpoint final : public rpc::Caller {
 public:
  ~Endpoint() override;

  runtime::Task<rpc::Message> call(std::string service, rpc::Method method, rpc::Message request,
                                   runtime::Duration timeout) override;
  void send(const std::string& service, rpc::Method method, rpc::Message message) override;
  std::unique_ptr<Subscription> watch_peers(OnPeer on_up, OnPeer on_down) override;

  // As kill -9: peers that are in touch hear it, requests under way break off.
  void take_down();
  // Waits for the handlers that ran here; after take_down().
  runtime::Task<void> stop();

 private:
  friend class Network;
  struct Call;
  struct Watcher;

  Endpoint(Network& network, std::string service, std::uint64_t incarnation);

  void deliver(const rpc::Router& router, rpc::Method method, rpc::Message message,
               const std::string& from);
  runtime::Task<void> handle(const rpc::Router::Handler* handler, rpc::Message request,
                             std::string from,
                             std::function<void(rpc::Message, std::exception_ptr)> done);
  void peer_went_down(const std::string& service);
  void break_call(Call& call, Code code, const std::string& why);

  Network& network_;
  const std::string service_;
  const std::uint64_t incarnation_;
  bool down_ = false;
  std::map<std::uint64_t, std::shared_ptr<Call>> calls_;
  std::uint64_t next_call_ = 1;
  std::vector<Watcher*> watcher_order_;
  runtime::TaskGroup handlers_;
};

}  // namespace datom::sim

// A network between services that does what networks do: messages are late, lost, repeated, much
// later too, and out of order; links are cut one way or both, or hold everything back for a while;
// services die with requests under way. Deterministic: every decision is drawn from the seed.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "rpc/rpc.h"
#include "runtime/loop.h"
#include "runtime/task_group.h"
#include "runtime/virtual_loop.h"
#include "sim/verdict.h"

namespace datom::sim {

struct NetworkFaults {
  int loss_percent = 0;     // of each message, request and reply
  int repeat_percent = 0;   // of one-way messages: delivered twice
  int reorder_percent = 0;  // of one-way messages: held back behind later ones
  int replay_permille = 0;  // of one-way messages: delivered once more, seconds later; of requests
                            // ten times as many
  runtime::Duration longest_delay = std::chrono::microseconds(500);
};

class Network {
 public:
  Network(runtime::Loop& loop, std::uint64_t seed);

  // One incarnation of a service, whose process runs on `node`; gone from the network when it is
  // taken down.
  class Endpoint;
  std::unique_ptr<Endpoint> join(std::string service, const rpc::Router& router,
                                 runtime::Loop& node);

  NetworkFaults faults;
  // From one to the other nothing arrives, until mended as often as it was cut. Nobody is told.
  void cut(const std::string& from, const std::string& to) { ++cuts_[{from, to}]; }
  void mend(const std::string& from, const std::string& to);
  // What is sent from one to the other arrives after `until`.
  void clog(const std::string& from, const std::string& to, runtime::Time until);
  // The connections between the two break: each of them hears that the other one is gone.
  void sever(const std::string& one, const std::string& other);
  void heal();
  // What was asked, and is to arrive once more, has arrived by then.
  runtime::Time late_until() const { return late_until_; }

  // Hears every one-way message as it is sent, and as it arrives.
  struct Observer {
    std::function<void(const std::string& from, const rpc::Message&)> sent;
    std::function<void(const std::string& to, const rpc::Message&)> arrived;
    // Whether few such messages are sent: these are replayed much more often.
    std::function<bool(const rpc::Message&)> rare;
  };
  Observer observer;

  // What befell messages so far, by kind.
  void count_faults(Verdict& verdict) const;

 private:
  friend class Endpoint;
  struct Service {
    const rpc::Router* router = nullptr;
    Endpoint* endpoint = nullptr;
    std::uint64_t incarnation = 0;
  };
  using Link = std::pair<std::string, std::string>;  // from, to

  static bool chance(runtime::Random& random, int of, int in) {
    return random.below(static_cast<std::uint64_t>(in)) < static_cast<std::uint64_t>(of);
  }
  bool is_cut(const Link& link) const;
  bool arrives(const Link& link);
  runtime::Duration delay();
  // When what is sent now arrives, if nothing holds it back further.
  runtime::Time arrival(const Link& link);
  void post_to(const std::string& service, std::uint64_t incarnation,
               std::function<void(Endpoint&)> action);
  void deliver(const Link& link, std::uint64_t sender, rpc::Method method, rpc::Message message);
  // nullptr when that incarnation is down.
  Endpoint* alive(const std::string& service, std::uint64_t incarnation);
  void take_down(const std::string& service);

  runtime::Loop& loop_;
  runtime::SeededRandom delays_;
  runtime::SeededRandom losses_;
  runtime::SeededRandom repeats_;
  runtime::SeededRandom reorders_;
  runtime::SeededRandom replays_;
  std::map<std::string, Service> services_;
  std::map<Link, int> cuts_;
  std::map<Link, runtime::Time> clogged_until_;
  std::map<Link, runtime::Time> in_order_;  // last arrival of a link
  std::uint64_t incarnations_ = 0;
  std::uint64_t lost_ = 0;
  std::uint64_t cut_off_ = 0;
  std::uint64_t repeated_ = 0;
  std::uint64_t reordered_ = 0;
  std::uint64_t replayed_ = 0;
  std::uint64_t severed_ = 0;
  runtime::Time late_until_{};
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

  Endpoint(Network& network, std::string service, std::uint64_t incarnation, runtime::Loop& node);

  static void ask(Network& network, const Link& link, std::uint64_t caller,
                  std::shared_ptr<Call> call, rpc::Method method, rpc::Message request);
  const rpc::Router& router() const;
  void receive(rpc::Method method, rpc::Message message, const std::string& from);
  runtime::Task<void> handle(const rpc::Router::Handler* handler, rpc::Message request,
                             std::string from,
                             std::function<void(rpc::Message, std::exception_ptr)> done);
  void peer_went_down(const std::string& service);
  void break_call(Call& call, Code code, const std::string& why);

  Network& network_;
  const std::string service_;
  const std::uint64_t incarnation_;
  runtime::Loop& node_;
  bool down_ = false;
  std::map<std::uint64_t, std::shared_ptr<Call>> calls_;
  std::uint64_t next_call_ = 1;
  std::vector<Watcher*> watcher_order_;
  runtime::TaskGroup handlers_;
};

}  // namespace datom::sim

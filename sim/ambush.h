// Faults at the moments that matter: a message of the protocol sets one off, or two at once, and
// they strike who sent it or whom it is for, at once or a little later.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "protocol/group_messages.h"
#include "rpc/rpc.h"
#include "runtime/task_group.h"
#include "sim/chaos.h"
#include "sim/domain.h"
#include "sim/faults.h"
#include "sim/verdict.h"

namespace datom::sim {

class Ambushes {
 public:
  Ambushes(std::uint64_t seed, const Faults& faults, Domain& domain, Chaos& chaos,
           Verdict& verdict);

  // They are laid over a time of `full`, those of its first `part`; later nothing sets them off.
  void lay(runtime::Duration full, runtime::Duration part);
  // A message that a replica sends.
  void sent(const rpc::Message& carried);
  // Nothing sets one off any more; waits for the last to have passed.
  runtime::Task<void> close();

 private:
  enum class Moment : unsigned {
    probes,     // an elector asks who is there
    seals,      // it asks for a promise
    sealed,     // and gets one
    named,      // it names the leader
    leads,      // the first word of a leader
    serves,     // the first that it says is committed of its own
    answers,    // of a follower to it
    in_step,    // the follower's acks begin to count
    appends,    // an entry is sent
    attaches,   // one that opens a session
    configures  // the first word of another configuration
  };
  static constexpr unsigned kMoments = static_cast<unsigned>(Moment::configures) + 1;
  enum class Deed : unsigned { crash, freeze, cut, hold, island, stall, sever, uncoordinated };
  static constexpr unsigned kDeeds = static_cast<unsigned>(Deed::uncoordinated) + 1;
  enum class Crash : unsigned {
    heard,    // the peers' connections break
    unheard,  // they do not, as when the power is gone
    held,     // what it sent last, and that it is gone, arrives later
    late      // what is sent to it arrives when it is back
  };
  struct Strike {
    bool sender = false;  // at who sent the message, else at whom it is for
    Deed deed{};
    runtime::Duration after{};
    runtime::Duration how_long{};
    runtime::Duration away{};    // of a process that crashed
    runtime::Duration linger{};  // of its nodes
    Crash crash{};
    bool alone = false;  // who is cut off cannot reach coordination either
    bool told = false;   // those on the other side of a cut hear that the connection is gone
    std::uint64_t spared = 0;
  };
  struct Ambush {
    runtime::Time from{};
    Moment moment{};
    std::uint64_t left = 0;  // so many such moments pass by
    std::vector<Strike> strikes;
  };

  Strike draw_strike(Moment moment);
  static void aim(Strike& strike, Moment moment);
  std::vector<Strike> uneven_end();
  runtime::Duration up_to(runtime::Duration most);
  std::set<Moment> moments_of(const protocol::GroupMessage& message, const Buffer& entries);
  std::optional<std::size_t> server_of(const Uuid& replica) const;
  void strike(const Strike& strike, std::size_t at, std::size_t other);
  runtime::Task<void> crash(Strike strike, std::size_t at);
  runtime::Task<void> cut(Strike strike, std::size_t at, std::size_t other);
  runtime::Task<void> hold(Strike strike, std::size_t at);
  runtime::Task<void> island(Strike strike, std::size_t at);
  runtime::Task<void> stall(Strike strike, std::size_t at);
  runtime::Task<void> sever(Strike strike, std::size_t at);
  void break_connections(std::size_t at);
  void hold_back(std::size_t at, bool what_it_sends, runtime::Duration how_long);
  void separate(std::size_t at, bool both_ways, bool apart);

  Domain& domain_;
  Chaos& chaos_;
  Verdict& verdict_;
  const int many_;
  const bool linger_;
  runtime::SeededRandom random_;
  bool closed_ = false;
  std::vector<Ambush> laid_;
  std::set<Term> led_;
  std::map<Term, Op> first_;  // entry of the term
  std::set<Term> served_;
  std::set<std::pair<Term, Uuid>> answered_;
  std::set<std::pair<Term, Uuid>> in_step_;
  std::uint64_t config_epoch_ = 0;
  runtime::TaskGroup tasks_;
};

}  // namespace datom::sim

#include "sim/convergence.h"

#include <fmt/core.h>

#include <algorithm>

#include "protocol/volume.pb.h"

namespace datom::sim {

using runtime::Task;
using namespace std::chrono_literals;

namespace {
constexpr runtime::Duration kLimit = 120s;
}  // namespace

Task<void> Convergence::demand() {
  domain_.network.faults = {};
  domain_.network.heal();
  co_await domain_.pause(1s);  // clients go on without faults
  clients_.finish();
  const runtime::Time limit = domain_.loop.now() + kLimit;
  while (clients_.running() > 0 && domain_.loop.now() < limit) co_await domain_.pause(20ms);
  const bool answered = clients_.running() == 0;
  if (!answered) verdict_.fail("clients wait for ever although everything is healed");
  std::string last;
  bool converged = false;
  while (!converged && domain_.loop.now() < limit) {
    co_await domain_.pause(50ms);
    converged = co_await reached(last);
  }
  if (!converged) verdict_.fail("no convergence: " + last);
  if (answered && converged) co_await clients_.read_everything(0);
  for (auto& server : domain_.servers) co_await server->stop();
  co_await clients_.close();
}

Task<bool> Convergence::reached(std::string& what) {
  std::vector<protocol::ReplicaStatus> all;
  for (auto& server : domain_.servers) {
    protocol::ReplicaStatus one = co_await server->status();
    all.push_back(std::move(one));
  }
  what.clear();
  bool good = true;
  bool led = false;
  for (const protocol::ReplicaStatus& one : all) {
    what += fmt::format("[{} term {} commit {} applied {} last {} fingerprint {:x} {}] ",
                        one.state(), one.term(), one.commit_op(), one.applied_op(), one.last_op(),
                        one.fingerprint(), one.trouble());
    highest_term_ = std::max(highest_term_, one.term());
    led = led || one.state() == "LEADER_FUNCTIONAL";
    good = good && one.trouble().empty() && one.role() != "elector" &&
           one.applied_op() == all[0].applied_op() && one.last_op() == one.applied_op() &&
           (one.role() == "leader" || one.state() == "FOLLOWER_FUNCTIONAL");
  }
  if (!good || !led) co_return false;
  for (const protocol::ReplicaStatus& one : all) {
    if (one.fingerprint() != all[0].fingerprint()) verdict_.fail("replicas differ: " + what);
  }
  co_return true;
}

}  // namespace datom::sim

#include "sim/world.h"

#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <variant>

#include "sim/ambush.h"
#include "sim/bounds.h"
#include "sim/chaos.h"
#include "sim/clients.h"
#include "sim/convergence.h"
#include "sim/domain.h"
#include "sim/history.h"
#include "sim/invariants.h"
#include "sim/verdict.h"
#include "telemetry/log.h"

namespace datom::sim {

namespace {

bool is_rare(const rpc::Message& carried) {
  const protocol::GroupMessage message = protocol::decode_group_message(carried.header);
  return !std::holds_alternative<protocol::Append>(message.body) &&
         !std::holds_alternative<protocol::AppendReply>(message.body);
}

void watch(Domain& domain, Invariants& invariants, Ambushes& ambushes) {
  domain.network.observer.rare = is_rare;
  domain.network.observer.sent = [&](const std::string& from, const rpc::Message& message) {
    for (const auto& server : domain.servers) {
      if (server->name() != from) continue;
      invariants.sent(message, [&server](const Uuid& replica) {
        const auto kept = server->disk().kept(replica);
        return Invariants::Process{server->incarnation(), server->disk().failed_since(),
                                   kept.promised, kept.base_complete};
      });
    }
    ambushes.sent(message);
  };
  domain.network.observer.arrived = [&](const std::string&, const rpc::Message& message) {
    invariants.arrived(message);
  };
}

// Lines begin with the seconds since the start, as the simulation counts them.
telemetry::Log log_of(const Options& options, std::shared_ptr<const Domain*> domain) {
  if (!options.trace) return telemetry::Log::silent();
  return telemetry::Log::to_stderr(telemetry::Level::debug, [domain] {
    if (*domain == nullptr) return fmt::format("{:12.6f}", 0.0);
    const auto since = (*domain)->loop.now().time_since_epoch() - std::chrono::hours(1);
    return fmt::format("{:12.6f}", std::chrono::duration<double>(since).count());
  });
}

}  // namespace

Outcome run_seed(std::uint64_t seed, const Options& options) {
  const Faults faults = Faults::draw(seed, options.without);
  const auto logged = std::make_shared<const Domain*>(nullptr);
  const telemetry::Log log = log_of(options, logged);
  log.info("sim", {{"seed", seed}}, faults.describe());
  Domain domain(seed, faults, log);
  *logged = &domain;
  const runtime::Time start = domain.loop.now();
  Verdict verdict(domain.loop);
  History history;
  Clients clients(seed, !faults.shared, domain, history, verdict);
  Invariants invariants(domain.loop, verdict);
  Chaos chaos(seed, faults, domain, clients, invariants, verdict);
  Ambushes ambushes(seed, faults, domain, chaos, verdict);
  watch(domain, invariants, ambushes);
  Bounds bounds(domain, verdict);
  Convergence convergence(domain, clients, invariants, bounds, verdict);

  // Faults are drawn for the whole time; of a shorter one, those that are later are left out.
  const runtime::Duration whole_time = std::max(options.faulty_time, kFaultyTime);
  domain.loop.run(domain.start(
      faults, [&](const protocol::GroupRecord& record) { invariants.record_is(record); }));
  clients.start();
  bounds.start();
  chaos.plan(whole_time, options.faulty_time);
  ambushes.lay(whole_time, options.faulty_time);
  domain.loop.run(domain.pause(options.faulty_time));
  domain.loop.run(ambushes.close());
  domain.loop.run(chaos.close());
  domain.loop.run(convergence.demand());
  domain.loop.run(domain.stop());

  clients.bound_fenced_writes();
  if (const auto violation = history.violation()) verdict.fail(*violation);
  domain.network.count_faults(verdict);
  for (const auto& server : domain.servers) server->disk().count_faults(verdict);
  Outcome outcome;
  outcome.failure = verdict.failure();
  outcome.faults = faults.describe();
  outcome.acknowledged = history.acknowledged();
  outcome.reads = history.reads();
  outcome.terms = convergence.highest_term();
  outcome.injected = verdict.injected();
  outcome.virtual_time = domain.loop.now() - start;
  outcome.trace = verdict.trace();
  if (!outcome.failure) return outcome;
  for (std::uint64_t block = 0; block < kBlocks; ++block) {
    outcome.history += fmt::format("block {}\n{}", block, history.of_block(block));
  }
  return outcome;
}

}  // namespace datom::sim

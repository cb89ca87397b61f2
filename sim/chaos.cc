#include "sim/chaos.h"

namespace datom::sim {

using runtime::Task;
using namespace std::chrono_literals;

// When and where the faults of one class happen. All are drawn, whether they happen or not.
class Chaos::Plan {
 public:
  Plan(Chaos& chaos, FaultClass which, runtime::Duration full, runtime::Duration part)
      : random_(stream(chaos.seed_, which, 1)), full_(full), part_(part) {}

  // Calls spawn(when) for each one that happens.
  template <typename Spawn>
  void times(int many, Spawn spawn) {
    for (int i = 0; i < many; ++i) {
      const runtime::Duration when = up_to(full_);
      spawn(when, when < part_);
    }
  }
  runtime::Duration up_to(runtime::Duration most) {
    return std::chrono::nanoseconds(random_.below(static_cast<std::uint64_t>(most.count())));
  }
  std::size_t server() { return random_.below(kServers); }
  std::uint64_t below(std::uint64_t bound) { return random_.below(bound); }

 private:
  runtime::SeededRandom random_;
  runtime::Duration full_;
  runtime::Duration part_;
};

Chaos::Chaos(std::uint64_t seed, const Faults& faults, Domain& domain, Clients& clients,
             Verdict& verdict)
    : seed_(seed),
      faults_(faults),
      domain_(domain),
      clients_(clients),
      verdict_(verdict),
      tasks_(domain.loop, [&verdict](std::exception_ptr error) { verdict.task_failed(error); }) {}

void Chaos::plan(runtime::Duration full, runtime::Duration part) {
  const auto of = [&](FaultClass which) { return Plan(*this, which, full, part); };
  const auto spawn = [this](bool happens, Task<void> fault) {
    if (happens) tasks_.spawn(std::move(fault));
  };
  Plan lingers = of(FaultClass::lingering);
  const auto linger = [&] { return faults_.lingering ? lingers.up_to(6s) : 0s; };
  Plan one = of(FaultClass::crash);
  one.times(faults_.crashes, [&](runtime::Duration when, bool happens) {
    const std::size_t at = one.server();
    spawn(happens, crash(when, at, one.up_to(4s), linger()));
  });
  Plan all = of(FaultClass::crash_of_all);
  all.times(faults_.crashes_of_all, [&](runtime::Duration when, bool happens) {
    for (std::size_t at = 0; at < kServers; ++at) {
      spawn(happens, crash(when, at, all.up_to(2s), linger()));
    }
  });
  Plan cut = of(FaultClass::partition);
  cut.times(faults_.partitions, [&](runtime::Duration when, bool happens) {
    const std::size_t at = cut.server();
    const std::uint64_t kind = cut.below(3);
    spawn(happens, partition(when, at, kind, cut.up_to(5s)));
  });
  Plan away = of(FaultClass::coordination_cut);
  away.times(faults_.coordination_cuts, [&](runtime::Duration when, bool happens) {
    const std::size_t at = away.server();
    spawn(happens, cut_coordination(when, at, away.up_to(5s)));
  });
  Plan expiry = of(FaultClass::expiry);
  expiry.times(faults_.expiries, [&](runtime::Duration when, bool happens) {
    spawn(happens, expire(when, expiry.server()));
  });
}

Task<void> Chaos::crash(runtime::Duration when, std::size_t at, runtime::Duration away,
                        runtime::Duration linger) {
  co_await domain_.pause(when);
  Server& server = *domain_.servers[at];
  if (!server.up() || busy_[at]) co_return;
  busy_[at] = true;
  verdict_.count("crash");
  server.kill(linger);
  while (clients_.attached(at) > 0) co_await domain_.pause(1ms);
  co_await server.bury();
  co_await domain_.pause(away);
  co_await server.start();
  busy_[at] = false;
}

// Towards the others: both ways, only what it sends, or only what it is sent.
Task<void> Chaos::partition(runtime::Duration when, std::size_t at, std::uint64_t kind,
                            runtime::Duration how_long) {
  co_await domain_.pause(when);
  verdict_.count("partition");
  const std::string& cut_off = domain_.servers[at]->name();
  for (const auto& other : domain_.servers) {
    if (other->name() == cut_off) continue;
    if (kind != 1) domain_.network.cut(cut_off, other->name());
    if (kind != 2) domain_.network.cut(other->name(), cut_off);
  }
  co_await domain_.pause(how_long);
  domain_.network.heal();
}

Task<void> Chaos::cut_coordination(runtime::Duration when, std::size_t at,
                                   runtime::Duration how_long) {
  co_await domain_.pause(when);
  Server& server = *domain_.servers[at];
  if (!server.up() || busy_[at]) co_return;
  busy_[at] = true;
  verdict_.count("coordination_cut");
  server.cut_coordination(true);
  co_await domain_.pause(how_long);
  server.cut_coordination(false);
  busy_[at] = false;
}

Task<void> Chaos::expire(runtime::Duration when, std::size_t at) {
  co_await domain_.pause(when);
  Server& server = *domain_.servers[at];
  if (!server.up() || busy_[at]) co_return;
  busy_[at] = true;
  verdict_.count("expiry");
  co_await server.expire_session();
  busy_[at] = false;
}

}  // namespace datom::sim

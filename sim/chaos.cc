#include "sim/chaos.h"

#include <algorithm>
#include <map>

namespace datom::sim {

using runtime::Task;
using namespace std::chrono_literals;

namespace {
constexpr runtime::Duration kSession = 4s;  // how long coordination waits for a silent client
}  // namespace

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
  // Of one server to and from all others, or to and from another one; or only to, or only from.
  std::vector<Link> links() {
    const std::size_t at = server();
    const std::uint64_t direction = below(3);
    const bool single = below(3) == 0;
    const std::size_t other = (at + 1 + below(kServers - 1)) % kServers;
    std::vector<Link> links;
    for (std::size_t to = 0; to < kServers; ++to) {
      if (to == at || (single && to != other)) continue;
      if (direction != 1) links.emplace_back(at, to);
      if (direction != 2) links.emplace_back(to, at);
    }
    return links;
  }

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
  Plan stands = of(FaultClass::freeze);
  stands.times(faults_.freezes, [&](runtime::Duration when, bool happens) {
    const std::size_t at = stands.server();
    const runtime::Duration most = stands.below(2) == 0 ? 500ms : 6s;
    spawn(happens, freeze(when, at, stands.up_to(most)));
  });
  Plan cut = of(FaultClass::partition);
  cut.times(faults_.partitions, [&](runtime::Duration when, bool happens) {
    std::vector<Link> links = cut.links();
    std::vector<runtime::Duration> how_long;
    for (std::size_t i = 0; i < links.size(); ++i) how_long.push_back(cut.up_to(5s));
    spawn(happens, partition(when, std::move(links), std::move(how_long)));
  });
  Plan clogged = of(FaultClass::clog);
  clogged.times(faults_.clogs, [&](runtime::Duration when, bool happens) {
    for (const Link& link : clogged.links()) {
      spawn(happens, clog(when, link, clogged.up_to(4s)));
    }
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

// A process that stands still for longer than its coordination session lasts has lost it when it
// goes on.
Task<void> Chaos::freeze(runtime::Duration when, std::size_t at, runtime::Duration how_long) {
  co_await domain_.pause(when);
  Server& server = *domain_.servers[at];
  if (!server.up() || busy_[at]) co_return;
  busy_[at] = true;
  verdict_.count("freeze");
  server.freeze();
  co_await domain_.pause(std::min(how_long, kSession));
  const bool expires = how_long > kSession;
  if (expires) {
    server.expire_session();
    co_await domain_.pause(how_long - kSession);
  }
  server.thaw();
  if (expires) co_await server.renew_session();
  busy_[at] = false;
}

// Links go one by one and come back in another order.
Task<void> Chaos::partition(runtime::Duration when, std::vector<Link> links,
                            std::vector<runtime::Duration> how_long) {
  co_await domain_.pause(when);
  verdict_.count("partition");
  const runtime::Time begun = domain_.loop.now();
  std::multimap<runtime::Duration, Link> healed;
  for (std::size_t i = 0; i < links.size(); ++i) {
    const auto& [from, to] = links[i];
    domain_.network.cut(domain_.servers[from]->name(), domain_.servers[to]->name());
    healed.emplace(how_long[i], links[i]);
  }
  for (const auto& [after, link] : healed) {
    co_await domain_.until(begun + after);
    domain_.network.mend(domain_.servers[link.first]->name(), domain_.servers[link.second]->name());
  }
}

Task<void> Chaos::clog(runtime::Duration when, Link link, runtime::Duration how_long) {
  co_await domain_.pause(when);
  verdict_.count("clogged link");
  domain_.network.clog(domain_.servers[link.first]->name(), domain_.servers[link.second]->name(),
                       domain_.loop.now() + how_long);
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
  server.expire_session();
  co_await server.renew_session();
  busy_[at] = false;
}

}  // namespace datom::sim

#include "sim/chaos.h"

#include <algorithm>
#include <map>
#include <string>

#include "block_store/superblock.h"
#include "common/error.h"
#include "protocol/config.pb.h"

namespace datom::sim {

using runtime::Task;
using namespace std::chrono_literals;

namespace {
const std::string kData = "/layers/0/data";
const std::string kTable = "/layers/0/table";
constexpr std::uint64_t kSector = 512;
constexpr std::uint64_t kTableEntryBytes = 16;
constexpr std::uint64_t kSlot = block_store::kSuperblockSlotBytes;
}  // namespace

// When and where the faults of one class happen. All are drawn, whether they happen or not.
class Chaos::Plan {
 public:
  Plan(Chaos& chaos, FaultClass which, runtime::Duration full, runtime::Duration part)
      : random_(stream(chaos.seed_, which, 1)),
        servers_(chaos.domain_.servers.size()),
        full_(full),
        part_(part) {}

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
  std::size_t server() { return random_.below(servers_); }
  std::uint64_t below(std::uint64_t bound) { return random_.below(bound); }
  // Of one server to and from all others, or to and from another one; or only to, or only from.
  std::vector<Link> links() {
    const std::size_t at = server();
    const std::uint64_t direction = below(3);
    const bool single = below(3) == 0;
    const std::size_t other = (at + 1 + below(servers_ - 1)) % servers_;
    std::vector<Link> links;
    for (std::size_t to = 0; to < servers_; ++to) {
      if (to == at || (single && to != other)) continue;
      if (direction != 1) links.emplace_back(at, to);
      if (direction != 2) links.emplace_back(to, at);
    }
    return links;
  }

 private:
  runtime::SeededRandom random_;
  std::size_t servers_;
  runtime::Duration full_;
  runtime::Duration part_;
};

Chaos::Chaos(std::uint64_t seed, const Faults& faults, Domain& domain, Clients& clients,
             Invariants& invariants, Verdict& verdict)
    : seed_(seed),
      faults_(faults),
      domain_(domain),
      clients_(clients),
      invariants_(invariants),
      verdict_(verdict),
      damaged_(stream(seed, "damaged").below(kReplicas)),
      rotting_(domain.servers.size()),
      busy_(domain.servers.size()),
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
    const runtime::Duration most = all.below(2) == 0 ? 300ms : 2s;
    for (std::size_t at = 0; at < domain_.servers.size(); ++at) {
      spawn(happens, crash(when, at, all.up_to(most), linger()));
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
  plan_disks(full, part);
  if (domain_.config) plan_members(full, part);
  plan_coordination(full, part);
}

void Chaos::plan_coordination(runtime::Duration full, runtime::Duration part) {
  const auto of = [&](FaultClass which) { return Plan(*this, which, full, part); };
  const auto spawn = [this](bool happens, Task<void> fault) {
    if (happens) tasks_.spawn(std::move(fault));
  };
  Plan away = of(FaultClass::coordination_cut);
  away.times(faults_.coordination_cuts, [&](runtime::Duration when, bool happens) {
    const std::size_t at = away.server();
    spawn(happens, cut_coordination(when, at, away.up_to(5s)));
  });
  Plan expiry = of(FaultClass::expiry);
  expiry.times(faults_.expiries, [&](runtime::Duration when, bool happens) {
    const std::size_t at = expiry.server();
    const bool given_up = expiry.below(2) == 0;
    const runtime::Duration kept = expiry.up_to(kSession);
    spawn(happens, given_up ? give_up_session(when, at, kept) : expire(when, at));
  });
  Plan breaks = of(FaultClass::coordination_break);
  breaks.times(faults_.coordination_breaks, [&](runtime::Duration when, bool happens) {
    const std::size_t at = breaks.server();
    spawn(happens, break_coordination(when, at, breaks.up_to(300ms)));
  });
  Plan unseen = of(FaultClass::unseen_expiry);
  unseen.times(faults_.unseen_expiries, [&](runtime::Duration when, bool happens) {
    const std::size_t at = unseen.server();
    const runtime::Duration until_over = unseen.up_to(3s);
    spawn(happens, expire_unseen(when, at, until_over, unseen.up_to(3s)));
  });
  Plan held = of(FaultClass::stale_read);
  held.times(faults_.coordination_holds, [&](runtime::Duration when, bool happens) {
    const std::size_t server = held.below(Ensemble::kServers);
    spawn(happens, hold_coordination(when, server, held.up_to(4s)));
  });
  Plan out = of(FaultClass::outage);
  out.times(faults_.outages, [&](runtime::Duration when, bool happens) {
    const runtime::Duration most = out.below(2) == 0 ? 2s : 8s;
    spawn(happens, coordination_out(when, out.up_to(most)));
  });
}

void Chaos::plan_disks(runtime::Duration full, runtime::Duration part) {
  const auto of = [&](FaultClass which) { return Plan(*this, which, full, part); };
  const auto spawn = [this](bool happens, Task<void> fault) {
    if (happens) tasks_.spawn(std::move(fault));
  };
  Plan refused = of(FaultClass::failed_sync);
  refused.times(faults_.failed_syncs, [&](runtime::Duration when, bool happens) {
    const DiskFault fault = refused.below(2) == 0 ? DiskFault::sync_fails : DiskFault::write_fails;
    const std::string files[] = {"/journal/", kData, kTable, "/superblock"};
    const std::size_t at = refused.server();
    spawn(happens, refuse(when, at, fault, files[refused.below(4)]));
  });
  Plan unread = of(FaultClass::read_error);
  unread.times(faults_.read_errors, [&](runtime::Duration when, bool happens) {
    spawn(happens, damage(when, DiskFault::read_fails));
  });
  Plan astray = of(FaultClass::misdirect);
  astray.times(faults_.misdirections, [&](runtime::Duration when, bool happens) {
    const bool reads = astray.below(2) == 0;
    spawn(happens,
          damage(when, reads ? DiskFault::read_misdirected : DiskFault::write_misdirected));
  });
  Plan flips = of(FaultClass::bit_flip);
  flips.times(faults_.bit_flips, [&](runtime::Duration when, bool happens) {
    spawn(happens, flip(when, flips.below(kBlocks * kBlockSize * 8)));
  });
  Plan entries = of(FaultClass::table_flip);
  entries.times(faults_.table_flips, [&](runtime::Duration when, bool happens) {
    spawn(happens, flip_entry(when, entries.below(kBlocks * kTableEntryBytes * 8)));
  });
  Plan journal = of(FaultClass::journal_flip);
  journal.times(faults_.journal_flips, [&](runtime::Duration when, bool happens) {
    const std::uint64_t which = journal.below(3);
    const std::uint64_t place = journal.below(~std::uint64_t{0});
    spawn(happens, which == 0 ? rot_journal(when, place) : flip_journal(when, which == 1, place));
  });
  Plan rots = of(FaultClass::superblock_flip);
  rots.times(faults_.superblock_flips, [&](runtime::Duration when, bool happens) {
    const std::size_t at = rots.server();
    spawn(happens, rot_superblock(when, at, rots.below(2 * kSlot * 8)));
  });
  Plan filled = of(FaultClass::disk_full);
  filled.times(faults_.full_disks, [&](runtime::Duration when, bool happens) {
    const std::size_t at = filled.server();
    const std::uint64_t left = filled.below(2) == 0 ? filled.below(1 << 20) : 24 << 20;
    spawn(happens, fill(when, at, left, filled.up_to(3s)));
  });
}

// What the disk refuses stops the replica; some time later somebody restarts the machine.
Task<void> Chaos::refuse(runtime::Duration when, std::size_t at, DiskFault fault,
                         std::string path) {
  co_await domain_.pause(when);
  Server& server = *domain_.servers[at];
  if (!server.up()) co_return;
  server.disk().inject(fault, std::move(path));
}

Task<void> Chaos::damage(runtime::Duration when, DiskFault fault) {
  co_await domain_.pause(when);
  Server& server = *domain_.servers[damaged_];
  if (server.up()) server.disk().inject(fault, kData);
}

Task<void> Chaos::flip(runtime::Duration when, std::uint64_t place) {
  co_await domain_.pause(when);
  Server& server = *domain_.servers[damaged_];
  const std::string path = server.replica_directory() + kData;
  const std::uint64_t byte = place / 8;
  const std::uint64_t size = co_await server.disk().size_of(path);
  if (byte >= size) co_return;
  verdict_.count("disk: bit flipped");
  server.disk().flip_bit(path, byte, static_cast<int>(place % 8));
}

// What a process has read of the table stays in its memory: it shows at the next start.
Task<void> Chaos::flip_entry(runtime::Duration when, std::uint64_t place) {
  co_await domain_.pause(when);
  Server& server = *domain_.servers[damaged_];
  const std::string path = server.replica_directory() + kTable;
  const std::uint64_t size = co_await server.disk().size_of(path);
  const std::uint64_t byte = place / 8;
  if (byte >= size) co_return;
  verdict_.count("disk: table bit flipped");
  server.disk().flip_bit(path, byte, static_cast<int>(place % 8));
}

// In the last write, which may not be applied yet, or anywhere. From now on this replica may have
// lost what it once acknowledged; the others have it.
Task<void> Chaos::flip_journal(runtime::Duration when, bool newest, std::uint64_t place) {
  co_await domain_.pause(when);
  Server& server = *domain_.servers[damaged_];
  Disk& disk = server.disk();
  const auto files = disk.look();
  const std::string directory = server.replica_directory() + "/journal";
  const bool there = co_await files->exists(directory);
  if (!there) co_return;
  std::vector<std::string> names = co_await files->list(directory);
  std::erase_if(names, [](const std::string& name) { return !name.ends_with(".segment"); });
  if (names.empty()) co_return;
  Disk::Written in;
  in.path = directory + "/" + names[place / 8 % names.size()];
  in.bytes = co_await disk.size_of(in.path);
  if (newest && disk.last_journal_write()) in = *disk.last_journal_write();
  const std::uint64_t byte = in.offset + place / 8 % std::max<std::uint64_t>(in.bytes, 1);
  const std::uint64_t size = co_await disk.size_of(in.path);
  if (byte < kSector || byte >= size) co_return;  // a header may be the only one that is left
  verdict_.count("disk: journal bit flipped");
  disk.flip_bit(in.path, byte, static_cast<int>(place % 8));
  const auto damaged = [&](const protocol::ReplicaRecord& one) {
    if (one.service == server.name()) invariants_.journal_damaged(one.replica);
  };
  const protocol::GroupRecord& record = domain_.record;
  std::for_each(record.voters.begin(), record.voters.end(), damaged);
  std::for_each(record.next_voters.begin(), record.next_voters.end(), damaged);
  for (const protocol::LearnerRecord& one : record.learners) damaged(one.member);
}

// In the last write, which nothing follows as long as the server is down.
Task<void> Chaos::rot_journal(runtime::Duration when, std::uint64_t place) {
  co_await domain_.pause(when);
  journal_rots_ = place;
  if (domain_.servers[damaged_]->buried()) co_await rot_journal_now();
}

Task<void> Chaos::rot_journal_now() {
  if (!journal_rots_) co_return;
  co_await flip_journal(0s, true, *std::exchange(journal_rots_, std::nullopt));
}

Task<void> Chaos::rot_superblock(runtime::Duration when, std::size_t at, std::uint64_t place) {
  co_await domain_.pause(when);
  rotting_[at] = place;
  if (domain_.servers[at]->buried()) co_await rot_superblock_now(at);
}

// One slot is lost; never the last one.
Task<void> Chaos::rot_superblock_now(std::size_t at) {
  if (!rotting_[at]) co_return;
  const std::uint64_t place = *std::exchange(rotting_[at], std::nullopt);
  Disk& disk = domain_.servers[at]->disk();
  const std::string path = domain_.servers[at]->replica_directory() + "/superblock";
  const std::uint64_t size = co_await disk.size_of(path);
  if (size < 2 * kSlot) co_return;
  const std::uint64_t byte = place / 8;
  const auto file = co_await disk.look()->open(path, {});
  Buffer other = Buffer::zeroed(kSlot);
  co_await file->read(byte < kSlot ? kSlot : 0, other.mutable_view());
  if (!block_store::decode_superblock(other.view())) co_return;
  verdict_.count("disk: superblock slot rotten");
  disk.flip_bit(path, byte, static_cast<int>(place % 8));
}

Task<void> Chaos::fill(runtime::Duration when, std::size_t at, std::uint64_t left,
                       runtime::Duration how_long) {
  co_await domain_.pause(when);
  Disk& disk = domain_.servers[at]->disk();
  const std::uint64_t used = co_await disk.used();
  verdict_.count("disk: full");
  disk.limit(used + left);
  co_await domain_.pause(how_long);
  disk.limit(0);
}

void Chaos::plan_members(runtime::Duration full, runtime::Duration part) {
  const auto of = [&](FaultClass which) { return Plan(*this, which, full, part); };
  const auto spawn = [this](bool happens, Task<void> fault) {
    if (happens) tasks_.spawn(std::move(fault));
  };
  Plan wiped = of(FaultClass::wipe);
  wiped.times(faults_.wipe ? 1 : 0, [&](runtime::Duration when, bool happens) {
    spawn(happens, wipe(when, wiped.up_to(3s)));
  });
  Plan moves = of(FaultClass::move);
  moves.times(faults_.moves, [&](runtime::Duration when, bool happens) {
    const std::size_t which = moves.below(kReplicas);
    const std::size_t to = moves.server();
    spawn(happens, move(when, which, to));
    const bool undone = moves.below(3) == 0;
    const runtime::Duration until = when + moves.up_to(2s);
    spawn(happens && undone, cancel_move(until));
  });
  Plan drains = of(FaultClass::drain);
  drains.times(faults_.drains, [&](runtime::Duration when, bool happens) {
    const std::size_t at = drains.server();
    spawn(happens, drain(when, at, drains.up_to(6s)));
  });
  Plan restarts = of(FaultClass::config_restart);
  restarts.times(faults_.config_restarts, [&](runtime::Duration when, bool happens) {
    spawn(happens, restart_config(when));
  });
}

Task<bool> Chaos::others_are_functional() {
  for (std::size_t at = 0; at < domain_.servers.size(); ++at) {
    Server& server = *domain_.servers[at];
    if (at == damaged_) continue;
    if (!server.up() || busy_[at]) co_return false;
    const protocol::ReplicaStatusReply reply = co_await server.status();
    for (const protocol::ReplicaStatus& replica : reply.replicas()) {
      if (!replica.state().ends_with("_FUNCTIONAL")) co_return false;
    }
  }
  co_return true;
}

// A machine comes back with another, empty disk: what it kept is replaced. One of a run: it is the
// one whose blocks are damaged, too.
Task<void> Chaos::wipe(runtime::Duration when, runtime::Duration away) {
  co_await domain_.pause(when);
  Server& server = *domain_.servers[damaged_];
  const bool whole = co_await others_are_functional();
  if (!whole || !server.up() || busy_[damaged_]) co_return;
  busy_[damaged_] = true;
  verdict_.count("disk: wiped");
  for (const auto* voters : {&domain_.record.voters, &domain_.record.next_voters}) {
    for (const protocol::ReplicaRecord& voter : *voters) {
      if (voter.service == server.name()) invariants_.wiped(voter.replica);
    }
  }
  server.kill(0s);
  while (clients_.attached(damaged_) > 0) co_await domain_.pause(1ms);
  co_await server.bury();
  server.disk().replace();
  co_await domain_.pause(away);
  co_await server.start();
  busy_[damaged_] = false;
}

// Whether the config service did as it was asked.
template <typename Request, typename Reply>
Task<bool> Chaos::ask_config(Task<Reply> (config_service::ConfigService::*ask)(Request),
                             Request request) {
  while (config_restarts_) co_await domain_.pause(1ms);
  ++config_asked_;
  bool done = false;
  try {
    co_await (domain_.config->service().*ask)(std::move(request));
    done = true;
  } catch (const Error&) {
  }
  --config_asked_;
  co_return done;
}

Task<void> Chaos::move(runtime::Duration when, std::size_t which, std::size_t to) {
  co_await domain_.pause(when);
  if (which >= domain_.record.voters.size()) co_return;
  protocol::MoveVolumeRequest request;
  request.set_name(kVolume);
  request.set_from(domain_.record.voters[which].service);
  request.set_to(domain_.servers[to]->name());
  const bool begun = co_await ask_config(&config_service::ConfigService::move_volume, request);
  verdict_.count(begun ? "move" : "move refused");
}

Task<void> Chaos::cancel_move(runtime::Duration when) {
  co_await domain_.pause(when);
  protocol::CancelMoveRequest request;
  request.set_name(kVolume);
  request.set_wait_ms(1000);
  const bool done = co_await ask_config(&config_service::ConfigService::cancel_move, request);
  verdict_.count(done ? "move undone" : "move not undone in time, or at all");
}

Task<void> Chaos::drain(runtime::Duration when, std::size_t at, runtime::Duration how_long) {
  co_await domain_.pause(when);
  verdict_.count("drain");
  for (const bool cancel : {false, true}) {
    protocol::DrainNodeRequest request;
    request.set_name("node-" + domain_.servers[at]->name());
    request.set_cancel(cancel);
    bool done = false;
    for (int attempt = 0; attempt < 50 && !done; ++attempt) {
      co_await domain_.ensemble.reachable();
      done = co_await ask_config(&config_service::ConfigService::drain_node, request);
      if (!done) co_await domain_.pause(100ms);
    }
    if (!done) verdict_.fail("the config service does not drain a node, or does not stop to");
    if (!cancel) co_await domain_.pause(how_long);
  }
}

Task<void> Chaos::restart_config(runtime::Duration when) {
  co_await domain_.pause(when);
  while (config_restarts_) co_await domain_.pause(1ms);
  config_restarts_ = true;
  while (config_asked_ > 0) co_await domain_.pause(1ms);
  verdict_.count("config service restarted");
  co_await domain_.config->restart();
  config_restarts_ = false;
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
  co_await rot_superblock_now(at);
  if (at == damaged_) co_await rot_journal_now();
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
  const bool expires = how_long > kSession && !domain_.ensemble.out();
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

Task<void> Chaos::break_coordination(runtime::Duration when, std::size_t at,
                                     runtime::Duration how_long) {
  co_await domain_.pause(when);
  Server& server = *domain_.servers[at];
  if (!server.up() || busy_[at]) co_return;
  busy_[at] = true;
  verdict_.count("coordination_break");
  server.cut_coordination(true);
  co_await domain_.pause(how_long);
  server.cut_coordination(false);
  busy_[at] = false;
}

// Its ephemeral nodes go while it is cut off; it hears of that when it is back.
Task<void> Chaos::expire_unseen(runtime::Duration when, std::size_t at,
                                runtime::Duration until_over, runtime::Duration until_heard) {
  co_await domain_.pause(when);
  Server& server = *domain_.servers[at];
  if (!server.up() || busy_[at]) co_return;
  busy_[at] = true;
  verdict_.count("unseen_expiry");
  server.cut_coordination(true);
  co_await domain_.pause(until_over);
  const bool expires = !domain_.ensemble.out();
  if (expires) server.expire_session_unseen();
  co_await domain_.pause(until_heard);
  co_await domain_.ensemble.reachable();
  server.cut_coordination(false);
  if (expires) co_await server.renew_session();
  busy_[at] = false;
}

Task<void> Chaos::expire(runtime::Duration when, std::size_t at) {
  co_await domain_.pause(when);
  Server& server = *domain_.servers[at];
  if (!server.up() || busy_[at]) co_return;
  busy_[at] = true;
  co_await domain_.ensemble.reachable();
  verdict_.count("expiry");
  server.expire_session();
  co_await server.renew_session();
  busy_[at] = false;
}

// The process opens another one while coordination still keeps the nodes of the first.
Task<void> Chaos::give_up_session(runtime::Duration when, std::size_t at, runtime::Duration kept) {
  co_await domain_.pause(when);
  Server& server = *domain_.servers[at];
  if (!server.up() || busy_[at]) co_return;
  busy_[at] = true;
  co_await domain_.ensemble.reachable();
  verdict_.count("session given up");
  server.give_up_session(kept);
  co_await server.renew_session();
  busy_[at] = false;
}

// One of its servers stands still: whoever is connected to it sees the tree as it was.
Task<void> Chaos::hold_coordination(runtime::Duration when, std::size_t server,
                                    runtime::Duration how_long) {
  co_await domain_.pause(when);
  verdict_.count("coordination_stale");
  domain_.ensemble.hold(server, how_long);
}

Task<void> Chaos::coordination_out(runtime::Duration when, runtime::Duration how_long) {
  co_await domain_.pause(when);
  Ensemble& ensemble = domain_.ensemble;
  while (ensemble.out() || ensemble.somebody_begins()) co_await domain_.pause(1ms);
  verdict_.count(how_long > kSession ? "coordination_outage, longer than a session"
                                     : "coordination_outage");
  ensemble.begin_outage();
  co_await domain_.pause(how_long);
  ensemble.end_outage();
}

}  // namespace datom::sim

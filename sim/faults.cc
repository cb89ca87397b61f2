#include "sim/faults.h"

#include <fmt/core.h>

#include <array>

#include "common/checksum.h"

namespace datom::sim {
namespace {

constexpr std::array<std::string_view, kFaultClasses> kNames = {"loss",
                                                                "repeat",
                                                                "reorder",
                                                                "replay",
                                                                "delay",
                                                                "slow_disk",
                                                                "stall",
                                                                "crash",
                                                                "crash_of_all",
                                                                "drift",
                                                                "freeze",
                                                                "partition",
                                                                "clog",
                                                                "failed_sync",
                                                                "read_error",
                                                                "bit_flip",
                                                                "table_flip",
                                                                "journal_flip",
                                                                "superblock_flip",
                                                                "misdirect",
                                                                "disk_full",
                                                                "wipe",
                                                                "move",
                                                                "drain",
                                                                "config_restart",
                                                                "coordination_delay",
                                                                "coordination_break",
                                                                "coordination_cut",
                                                                "expiry",
                                                                "unseen_expiry",
                                                                "stale_read",
                                                                "outage",
                                                                "lingering",
                                                                "tiny_journal",
                                                                "shared",
                                                                "long_lease",
                                                                "no_lease",
                                                                "client_timeout",
                                                                "ambush"};

// One class's share of a seed.
class Draw {
 public:
  Draw(std::uint64_t seed, FaultClass which, const FaultSet& without)
      : random_(stream(seed, which)), off_(without.contains(which)) {}

  // In so many of a hundred seeds 1 to `most`, else 0.
  int some(std::uint64_t percent, std::uint64_t most) {
    const bool here = random_.below(100) < percent;
    const auto many = static_cast<int>(1 + random_.below(most));
    return here && !off_ ? many : 0;
  }
  bool yes(std::uint64_t percent) { return some(percent, 1) != 0; }
  runtime::Duration up_to(std::chrono::microseconds most) {
    const auto drawn = 1 + random_.below(static_cast<std::uint64_t>(most.count()));
    return std::chrono::microseconds(off_ ? 1 : drawn);
  }

 private:
  runtime::SeededRandom random_;
  bool off_;
};

}  // namespace

std::string_view name(FaultClass which) {
  return kNames[static_cast<unsigned>(which)];
}

std::optional<FaultClass> fault_class(std::string_view name) {
  for (unsigned i = 0; i < kFaultClasses; ++i) {
    if (kNames[i] == name) return static_cast<FaultClass>(i);
  }
  return std::nullopt;
}

runtime::SeededRandom stream(std::uint64_t seed, FaultClass which, std::uint64_t use) {
  const std::uint64_t of_class = checksum(as_bytes(name(which)), seed);
  return runtime::SeededRandom(of_class + use * 0x9e3779b97f4a7c15);
}

runtime::SeededRandom stream(std::uint64_t seed, std::string_view what) {
  return runtime::SeededRandom(checksum(as_bytes(what), ~seed));
}

Faults Faults::draw(std::uint64_t seed, const FaultSet& without) {
  const auto of = [&](FaultClass which) { return Draw(seed, which, without); };
  Faults faults;
  faults.network.loss_percent = of(FaultClass::loss).some(40, 10);
  faults.network.repeat_percent = of(FaultClass::repeat).some(40, 20);
  faults.network.reorder_percent = of(FaultClass::reorder).some(40, 20);
  faults.network.replay_permille = of(FaultClass::replay).some(50, 10);
  auto delay = of(FaultClass::delay);
  faults.network.longest_delay = delay.up_to(std::chrono::milliseconds(20));
  if (delay.yes(15)) faults.network.longest_delay *= 8;
  faults.slowest_disk = of(FaultClass::slow_disk).up_to(std::chrono::milliseconds(3));
  faults.stall_one_in = of(FaultClass::stall).yes(35) ? 2000 : 0;
  faults.crashes = of(FaultClass::crash).some(80, 15);
  faults.crashes_of_all = of(FaultClass::crash_of_all).some(50, 5);
  faults.drift = of(FaultClass::drift).some(70, 5000);
  faults.freezes = of(FaultClass::freeze).some(50, 6);
  faults.clogs = of(FaultClass::clog).some(40, 4);
  faults.failed_syncs = of(FaultClass::failed_sync).some(30, 4);
  faults.read_errors = of(FaultClass::read_error).some(30, 6);
  faults.bit_flips = of(FaultClass::bit_flip).some(40, 30);
  faults.table_flips = of(FaultClass::table_flip).some(30, 20);
  faults.journal_flips = of(FaultClass::journal_flip).some(35, 6);
  faults.superblock_flips = of(FaultClass::superblock_flip).some(35, 6);
  faults.misdirections = of(FaultClass::misdirect).some(30, 10);
  faults.full_disks = of(FaultClass::disk_full).some(30, 3);
  faults.wipe = of(FaultClass::wipe).yes(20);
  faults.moves = of(FaultClass::move).some(35, 6);
  faults.drains = of(FaultClass::drain).some(15, 2);
  faults.config_restarts = of(FaultClass::config_restart).some(30, 3);
  faults.partitions = of(FaultClass::partition).some(50, 4);
  faults.coordination_delay =
      of(FaultClass::coordination_delay).up_to(std::chrono::milliseconds(30));
  faults.coordination_breaks = of(FaultClass::coordination_break).some(50, 20);
  faults.coordination_cuts = of(FaultClass::coordination_cut).some(40, 3);
  faults.expiries = of(FaultClass::expiry).some(40, 3);
  faults.unseen_expiries = of(FaultClass::unseen_expiry).some(40, 3);
  auto stale = of(FaultClass::stale_read);
  if (const int tenths = stale.some(60, 20)) {
    faults.coordination_lag = tenths * std::chrono::milliseconds(10);
    faults.coordination_holds = stale.some(50, 4);
  }
  faults.outages = of(FaultClass::outage).some(30, 2);
  faults.lingering = of(FaultClass::lingering).yes(50);
  faults.tiny_journal = of(FaultClass::tiny_journal).yes(30);
  faults.shared = of(FaultClass::shared).yes(50);
  faults.long_lease = of(FaultClass::long_lease).yes(40);
  faults.no_lease = of(FaultClass::no_lease).yes(25);
  constexpr std::uint64_t kCacheBlocks[] = {0, 0, 8, 1 << 20};
  faults.cache_blocks = kCacheBlocks[stream(seed, "cache").below(4)];
  if (const int quarters = of(FaultClass::client_timeout).some(50, 4)) {
    faults.client_timeout = quarters * std::chrono::milliseconds(250);
  }
  auto ambush = of(FaultClass::ambush);
  faults.ambushes = ambush.some(85, 60);
  if (ambush.yes(40)) faults.leave_ambushes();
  return faults;
}

// Where servers die all the time nobody leads for long: what an ambush sets off is over before it
// shows.
void Faults::leave_ambushes() {
  ambushes = 3 + ambushes / 3;
  crashes = crashes_of_all = freezes = partitions = clogs = failed_syncs = full_disks = 0;
  coordination_breaks = coordination_cuts = expiries = unseen_expiries = outages = 0;
  coordination_holds = 0;
}

std::string Faults::describe() const {
  const auto us = [](runtime::Duration duration) {
    return std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
  };
  std::string text =
      fmt::format("delay {} us, disk {} us", us(network.longest_delay), us(slowest_disk));
  const auto add = [&text](std::string_view what, int many) {
    if (many > 0) text += fmt::format(", {} {}", what, many);
  };
  add("loss %", network.loss_percent);
  add("repeat %", network.repeat_percent);
  add("reorder %", network.reorder_percent);
  add("replay per mille", network.replay_permille);
  if (stall_one_in > 0) text += ", stalls";
  if (long_lease) text += ", long leases";
  add("crashes", crashes);
  add("crashes of all", crashes_of_all);
  add("drift per million", static_cast<int>(drift));
  add("freezes", freezes);
  add("partitions", partitions);
  add("clogs", clogs);
  add("failed syncs", failed_syncs);
  add("read errors", read_errors);
  add("bit flips", bit_flips);
  add("table flips", table_flips);
  add("journal flips", journal_flips);
  add("superblock flips", superblock_flips);
  add("misdirections", misdirections);
  add("full disks", full_disks);
  add("wiped disk", wipe ? 1 : 0);
  add("moves", moves);
  add("drains", drains);
  add("config service restarts", config_restarts);
  text += fmt::format(", coordination {} us", us(coordination_delay));
  add("coordination breaks", coordination_breaks);
  add("coordination cuts", coordination_cuts);
  add("expiries", expiries);
  add("unseen expiries", unseen_expiries);
  if (coordination_lag > runtime::Duration::zero()) {
    text += fmt::format(", its servers {} us behind", us(coordination_lag));
  }
  add("held", coordination_holds);
  add("outages of coordination", outages);
  if (lingering) text += ", lingering";
  if (tiny_journal) text += ", tiny journal";
  if (shared) text += ", shared";
  if (no_lease) text += ", no leases";
  if (cache_blocks > 0) text += fmt::format(", cache of {} blocks", cache_blocks);
  if (client_timeout > runtime::Duration::zero()) {
    text += fmt::format(", clients give up after {} us", us(client_timeout));
  }
  add("ambushes", ambushes);
  return text;
}

}  // namespace datom::sim

#include "sim/world.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "common/checksum.h"
#include "common/error.h"
#include "coordination/client.h"
#include "protocol/records.h"
#include "runtime/task_group.h"
#include "sim/server.h"
#include "volume/client.h"

namespace datom::sim {

using runtime::Task;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t kServers = 3;
constexpr std::size_t kClients = 4;
constexpr std::uint64_t kBlocks = 8;  // few, so that operations meet
constexpr std::uint64_t kVolumeSize = 16 << 20;
constexpr runtime::Duration kFaultyTime = 20s;
constexpr runtime::Duration kHealLimit = 120s;
const std::string kDomain = "sim";
const std::string kVolume = "v";

// A block that bears its number in every word: a torn or mixed one shows.
Buffer block_of(Value value) {
  Buffer block = Buffer::allocate(kBlockSize);
  for (std::size_t at = 0; at < kBlockSize; at += 8) store_le(block.mutable_data() + at, value);
  return block;
}

std::optional<Value> value_of(const std::byte* block) {
  const auto value = load_le<Value>(block);
  for (std::size_t at = 0; at < kBlockSize; at += 8) {
    if (load_le<Value>(block + at) != value) return std::nullopt;
  }
  return value;
}

}  // namespace

Faults Faults::draw(runtime::Random& random) {
  const auto some = [&random](int percent, std::uint64_t most) {
    return random.below(100) < static_cast<std::uint64_t>(percent)
               ? static_cast<int>(1 + random.below(most))
               : 0;
  };
  Faults faults;
  faults.network.loss_percent = some(40, 10);
  faults.network.repeat_percent = some(40, 20);
  faults.network.reorder_percent = some(40, 20);
  faults.network.longest_delay = std::chrono::microseconds(1 + random.below(20000));
  faults.slowest_disk = std::chrono::microseconds(1 + random.below(3000));
  faults.crashes = some(80, 30);
  faults.crashes_of_all = some(50, 12);
  faults.partitions = some(50, 4);
  faults.coordination_cuts = some(40, 3);
  faults.expiries = some(40, 3);
  faults.lingering = some(50, 1) != 0;
  faults.tiny_journal = some(30, 1) != 0;
  faults.shared = some(60, 1) != 0;
  return faults;
}

std::string Faults::describe() const {
  return fmt::format(
      "loss {}% repeat {}% reorder {}% delay {} us, disk {} us, crashes {}, of all {}, partitions "
      "{}, "
      "coordination cuts {}, expiries {}{}{}{}",
      network.loss_percent, network.repeat_percent, network.reorder_percent,
      std::chrono::duration_cast<std::chrono::microseconds>(network.longest_delay).count(),
      std::chrono::duration_cast<std::chrono::microseconds>(slowest_disk).count(), crashes,
      crashes_of_all, partitions, coordination_cuts, expiries, lingering ? ", lingering" : "",
      tiny_journal ? ", tiny journal" : "", shared ? ", shared" : "");
}

namespace {

class World {
 public:
  World(std::uint64_t seed, telemetry::Log log)
      : random_(seed),
        client_random_(seed ^ 0x5151),
        network_random_(seed ^ 0x7272),
        network_(loop_, network_random_),
        faults_(Faults::draw(random_)),
        clients_(loop_, [this](std::exception_ptr error) { note(error); }),
        chaos_(loop_, [this](std::exception_ptr error) { note(error); }) {
    admin_ = tree_.open_session(loop_);
    for (std::size_t i = 0; i < kServers; ++i) {
      servers_.push_back(std::make_unique<Server>(loop_, tree_, network_, kDomain,
                                                  fmt::format("vs{}", i + 1), seed * 10 + i,
                                                  faults_.slowest_disk, log));
    }
    log.info("sim", {{"seed", seed}}, faults_.describe());
  }

  Outcome run() {
    loop_.run(create_volume());
    for (auto& server : servers_) loop_.run(server->start());
    network_.faults = faults_.network;
    end_of_faults_ = loop_.now() + kFaultyTime;
    for (std::size_t i = 0; i < kClients; ++i) clients_.spawn(client());
    plan_faults();
    loop_.run(until(end_of_faults_));
    loop_.run(heal());
    Outcome outcome;
    outcome.acknowledged = history_.acknowledged();
    outcome.reads = history_.reads();
    outcome.crashes = crashes_;
    outcome.lost_messages = network_.lost();
    outcome.elections = highest_term_;
    outcome.virtual_time = loop_.now().time_since_epoch();
    outcome.trace = trace_;
    if (!failure_) failure_ = history_.violation();
    if (failure_) {
      for (std::uint64_t block = 0; block < kBlocks; ++block) {
        outcome.history += fmt::format("block {}\n{}", block, history_.of_block(block));
      }
    }
    outcome.failure = failure_;
    return outcome;
  }

 private:
  void note(std::exception_ptr error) {
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& e) {
      fail(fmt::format("a task ended with: {}", e.what()));
    }
  }
  void fail(std::string what) {
    if (!failure_) failure_ = std::move(what);
  }
  void trace(std::uint64_t what) {
    const std::uint64_t all[] = {trace_, what, static_cast<std::uint64_t>(now().count())};
    trace_ = checksum({reinterpret_cast<const std::byte*>(all), sizeof all});
  }
  Moment now() const { return loop_.now().time_since_epoch(); }

  Task<void> until(runtime::Time time) {
    runtime::Timer timer(loop_);
    co_await timer.sleep_until(time);
  }
  Task<void> pause(runtime::Duration duration) { return until(loop_.now() + duration); }

  Task<void> create_volume() {
    namespace paths = protocol::paths;
    protocol::VolumeRecord record;
    record.id = Uuid::from_random(7, 7);
    record.name = kVolume;
    record.size = kVolumeSize;
    record.access = faults_.shared ? protocol::Access::shared : protocol::Access::exclusive;
    for (std::uint64_t i = 0; i < kServers; ++i) {
      record.replicas.push_back({servers_[i]->name(), Uuid::from_random(i + 1, 9)});
    }
    protocol::GroupRecord group;
    group.voters = record.replicas;
    for (const std::string& path :
         {paths::volumes(kDomain), paths::groups(kDomain), paths::properties(kDomain)}) {
      co_await coordination::ensure_path(*admin_, path);
    }
    co_await admin_->create(paths::group(kDomain, record.id), group.to_json());
    co_await admin_->create(paths::group_members(kDomain, record.id), "");
    co_await admin_->create(paths::group_locks(kDomain, record.id), "");
    co_await admin_->create(paths::volume(kDomain, kVolume), record.to_json());
    if (faults_.tiny_journal) {
      co_await set_property("journal.retention_bytes", "1048576");
      co_await set_property("checkpoint.interval_ms", "200");
    }
  }
  Task<void> set_property(std::string name, std::string value) {
    protocol::PropertyRecord property;
    property.value = std::move(value);
    co_await admin_->create(protocol::paths::property(kDomain, name), property.to_json());
  }

  // ---- clients
  // One NBD client: attached to a server while that lives, then to another.
  Task<void> client() {
    while (!finishing_) {
      const std::size_t at = client_random_.below(kServers);
      if (!servers_[at]->up()) {
        co_await pause(50ms);
        continue;
      }
      std::unique_ptr<volume::VolumeClient> attached;
      try {
        attached = co_await servers_[at]->volumes().attach(kVolume);
      } catch (const Error&) {
      }
      if (!attached) {
        co_await pause(50ms);
        continue;
      }
      ++attached_[at];
      runtime::TaskGroup requests(loop_, [this](std::exception_ptr error) { note(error); });
      const auto goes_on = [&] { return !finishing_ && servers_[at]->up(); };
      for (std::uint64_t left = 20 + client_random_.below(200); left > 0 && goes_on(); --left) {
        const bool reads = client_random_.below(100) < 40;
        const std::uint64_t first = client_random_.below(kBlocks);
        const std::uint64_t count =
            1 + client_random_.below(std::min<std::uint64_t>(3, kBlocks - first));
        requests.spawn(reads ? read(*attached, first, count) : write(*attached, first, count));
        co_await pause(std::chrono::microseconds(client_random_.below(20000)));
        while (requests.running() >= 4 && goes_on()) co_await pause(1ms);
      }
      // Some clients wait for their answers, some just go.
      const bool patient = client_random_.below(2) == 0;
      while (patient && requests.running() > 0 && servers_[at]->up()) co_await pause(1ms);
      co_await attached->close();
      co_await requests.close();
      --attached_[at];
    }
  }

  Task<void> write(volume::VolumeClient& to, std::uint64_t first, std::uint64_t count) {
    Buffer data = Buffer::allocate(count * kBlockSize);
    std::vector<History::Handle> handles;
    for (std::uint64_t i = 0; i < count; ++i) {
      const Value value = ++last_value_;
      std::memcpy(data.mutable_data() + i * kBlockSize, block_of(value).data(), kBlockSize);
      handles.push_back(history_.write_begins(first + i, value, now()));
    }
    bool done = false;
    try {
      co_await to.write(first * kBlockSize, std::move(data));
      done = true;
    } catch (const Error& error) {
      trace(static_cast<std::uint64_t>(error.code()));
    }
    if (!done) co_return;  // unknown: it may still happen
    for (const History::Handle handle : handles) history_.write_ends(handle, now());
    trace(last_value_);
  }

  Task<void> read(volume::VolumeClient& from, std::uint64_t first, std::uint64_t count) {
    const Moment begin = now();
    Buffer data;
    try {
      data = co_await from.read(first * kBlockSize, static_cast<std::uint32_t>(count * kBlockSize));
    } catch (const Error& error) {
      trace(static_cast<std::uint64_t>(error.code()));
      if (error.code() == Code::corrupt) fail(error.what());
    }
    if (data.empty()) co_return;
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::optional<Value> value = value_of(data.data() + i * kBlockSize);
      if (!value) {
        fail(fmt::format("block {} was read with the content of several writes", first + i));
        co_return;
      }
      history_.read(first + i, *value, begin, now());
      trace(*value);
    }
  }

  // ---- faults
  runtime::Duration some_time(runtime::Duration most) {
    return std::chrono::nanoseconds(random_.below(static_cast<std::uint64_t>(most.count())));
  }
  void plan_faults() {
    for (int i = 0; i < faults_.crashes; ++i) {
      chaos_.spawn(crash_later(some_time(kFaultyTime), random_.below(kServers), some_time(4s)));
    }
    for (int i = 0; i < faults_.crashes_of_all; ++i) {
      const runtime::Duration when = some_time(kFaultyTime);
      for (std::size_t at = 0; at < kServers; ++at) {
        chaos_.spawn(crash_later(when, at, some_time(2s)));
      }
    }
    for (int i = 0; i < faults_.partitions; ++i) {
      chaos_.spawn(partition_later(some_time(kFaultyTime), random_.below(kServers),
                                   random_.below(3), some_time(5s)));
    }
    for (int i = 0; i < faults_.coordination_cuts; ++i) {
      chaos_.spawn(
          cut_coordination_later(some_time(kFaultyTime), random_.below(kServers), some_time(5s)));
    }
    for (int i = 0; i < faults_.expiries; ++i) {
      chaos_.spawn(expire_later(some_time(kFaultyTime), random_.below(kServers)));
    }
  }

  Task<void> crash_later(runtime::Duration when, std::size_t at, runtime::Duration away) {
    co_await pause(when);
    const runtime::Duration linger = faults_.lingering ? some_time(6s) : 0s;
    if (!servers_[at]->up() || busy_[at]) co_return;
    busy_[at] = true;
    ++crashes_;
    servers_[at]->kill(linger);
    while (attached_[at] > 0) co_await pause(1ms);
    co_await servers_[at]->bury();
    co_await pause(away);
    co_await servers_[at]->start();
    busy_[at] = false;
  }

  // Towards the others: both ways, only what it sends, or only what it is sent.
  Task<void> partition_later(runtime::Duration when, std::size_t at, std::uint64_t kind,
                             runtime::Duration how_long) {
    co_await pause(when);
    for (const auto& other : servers_) {
      if (other->name() == servers_[at]->name()) continue;
      if (kind != 1) network_.cut(servers_[at]->name(), other->name());
      if (kind != 2) network_.cut(other->name(), servers_[at]->name());
    }
    co_await pause(how_long);
    network_.heal();
  }

  Task<void> cut_coordination_later(runtime::Duration when, std::size_t at,
                                    runtime::Duration how_long) {
    co_await pause(when);
    if (!servers_[at]->up() || busy_[at]) co_return;
    busy_[at] = true;
    servers_[at]->cut_coordination(true);
    co_await pause(how_long);
    servers_[at]->cut_coordination(false);
    busy_[at] = false;
  }

  Task<void> expire_later(runtime::Duration when, std::size_t at) {
    co_await pause(when);
    if (!servers_[at]->up() || busy_[at]) co_return;
    busy_[at] = true;
    co_await servers_[at]->expire_session();
    busy_[at] = false;
  }

  // ---- the end
  Task<void> heal() {
    co_await chaos_.close();
    network_.faults = {};
    network_.heal();
    co_await pause(2s);  // clients go on without faults
    finishing_ = true;
    const runtime::Time limit = loop_.now() + kHealLimit;
    while (clients_.running() > 0 && loop_.now() < limit) co_await pause(20ms);
    if (clients_.running() > 0) fail("clients wait for ever although everything is healed");
    std::string last;
    bool converged = false;
    while (!converged && loop_.now() < limit) {
      co_await pause(50ms);
      converged = co_await has_converged(last);
    }
    if (!converged) fail("no convergence: " + last);
    if (clients_.running() == 0 && converged) co_await read_everything();
    for (auto& server : servers_) co_await server->stop();
    co_await clients_.close();
  }

  Task<bool> has_converged(std::string& what) {
    std::vector<protocol::ReplicaStatus> all;
    for (auto& server : servers_) {
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
      if (one.fingerprint() != all[0].fingerprint()) {
        fail("replicas differ: " + what);
      }
    }
    co_return true;
  }

  Task<void> read_everything() {
    std::unique_ptr<volume::VolumeClient> reader = co_await servers_[0]->volumes().attach(kVolume);
    for (std::uint64_t block = 0; block < kBlocks; ++block) co_await read(*reader, block, 1);
    co_await reader->close();
  }

  runtime::VirtualLoop loop_;
  runtime::SeededRandom random_;
  runtime::SeededRandom client_random_;
  runtime::SeededRandom network_random_;
  coordination::MemoryTree tree_;
  Network network_;
  const Faults faults_;
  std::unique_ptr<coordination::Client> admin_;
  std::vector<std::unique_ptr<Server>> servers_;
  std::array<std::size_t, kServers> attached_{};  // clients at each server
  std::array<bool, kServers> busy_{};             // a fault is under way at that server
  History history_;
  Value last_value_ = 0;
  std::uint64_t trace_ = 0;
  std::uint64_t crashes_ = 0;
  std::uint64_t highest_term_ = 0;
  bool finishing_ = false;
  runtime::Time end_of_faults_;
  std::optional<std::string> failure_;
  runtime::TaskGroup clients_;
  runtime::TaskGroup chaos_;
};

}  // namespace

Outcome simulate(std::uint64_t seed, telemetry::Log log) {
  return World(seed, std::move(log)).run();
}

}  // namespace datom::sim

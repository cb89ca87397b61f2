// Whole groups under random schedules: messages lost, repeated and reordered, processes that die
// with writes under way, elections on top of each other. What must hold is checked at every step;
// at the end everything is healed and the group must go on. Rules: docs/replication.md.
#include "replication/group.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>

namespace datom::replication {
namespace {

using protocol::EntryHeader;
using protocol::GroupMessage;

const Uuid kVolume = Uuid::from_random(1, 2);
constexpr Duration kTick = std::chrono::milliseconds(20);
constexpr std::size_t kSpares = 2;  // replicas that are not in the group at first

struct World;

// One replica: what its disk holds, and the process on top of it, if it runs.
struct Node {
  protocol::ReplicaRecord self;
  Term promised;
  std::vector<EntryHeader> log;  // durable; log[i].op == i + 1
  bool head_certain = true;

  std::optional<Group> group;
  std::uint64_t incarnation = 0;
  std::deque<Effect> disk;  // SavePromise, WriteLog, TruncateLog under way, in order
  std::deque<Coordinate> coordination;
  bool member = false;
  Op committed;  // as told to it by Commit effects
};

struct Flight {
  std::size_t from;
  std::size_t to;
  GroupMessage message;
  Batch entries;
};

struct World {
  explicit World(std::uint64_t seed, std::size_t size) : random(seed) {
    record.config_epoch = 1;
    nodes.resize(size + kSpares);
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      nodes[i].self = {"vs" + std::to_string(i + 1), Uuid::from_random(i + 10, seed)};
      if (i < size) record.voters.push_back(nodes[i].self);
    }
    rotten = below(2 * nodes.size());
    for (std::size_t i = 0; i < nodes.size(); ++i) start(i);
  }

  std::uint64_t below(std::uint64_t bound) { return random() % bound; }
  bool chance(int percent) { return below(100) < static_cast<std::uint64_t>(percent); }

  // ---- processes
  void start(std::size_t i) {
    Node& node = nodes[i];
    Durable durable;
    durable.promised = node.promised;
    for (const EntryHeader& header : node.log) {
      durable.entries.push_back(header.id());
      durable.committed = std::max(durable.committed, header.commit_hint);
    }
    durable.head_certain = node.head_certain;
    node.incarnation = random();
    node.committed = durable.committed;
    Options options;
    options.lease = protocol::kMaxLease;  // so that elections end before it does
    node.group.emplace(Identity{kVolume, node.self, node.incarnation}, options, durable, now);
    members.push_back({next_sequence++, i});
    show(i);
  }

  // Any prefix of what was on its way to the disk may have reached it.
  void crash(std::size_t i) {
    Node& node = nodes[i];
    while (!node.disk.empty() && chance(50)) finish_disk_write(node);
    node.disk.clear();
    node.coordination.clear();
    node.group.reset();
    if (i == rotten && chance(40)) rot(node);
    std::erase_if(members, [&](const auto& one) { return one.second == i; });
    if (chance(70)) release_locks(i);  // otherwise its ephemeral lock lingers
    std::erase_if(flights, [&](const Flight& flight) { return flight.from == i && chance(50); });
    for (std::size_t other = 0; other < nodes.size(); ++other) {
      if (nodes[other].group && chance(60))
        perform(other, nodes[other].group->peer_down(now, node.self.service));
    }
    show_all();
  }

  // The end of its journal cannot be read any more, acknowledged or not.
  void rot(Node& node) {
    node.log.resize(below(node.log.size() + 1));
    node.head_certain = false;
    ++rots;
  }

  // An orderly end: writes under way are waited for, and after that there is no disk any more.
  void leave(std::size_t i) {
    Node& node = nodes[i];
    perform(i, node.group->stop(now));
    while (!node.disk.empty()) {
      const std::size_t before = node.disk.size();
      complete_disk_write(i);
      ASSERT_LT(node.disk.size(), before) << "a replica that stopped has new work for its disk";
    }
    crash(i);
  }

  void finish_disk_write(Node& node) {
    Effect effect = node.disk.front();
    node.disk.pop_front();
    if (auto* save = std::get_if<SavePromise>(&effect)) {
      ASSERT_GE(save->term, node.promised);
      node.promised = save->term;
    } else if (auto* write = std::get_if<WriteLog>(&effect)) {
      for (const EntryHeader& header : write->batch->headers) {
        ASSERT_EQ(header.op.value(), node.log.size() + 1);
        if (!node.log.empty()) {
          ASSERT_EQ(header.previous, node.log.back().checksum);
        }
        node.log.push_back(header);
      }
    } else {
      const Op last_kept = std::get<TruncateLog>(effect).last_kept;
      // NoCommittedTruncation.
      ASSERT_GE(last_kept, node.committed);
      node.log.resize(last_kept.value());
    }
  }

  void complete_disk_write(std::size_t i) {
    Node& node = nodes[i];
    const Effect effect = node.disk.front();
    finish_disk_write(node);
    if (auto* save = std::get_if<SavePromise>(&effect)) {
      perform(i, node.group->promise_saved(now, save->term));
    } else if (std::holds_alternative<WriteLog>(effect)) {
      perform(i, node.group->log_written(now, node.log.back().id()));
    } else {
      perform(i, node.group->log_truncated(now));
    }
  }

  // ---- coordination
  View view_of(std::size_t i) const {
    View view;
    view.connected = true;
    view.record = record;
    view.record_version = version;
    for (const auto& [sequence, owner] : members) {
      view.members.push_back(
          {"m-" + std::to_string(sequence), nodes[owner].self.service, owner == i});
    }
    for (const auto& [path, owner] : locks) {
      const bool mine = owner.first == i && owner.second == nodes[i].incarnation;
      view.locks.push_back({path, nodes[owner.first].self.service, mine});
    }
    return view;
  }
  void show(std::size_t i) {
    if (nodes[i].group) perform(i, nodes[i].group->view_changed(now, view_of(i)));
  }
  void show_all() {
    for (std::size_t i = 0; i < nodes.size(); ++i) show(i);
  }
  void release_locks(std::size_t i) {
    std::erase_if(locks, [&](const auto& lock) { return lock.second.first == i; });
  }

  void coordinate(std::size_t i) {
    Node& node = nodes[i];
    const Coordinate request = node.coordination.front();
    node.coordination.pop_front();
    Outcome outcome = Outcome::done;
    std::string path;
    if (const auto* take = std::get_if<TakeLock>(&request.request)) {
      const bool there = take->dead.empty() || locks.contains(take->dead);
      if (there && (!take->raised || take->expected_version == version)) {
        locks.erase(take->dead);
        path = "l-" + std::to_string(1000 + next_sequence++);
        locks[path] = {i, node.incarnation};
        if (take->raised) write(*take->raised);
      } else {
        outcome = Outcome::refused;
      }
    } else if (const auto* release = std::get_if<ReleaseLock>(&request.request)) {
      if (locks.erase(release->path) == 0) outcome = Outcome::refused;
    } else {
      const auto& write = std::get<WriteRecord>(request.request);
      if (locks.contains(write.lock) && write.expected_version == version) {
        this->write(write.record);
        if (write.release) locks.erase(write.lock);
      } else {
        outcome = Outcome::refused;
      }
    }
    const std::int32_t written = version;
    if (chance(20)) outcome = Outcome::unknown;
    show(i);
    if (chance(50)) show_all();
    if (node.group)
      perform(i, node.group->coordinated(now, request.number, outcome, path, written));
  }

  void write(const protocol::GroupRecord& written) {
    EXPECT_GE(written.term, record.term);
    // ConfigSerial: one write changes the configuration by one step of the three.
    const bool same = written.voters == record.voters &&
                      written.next_voters == record.next_voters &&
                      written.learners == record.learners;
    EXPECT_EQ(written.config_epoch, record.config_epoch + (same ? 0 : 1));
    if (!same) {
      EXPECT_EQ(written.term, record.term);
      EXPECT_LE(written.learners.size() + record.learners.size(), 1u);
      if (record.next_voters.empty()) {
        EXPECT_EQ(written.voters, record.voters);
      } else {
        EXPECT_EQ(written.voters, record.next_voters);
        EXPECT_TRUE(written.next_voters.empty());
      }
      ++configurations;
    }
    record = written;
    ++version;
  }

  // ---- effects
  void perform(std::size_t i, Effects effects) {
    Node& node = nodes[i];
    for (Effect& effect : effects) {
      if (std::holds_alternative<SavePromise>(effect) || std::holds_alternative<WriteLog>(effect) ||
          std::holds_alternative<TruncateLog>(effect)) {
        node.disk.push_back(effect);
      } else if (auto* message = std::get_if<Send>(&effect)) {
        send(i, *message);
      } else if (auto* request = std::get_if<Coordinate>(&effect)) {
        node.coordination.push_back(*request);
      } else if (auto* read = std::get_if<ReadLog>(&effect)) {
        perform(i, node.group->entries_read(now, read->follower, batch_of(node, read->first)));
      } else if (std::holds_alternative<NeedNoOp>(effect)) {
        if (node.group->wants_no_op()) propose(i);
      } else if (auto* commit = std::get_if<Commit>(&effect)) {
        note_commit(node, commit->op);
      } else if (auto* change = std::get_if<Changed>(&effect)) {
        note_change(i, *change);
      } else if (auto* divergent = std::get_if<Divergent>(&effect)) {
        ADD_FAILURE() << divergent->what;
      }
    }
  }

  void send(std::size_t i, const Send& effect) {
    check_assertions(nodes[i], effect.message);
    for (std::size_t to = 0; to < nodes.size(); ++to) {
      if (nodes[to].self.service == effect.service) {
        flights.push_back({i, to, effect.message, effect.entries});
      }
    }
  }

  // PromiseDurable, AckDurable: what a message asserts is on its sender's disk when it is sent.
  void check_assertions(const Node& node, const GroupMessage& message) {
    if (const auto* seal = std::get_if<protocol::SealReply>(&message.body)) {
      if (!seal->sealed) return;
      EXPECT_GE(node.promised, message.term);
      const EntryId end = node.log.empty() ? EntryId{} : node.log.back().id();
      EXPECT_EQ(seal->last, end);
    } else if (const auto* reply = std::get_if<protocol::AppendReply>(&message.body)) {
      EXPECT_LE(reply->acked.value(), node.log.size());
      if (reply->acked > Op(0)) {
        EXPECT_GE(node.promised, message.term);
      }
    }
  }

  // LeaseDisjoint: nothing new is committed while a leader of an earlier term may serve reads.
  void check_leases(const Node& committing) {
    for (const Node& other : nodes) {
      if (!other.group || &other == &committing) continue;
      EXPECT_FALSE(other.group->lease_holds(now) &&
                   other.group->promised() < committing.group->promised())
          << other.self.service << " serves reads while " << committing.self.service << " commits";
    }
  }

  void note_commit(Node& node, Op op) {
    if (op.value() > committed.size() && node.group) check_leases(node);
    node.committed = std::max(node.committed, op);
    for (std::uint64_t at = 1; at <= op.value(); ++at) {
      ASSERT_LE(at, node.log.size()) << "committed and not durable at " << node.self.service;
      const auto [known, fresh] = committed.emplace(at, node.log[at - 1].id());
      // SameOpSameBytes: what is committed anywhere is committed everywhere.
      ASSERT_EQ(known->second, node.log[at - 1].id()) << "op " << at << " at " << node.self.service;
    }
  }

  void note_change(std::size_t i, const Changed& change) {
    if (change.to == State::leader_waiting_for_quorum) {
      const auto [known, fresh] =
          leaders.emplace(change.term.value(), std::pair(i, nodes[i].incarnation));
      // OneLeader.
      EXPECT_TRUE(fresh) << "term " << change.term.value() << " has two leaders";
    }
    if (change.to == State::follower_functional) nodes[i].head_certain = true;
    if (change.to == State::leader_functional) {
      // LeaderCompleteness.
      for (const auto& [op, id] : committed) {
        const std::vector<EntryHeader>& log = nodes[i].log;
        ASSERT_LE(op, log.size());
        ASSERT_EQ(log[op - 1].id(), id);
      }
    }
  }

  // Cuts one off from the others, or nobody; they notice, it does not. Most often the leader.
  void isolate() {
    isolated = below(2 * nodes.size());
    for (std::size_t i = 0; i < nodes.size() && chance(70); ++i) {
      if (nodes[i].group && nodes[i].group->can_propose()) isolated = i;
    }
    if (isolated >= nodes.size()) return;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (i == isolated || !nodes[i].group || !chance(80)) continue;
      perform(i, nodes[i].group->peer_down(now, nodes[isolated].self.service));
    }
  }

  bool votes(std::size_t i) const {
    return std::find(record.voters.begin(), record.voters.end(), nodes[i].self) !=
           record.voters.end();
  }

  // Asks the leader i to replace some voter, itself perhaps, by some replica that is none. A
  // replica that was replaced may be asked for again here: it kept its disk.
  void replace(std::size_t i) {
    const std::size_t to = below(nodes.size());
    const ReplicaRecord& from = record.voters[below(record.voters.size())];
    if (votes(to)) return;
    Group::Answered answered = chance(80)
                                   ? nodes[i].group->replace(now, from.replica, nodes[to].self)
                                   : nodes[i].group->cancel_replace(now, nodes[to].self.replica);
    perform(i, std::move(answered.effects));
  }

  // ---- clients
  void propose(std::size_t i) {
    Node& node = nodes[i];
    protocol::BatchBuilder builder(8 * protocol::kEntryHeaderBytes, kVolume);
    EntryId last = node.group->last();
    for (std::uint64_t n = 1 + below(3); n > 0; --n) {
      EntryHeader header;
      header.term = node.group->term();
      header.op = last.op.next();
      header.previous = last.checksum;
      header.commit_hint = node.group->commit();
      header.sequence = random();  // unlike any other
      last = builder.add(header, {});
    }
    perform(i, node.group->propose(now,
                                   std::make_shared<const protocol::EntryBatch>(builder.finish())));
  }

  static Batch batch_of(const Node& node, Op first) {
    if (first.value() > node.log.size()) return nullptr;
    protocol::BatchBuilder builder(64 * protocol::kEntryHeaderBytes, kVolume);
    for (std::uint64_t at = first.value(); at <= node.log.size() && builder.fits(0); ++at) {
      builder.add(node.log[at - 1], {});
    }
    return std::make_shared<const protocol::EntryBatch>(builder.finish());
  }

  // ---- schedules
  void deliver_one(bool faulty) {
    if (flights.empty()) return;
    const std::size_t at = faulty && chance(30) ? below(flights.size()) : 0;
    const Flight flight = flights[at];
    const bool repeat = faulty && chance(10);
    if (!repeat) flights.erase(flights.begin() + static_cast<std::ptrdiff_t>(at));
    if ((faulty && chance(10)) || !nodes[flight.to].group) return;
    if (faulty && (flight.from == isolated || flight.to == isolated)) return;
    perform(flight.to, nodes[flight.to].group->receive(now, flight.message, flight.entries));
  }

  void tick() {
    now += kTick;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (nodes[i].group && chance(80)) perform(i, nodes[i].group->tick(now));
    }
  }

  void step(bool faulty) {
    const std::size_t i = below(nodes.size());
    Node& node = nodes[i];
    switch (below(12)) {
      case 0:
        tick();
        break;
      case 1:
      case 2:
        if (node.group && !node.disk.empty()) complete_disk_write(i);
        break;
      case 3:
        if (node.group && !node.coordination.empty()) coordinate(i);
        break;
      case 4:
        if (node.group && node.group->can_propose()) propose(i);
        break;
      case 5:
        if (faulty && node.group && chance(12)) chance(30) ? leave(i) : crash(i);
        break;
      case 6:
        if (!node.group && chance(30)) {
          start(i);
          show_all();
        }
        break;
      case 7:
        if (chance(10)) show_all();
        if (chance(10)) isolate();
        if (node.group && node.group->can_propose()) {
          leased += node.group->lease_holds(now) ? 1 : 0;
          replace(i);
        }
        break;
      default:
        deliver_one(faulty);
    }
    if (flights.size() > 400) flights.erase(flights.begin(), flights.begin() + 200);
  }

  // Everything is healed: whoever was down comes back, nothing is lost any more, and the group must
  // elect a leader, commit, and converge.
  void heal() {
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (!nodes[i].group) start(i);
      std::erase_if(locks, [&](const auto& lock) {
        return lock.second.first == i && lock.second.second != nodes[i].incarnation;
      });
    }
    flights.clear();
    show_all();
    const std::size_t before = committed.size();
    for (int turn = 0; turn < 4000 && !converged(before); ++turn) {
      tick();
      for (std::size_t i = 0; i < nodes.size(); ++i) {
        if (nodes[i].group->can_propose() && committed.size() <= before + 20) propose(i);
      }
      for (int more = 0; more < 10; ++more) {
        for (std::size_t i = 0; i < nodes.size(); ++i) {
          while (!nodes[i].disk.empty()) complete_disk_write(i);
          while (!nodes[i].coordination.empty()) coordinate(i);
        }
        show_all();
        while (!flights.empty()) deliver_one(false);
      }
    }
    EXPECT_TRUE(converged(before)) << describe();
  }

  bool converged(std::size_t before) const {
    if (committed.size() <= before + 20) return false;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (!votes(i)) continue;
      const Node& node = nodes[i];
      if (node.log.size() != committed.size() || node.committed.value() != node.log.size())
        return false;
    }
    return record.next_voters.empty() && record.learners.empty();
  }

  std::string describe() const {
    std::string text = "committed " + std::to_string(committed.size());
    for (const Node& node : nodes) {
      text += "; " + node.self.service + " " + std::string(name(node.group->state())) + " term " +
              std::to_string(node.group->promised().value()) + " log " +
              std::to_string(node.log.size()) + " commit " + std::to_string(node.committed.value());
    }
    return text;
  }

  std::mt19937_64 random;
  std::size_t isolated = ~std::size_t{0};
  Instant now = std::chrono::hours(1);
  std::vector<Node> nodes;
  std::deque<Flight> flights;
  protocol::GroupRecord record;
  std::int32_t version = 0;
  std::uint64_t next_sequence = 1;
  std::vector<std::pair<std::uint64_t, std::size_t>> members;
  std::map<std::string, std::pair<std::size_t, std::uint64_t>> locks;  // path: node, incarnation
  std::map<std::uint64_t, EntryId> committed;
  std::map<std::uint64_t, std::pair<std::size_t, std::uint64_t>> leaders;  // by term
  std::size_t configurations = 0;                                          // changes of them
  std::size_t leased = 0;  // times that a leader had a lease when it was looked
  std::size_t rotten = 0;  // whose disk loses what was acknowledged; in half of the worlds nobody's
  std::size_t rots = 0;
};

TEST(Group, ElectsALeaderAndCommitsWhenAllIsWell) {
  World world(1, 3);
  world.heal();
  EXPECT_GE(world.committed.size(), 20u);
  EXPECT_EQ(world.leaders.size(), 1u) << "one election is enough";
}

TEST(Group, OfOneReplicaLeadsItself) {
  World world(1, 1);
  world.heal();
  EXPECT_GE(world.committed.size(), 20u);
}

// S2: what a leader said before it heard of the loss does not tell how much was lost.
TEST(Group, ALateAppendMakesNoUncertainHeadCertain) {
  World world(1, 3);
  world.heal();
  const std::size_t leading = world.leaders.rbegin()->second.first;
  const std::size_t at = (leading + 1) % 3;
  Node& node = world.nodes[at];
  world.crash(at);
  node.log.resize(3);
  node.head_certain = false;
  world.start(at);
  protocol::Append append;
  append.previous = append.leader_last = node.log.back().id();
  append.number = append.sent = 1;
  const GroupMessage late{kVolume,           world.nodes[leading].self.replica, node.self.replica,
                          world.record.term, world.record.config_epoch,         append};
  world.perform(at, node.group->receive(world.now, late, nullptr));
  EXPECT_EQ(node.group->state(), State::follower_syncing);
  world.heal();
  EXPECT_EQ(node.group->state(), State::follower_functional);
}

TEST(Group, KeepsItsInvariantsUnderRandomFaultsAndConvergesAfterwards) {
  std::size_t terms = 0;
  std::size_t ops = 0;
  std::size_t configurations = 0;
  std::size_t leased = 0;
  std::size_t rots = 0;
  for (std::uint64_t seed = 1; seed <= 800 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World world(seed, seed % 4 == 0 ? 5 : 3);
    for (int i = 0; i < 4000 && !HasFailure(); ++i) world.step(true);
    if (!HasFailure()) world.heal();
    terms += world.leaders.size();
    ops += world.committed.size();
    configurations += world.configurations;
    leased += world.leased;
    rots += world.rots;
  }
  // The schedules must reach what they are meant to try.
  EXPECT_GT(terms, 2000u);
  EXPECT_GT(ops, 20000u);
  EXPECT_GT(configurations, 800u);
  EXPECT_GT(leased, 800u);
  EXPECT_GT(rots, 800u);
}

}  // namespace
}  // namespace datom::replication

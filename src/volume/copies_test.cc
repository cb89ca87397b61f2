// Copies of blocks: what they move, that they go on after interruptions, their pace, the journal
// that is kept for them.
#include "volume/volume_fixture.h"

namespace datom::volume {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

class Copies : public Volume {
 protected:
  explicit Copies(int servers = 3) : Volume(servers) {
    run(set_property("journal.retention_bytes", "1048576"));
    run(set_property("checkpoint.interval_ms", "1000"));
  }

  Task<void> change_property(std::string name, std::string value) {
    protocol::PropertyRecord record;
    record.value = std::move(value);
    co_await admin_->set(protocol::paths::property(kDomain, name), record.to_json());
  }

  // Overwrites [from, from + size) until the leader's journal reaches back no further than that.
  void change(VolumeClient& client, std::uint64_t from, std::uint64_t size, std::uint64_t seed) {
    for (std::uint64_t written = 0; written < 24 * kMiB || written < size; written += size) {
      for (std::uint64_t at = 0; at < size; at += std::min(kMiB, size)) {
        write(client, from + at, filled(std::min(kMiB, size), seed + at));
      }
    }
    loop_.advance(3s);  // a checkpoint, and the journal is cut
  }
  void expect_changed(VolumeClient& client, std::uint64_t from, std::uint64_t size,
                      std::uint64_t seed) {
    for (std::uint64_t at = 0; at < size; at += std::min(kMiB, size)) {
      const std::uint32_t piece = static_cast<std::uint32_t>(std::min(kMiB, size));
      EXPECT_TRUE(same(read(client, from + at, piece), filled(piece, seed + at))) << at;
    }
  }
  void expect_same_blocks() {
    wait_converged();
    loop_.advance(1s);
    for (std::size_t at = 0; at < servers_.size(); ++at) {
      EXPECT_EQ(status(at).trouble(), "") << at;
      EXPECT_NE(status(at).fingerprint(), 0u) << at;
      EXPECT_EQ(status(at).fingerprint(), status(0).fingerprint()) << at;
    }
  }
  template <typename Condition>
  void wait_until(Condition condition) {
    for (int i = 0; i < 6000 && !condition(); ++i) loop_.advance(10ms);
    EXPECT_TRUE(condition());
  }
  std::uint64_t journal_bytes(std::size_t at) {
    std::uint64_t bytes = 0;
    run(sum_journal(at, bytes));
    return bytes;
  }
  Task<void> sum_journal(std::size_t at, std::uint64_t& bytes) {
    auto files = runtime::make_memory_filesystem(loop_, servers_[at]->disk());
    const std::string directory = "/" + servers_[at]->name() + "/" + servers_[at]->name() +
                                  "/replicas/" + Uuid::from_random(7, 7).to_string() + "/journal";
    const std::vector<std::string> names = co_await files->list(directory);
    for (const std::string& name : names) {
      runtime::OpenOptions options;
      const auto file = co_await files->open(directory + "/" + name, options);
      bytes += co_await file->size();
    }
  }
};

class CopiesOfFive : public Copies {
 protected:
  CopiesOfFive() : Copies(5) {}
};

TEST_F(Copies, MoveWhatChangedAndLittleMore) {
  const std::size_t leading = leader();
  const std::size_t away = (leading + 1) % 3;
  const auto client = attach(leading);
  for (std::uint64_t at = 0; at < kSize; at += kMiB) write(*client, at, filled(kMiB, at));
  wait_converged();
  loop_.advance(5s);
  run(servers_[away]->crash());
  change(*client, 10 * kMiB, 2 * kMiB, 77);
  run(servers_[away]->start());
  wait_converged();
  EXPECT_GE(status(away).sync_bytes(), 2 * kMiB);
  EXPECT_LE(status(away).sync_bytes(), 2 * kMiB * 12 / 10);
  expect_same_blocks();
  run(client->close());
}

TEST_F(Copies, OfAMostlyEmptyVolumeToAnEmptyReplicaMoveTheWrittenBlocks) {
  const std::size_t leading = leader();
  const std::size_t empty = (leading + 1) % 3;
  run(servers_[empty]->crash());
  const auto client = attach(leading);
  change(*client, 60 * kMiB, kMiB, 5);
  write(*client, 0, filled(4096, 6));
  run(client->trim(60 * kMiB, 64 << 10));
  change(*client, 30 * kMiB, kMiB, 7);
  run(servers_[empty]->start());
  wait_converged();
  EXPECT_GE(status(empty).sync_bytes(), 2 * kMiB - (64 << 10));
  EXPECT_LE(status(empty).sync_bytes(), 2 * kMiB * 12 / 10);
  expect_same_blocks();
  run(client->close());
}

TEST_F(Copies, AreNotNeededWithinTheRetention) {
  run(change_property("journal.retention_bytes", "67108864"));
  const std::size_t leading = leader();
  const std::size_t away = (leading + 1) % 3;
  const auto client = attach(leading);
  run(servers_[away]->crash());
  change(*client, 0, 2 * kMiB, 1);
  run(servers_[away]->start());
  wait_converged();
  EXPECT_EQ(status(away).sync_bytes(), 0u);
  // The retention follows the property at once, without a write or a checkpoint.
  run(servers_[away]->crash());
  change(*client, 0, 2 * kMiB, 2);
  EXPECT_GE(journal_bytes(leading), 24 * kMiB);
  run(change_property("journal.retention_bytes", "1048576"));
  loop_.advance(3s);
  EXPECT_LE(journal_bytes(leading), 24 * kMiB);
  run(servers_[away]->start());
  wait_converged();
  EXPECT_GT(status(away).sync_bytes(), 0u);
  run(client->close());
}

TEST_F(Copies, AJournalThatNobodyWritesToGivesUpItsSpares) {
  run(change_property("journal.retention_bytes", "33554432"));
  const auto client = attach(leader());
  for (int i = 0; i < 4; ++i) change(*client, 0, 2 * kMiB, 1);
  std::vector<std::uint64_t> busy;
  for (std::size_t at = 0; at < 3; ++at) busy.push_back(journal_bytes(at));
  loop_.advance(70s);
  for (std::size_t at = 0; at < 3; ++at) {
    EXPECT_LE(journal_bytes(at) + 16 * kMiB, busy[at]) << at;
    EXPECT_GE(journal_bytes(at), 32 * kMiB) << at;
  }
  change(*client, 0, 2 * kMiB, 2);
  wait_converged();
  expect_same_blocks();
  run(client->close());
}

TEST_F(Copies, KeepToTheirRateAndFollowItsChange) {
  run(set_property("sync.bytes_per_second", "1048576"));
  const std::size_t leading = leader();
  const std::size_t away = (leading + 1) % 3;
  const auto client = attach(leading);
  run(servers_[away]->crash());
  change(*client, 0, 16 * kMiB, 1);
  run(servers_[away]->start());
  wait_until([&] { return status(away).sync_blocks_done() > 0; });
  const std::uint64_t before = status(away).sync_bytes();
  loop_.advance(4s);
  const std::uint64_t moved = status(away).sync_bytes() - before;
  EXPECT_GE(moved, 3 * kMiB);
  EXPECT_LE(moved, 5 * kMiB);
  const protocol::ReplicaStatus half = status(away);
  EXPECT_TRUE(half.sync_copying());
  EXPECT_EQ(half.sync_blocks_total(), 16 * kMiB / 4096);
  EXPECT_NEAR(static_cast<double>(half.sync_blocks_done()), half.sync_bytes() / 4096.0, 100);
  run(change_property("sync.bytes_per_second", "0"));
  loop_.advance(2s);
  EXPECT_FALSE(status(away).sync_copying());
  expect_same_blocks();
  run(client->close());
}

TEST_F(Copies, GoOnWhereTheyWereAfterRestartsAndFromAnotherLeader) {
  run(set_property("sync.bytes_per_second", "1048576"));
  const std::size_t first = leader();
  const std::size_t away = (first + 1) % 3;
  const std::size_t other = (first + 2) % 3;
  {
    const auto client = attach(first);
    run(servers_[away]->crash());
    change(*client, 0, 24 * kMiB, 1);
    run(client->close());
  }
  run(servers_[away]->start());
  wait_until([&] { return status(away).sync_bytes() > 6 * kMiB; });
  // The follower restarts: what was durable is not copied again.
  std::uint64_t moved = status(away).sync_bytes();
  run(servers_[away]->crash());
  run(servers_[away]->start());
  wait_until([&] { return status(away).sync_bytes() > 4 * kMiB; });
  // The leader changes, and the one that led restarts.
  run(servers_[first]->crash());
  run(servers_[first]->start());
  const std::size_t second = leader();
  EXPECT_EQ(second, other);
  EXPECT_FALSE(status(away).state() == "FOLLOWER_FUNCTIONAL");
  wait_until([&] { return status(away).sync_bytes() > 10 * kMiB; });
  // A partition for a while.
  network_.cut(servers_[away]->name(), servers_[second]->name());
  network_.cut(servers_[away]->name(), servers_[first]->name());
  loop_.advance(20s);
  EXPECT_LE(status(away).sync_bytes(), 13 * kMiB);
  network_.heal(servers_[away]->name(), servers_[second]->name());
  network_.heal(servers_[away]->name(), servers_[first]->name());
  const auto client = attach(second);
  write(*client, 5 * kMiB, filled(kMiB, 99));
  wait_converged();
  moved += status(away).sync_bytes();
  EXPECT_GE(moved, 24 * kMiB);
  EXPECT_LE(moved, 24 * kMiB * 12 / 10 + 2 * kMiB);  // a second's worth was not durable
  expect_same_blocks();
  // It stands on its own.
  run(client->close());
  run(servers_[second]->crash());
  const auto reader = attach(away);
  expect_changed(*reader, 0, 5 * kMiB, 1);
  EXPECT_TRUE(same(read(*reader, 5 * kMiB, kMiB), filled(kMiB, 99)));
  run(reader->close());
}

TEST_F(Copies, KeepNoMoreJournalThanTheyNeedHoweverLongTheyTake) {
  run(set_property("sync.bytes_per_second", "262144"));
  const std::size_t leading = leader();
  const std::size_t away = (leading + 1) % 3;
  const auto client = attach(leading);
  run(servers_[away]->crash());
  change(*client, 0, 24 * kMiB, 1);
  run(servers_[away]->start());
  wait_until([&] { return status(away).sync_blocks_done() > 0; });
  for (int i = 0; i < 96; ++i) {  // 96 MiB of journal
    write(*client, 40 * kMiB, filled(kMiB, static_cast<std::uint64_t>(i)));
    loop_.advance(200ms);
    if (i % 8 == 7) {
      EXPECT_LE(journal_bytes(leading), 40 * kMiB) << i;
      EXPECT_LE(journal_bytes(away), 40 * kMiB) << i;
    }
  }
  EXPECT_TRUE(status(away).sync_copying());
  // What is being written comes with the entries, not twice.
  EXPECT_LE(status(away).sync_bytes(), 8 * kMiB);
  run(change_property("sync.bytes_per_second", "0"));
  wait_converged();
  EXPECT_LE(status(away).sync_bytes(), 26 * kMiB);
  expect_same_blocks();
  run(client->close());
}

TEST_F(CopiesOfFive, TwoAtOnceFromBusyAndTrimmingLeader) {
  run(set_property("sync.bytes_per_second", "2097152"));
  const std::size_t leading = leader();
  const std::size_t one = (leading + 1) % 5;
  const std::size_t two = (leading + 2) % 5;
  const auto client = attach(leading);
  run(servers_[one]->crash());
  change(*client, 0, 8 * kMiB, 1);
  run(servers_[two]->crash());
  change(*client, 8 * kMiB, 8 * kMiB, 2);
  run(servers_[one]->start());
  wait_until([&] { return status(one).sync_bytes() > kMiB; });
  for (int i = 0; i < 10; ++i) write(*client, 40 * kMiB, filled(kMiB, 3));
  loop_.advance(2s);
  run(servers_[two]->start());
  for (std::uint64_t i = 0; i < 60; ++i) {
    write(*client, 30 * kMiB + i * 8192, filled(4096, i));
    if (i % 4 == 0) write(*client, 40 * kMiB, filled(kMiB, i));
    loop_.advance(200ms);
  }
  wait_converged();
  EXPECT_LE(status(one).sync_bytes(), 16 * kMiB * 12 / 10);
  EXPECT_GE(status(two).sync_bytes(), 8 * kMiB);
  EXPECT_LE(status(two).sync_bytes(), 9 * kMiB * 12 / 10);
  expect_same_blocks();
  expect_changed(*client, 0, 8 * kMiB, 1);
  run(client->close());
}

}  // namespace
}  // namespace datom::volume

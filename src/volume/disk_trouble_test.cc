// What happens when a disk loses what was written to it, is full, or refuses.
#include <array>
#include <cerrno>

#include "block_store/table.h"
#include "common/checksum.h"
#include "protocol/methods.h"
#include "volume/volume_fixture.h"

namespace datom::volume {
namespace {

using testing::HasSubstr;

constexpr std::uint32_t kMegabyte = 1 << 20;

class DiskTrouble : public Volume {
 protected:
  // Every read meets the disk.
  DiskTrouble() { run(set_property("cache.bytes", "0")); }

  static std::string data_of(const Server& server) { return server.directory() + "/layers/0/data"; }
  static std::string table_of(const Server& server) {
    return server.directory() + "/layers/0/table";
  }
  static void damage_block(Server& server, std::uint64_t block) {
    server.disk().flip_bit(data_of(server), block * kBlockSize + 1234, 5);
  }
  // `word` 0: op and kind; 1: the sealed checksum.
  static void damage_entry(Server& server, std::uint64_t block, int word, int bit) {
    server.disk().flip_bit(
        table_of(server),
        block * 16 + static_cast<std::uint64_t>(word) * 8 + static_cast<std::uint64_t>(bit) / 8,
        bit % 8);
  }
  // Each read of a block gives EIO until the block is written anew.
  static void lose_sector(Server& server, std::string path, std::uint64_t at) {
    auto lost = std::make_shared<bool>(true);
    server.faults = [=](const runtime::FileOperation& operation) {
      if (operation.path != path || !operation.covers(at)) return 0;
      if (operation.name == "write") *lost = false;
      return operation.name == "read" && *lost ? EIO : 0;
    };
  }

  std::size_t follower() { return (leader() + 1) % 3; }
  std::size_t other_follower() { return (leader() + 2) % 3; }
  void restart(std::size_t at) {
    run(servers_[at]->stop());
    run(servers_[at]->start());
  }

  // 1 MiB from block 0 on, on all disks, and in no journal's memory.
  Buffer write_first_megabyte() {
    const auto client = attach(leader());
    Buffer data = filled(kMegabyte, 1);
    write(*client, 0, data);
    run(client->close());
    wait_converged();
    return data;
  }
  Buffer read_all(std::size_t through, std::uint32_t length = kMegabyte) {
    const auto client = attach(through);
    Buffer data = read(*client, 0, length);
    run(client->close());
    return data;
  }

  // Through a server whose disk is sound.
  void write_all(Buffer data) {
    std::size_t through = 0;
    while (servers_[through]->faults) ++through;
    const auto client = attach(through);
    write(*client, 0, std::move(data));
    run(client->close());
  }

  template <typename Reply, typename Request>
  Reply ask(std::size_t at, std::uint16_t method, Request request) {
    request.set_volume(kVolume.bytes.data(), kVolume.bytes.size());
    Reply reply;
    run(ask_into(at, method, request.SerializeAsString(), reply));
    return reply;
  }
  template <typename Reply>
  Task<void> ask_into(std::size_t at, std::uint16_t method, std::string request, Reply& reply) {
    rpc::Message question;
    question.header = std::move(request);
    const rpc::Message answer = co_await servers_[at]->caller().call(servers_[at]->name(), method,
                                                                     std::move(question), 60s);
    EXPECT_TRUE(reply.ParseFromString(answer.header));
  }
  protocol::VerifyReply verify(bool fingerprints, bool deep = false) {
    protocol::VerifyRequest request;
    request.set_fingerprints(fingerprints);
    request.set_deep(deep);
    protocol::VerifyReply all;
    bool equal = true;
    for (bool more = true; more;) {
      const auto part = ask<protocol::VerifyReply>(leader(), protocol::method::kVerify, request);
      equal &= part.equal();
      all.MergeFrom(part);
      request.set_from_block(part.next_block());
      more = part.next_block() > 0;
    }
    all.set_equal(equal);
    return all;
  }

  void set_scrub_rate(std::uint64_t bytes) {
    run(set_property("scrub.bytes_per_second", std::to_string(bytes)));
    loop_.advance(1s);
  }
};

// ---- blocks -------------------------------------------------------------------------------------

// Until nothing is kept there: then what the disk has lost is met, and repaired.
TEST_F(Volume, TheLeaderReadsWhatWasWrittenFromMemory) {
  const auto client = attach(leader());
  const Buffer data = filled(kMegabyte, 1);
  write(*client, 0, data);
  wait_converged();
  const std::size_t leading = leader();
  Server& server = *servers_[leading];
  server.disk().flip_bit(server.directory() + "/layers/0/data", 5 * kBlockSize + 1234, 5);
  EXPECT_EQ(as_text(read(*client, 0, kMegabyte).view()), as_text(data.view()));
  EXPECT_EQ(status(leading).repaired_blocks(), 0u);
  loop_.advance(1s);
  EXPECT_THAT(server.metrics(), testing::ContainsRegex("datom_disk_read_bytes_total\\{[^}]*\\} 0"));
  run(set_property("cache.bytes", "0"));
  loop_.advance(1s);
  EXPECT_EQ(as_text(read(*client, 0, kMegabyte).view()), as_text(data.view()));
  EXPECT_EQ(status(leading).repaired_blocks(), 1u);
  run(client->close());
}

TEST_F(DiskTrouble, AReadThroughTheLeaderRepairsWhatItsDiskLost) {
  const Buffer data = write_first_megabyte();
  const std::size_t leading = leader();
  for (const std::uint64_t block : {0, 7, 8, 255}) damage_block(*servers_[leading], block);
  EXPECT_TRUE(same(read_all(follower()), data));
  EXPECT_EQ(status(leading).repaired_blocks(), 4u);
  EXPECT_THAT(servers_[leading]->metrics(), HasSubstr("datom_repaired_blocks_total{"));
  // It is on the disk again: nobody is asked a second time.
  EXPECT_TRUE(same(read_all(leading), data));
  EXPECT_EQ(status(leading).repaired_blocks(), 4u);
  EXPECT_TRUE(verify(false, true).equal());
}

TEST_F(DiskTrouble, ABlockThatCannotBeReadIsRepairedAsOneThatIsDamaged) {
  const Buffer data = write_first_megabyte();
  const std::size_t leading = leader();
  lose_sector(*servers_[leading], data_of(*servers_[leading]), 9 * kBlockSize);
  EXPECT_TRUE(same(read_all(leading), data));
  EXPECT_EQ(status(leading).repaired_blocks(), 1u);
  EXPECT_EQ(status(leading).trouble(), "");
}

TEST_F(DiskTrouble, AWriteToAPartOfADamagedBlockKeepsTheRestOfIt) {
  Buffer expected = Buffer::copy_of(write_first_megabyte().view());
  damage_block(*servers_[leader()], 3);
  const auto client = attach(leader());
  const Buffer piece = filled(512, 9);
  write(*client, 3 * kBlockSize + 512, piece);
  std::memcpy(expected.mutable_data() + 3 * kBlockSize + 512, piece.data(), piece.size());
  EXPECT_TRUE(same(read(*client, 0, kMegabyte), expected));
  run(client->close());
}

TEST_F(DiskTrouble, ABlockDamagedOnEveryDiskIsAnErrorAndTheOthersAreNot) {
  const Buffer data = write_first_megabyte();
  set_scrub_rate(0);
  for (auto& server : servers_) damage_block(*server, 5);
  const auto client = attach(leader());
  Buffer nothing;
  EXPECT_EQ(code_of(read_into(*client, 0, kMegabyte, nothing)), Code::corrupt);
  EXPECT_TRUE(same(read(*client, 0, 5 * kBlockSize), data.slice(0, 5 * kBlockSize)));
  // A new write makes it a good one.
  write(*client, 5 * kBlockSize, filled(kBlockSize, 2));
  EXPECT_TRUE(same(read(*client, 5 * kBlockSize, kBlockSize), filled(kBlockSize, 2)));
  run(client->close());
}

TEST_F(DiskTrouble, AReadWaitsForTheOneMemberThatMayHaveTheBlock) {
  const Buffer data = write_first_megabyte();
  const std::size_t leading = leader();
  const std::size_t away = other_follower();
  set_scrub_rate(0);
  damage_block(*servers_[leading], 5);
  damage_block(*servers_[follower()], 5);
  run(servers_[away]->stop());
  const auto client = attach(leading);
  Buffer found;
  runtime::TaskGroup group(loop_, [](std::exception_ptr error) { std::rethrow_exception(error); });
  group.spawn(read_into(*client, 0, kMegabyte, found));
  loop_.advance(20s);
  EXPECT_EQ(group.running(), 1u);
  run(servers_[away]->start());
  run(group.close());
  EXPECT_TRUE(same(found, data));
  run(client->close());
}

TEST_F(DiskTrouble, AFollowerThatCopiesGetsGoodBlocksFromADamagedLeader) {
  run(set_property("journal.retention_bytes", "1048576"));
  const std::size_t leading = leader();
  const std::size_t away = follower();
  run(servers_[away]->crash());
  const auto client = attach(leading);
  const Buffer expected = filled(32 << 20, 2);
  write(*client, 4 << 20, expected);
  loop_.advance(60s);  // checkpoints: the journal is cut down to its retention
  set_scrub_rate(0);
  for (const std::uint64_t block : {1024, 2000, 9000}) damage_block(*servers_[leading], block);
  run(servers_[away]->start());
  write(*client, 0, filled(4096, 4));
  wait_converged();
  run(client->close());
  EXPECT_EQ(status(leading).repaired_blocks(), 3u);
  EXPECT_TRUE(verify(false, true).equal());
}

TEST_F(DiskTrouble, AFollowerThatCopiesMendsItsOwnTable) {
  run(set_property("journal.retention_bytes", "1048576"));
  set_scrub_rate(0);
  const Buffer data = write_first_megabyte();
  const std::size_t away = follower();
  run(servers_[away]->stop());
  damage_entry(*servers_[away], 16000, 0, 30);  // of a block that was never written
  const auto client = attach(leader());
  write(*client, 4 << 20, filled(32 << 20, 2));
  loop_.advance(60s);  // checkpoints: the journal is cut down to its retention
  run(servers_[away]->start());
  write(*client, 0, filled(4096, 4));
  wait_converged();
  run(client->close());
  EXPECT_EQ(status(away).trouble(), "");
  EXPECT_TRUE(verify(false, true).equal());
}

// ---- table entries ------------------------------------------------------------------------------

TEST_F(DiskTrouble, DamagedTableEntriesAreReplacedByWhatTheOthersHave) {
  const Buffer data = write_first_megabyte();
  for (const bool leads : {false, true}) {
    const std::size_t at = leads ? leader() : follower();
    run(servers_[at]->stop());
    damage_entry(*servers_[at], 3, 0, 9);     // another op: its content does not match
    damage_entry(*servers_[at], 4, 1, 17);    // another checksum
    damage_entry(*servers_[at], 5, 0, 61);    // an op that nobody has reached
    damage_entry(*servers_[at], 600, 0, 30);  // of a block that was never written
    run(servers_[at]->start());
    wait_converged();
    loop_.advance(10s);  // the scrub
    EXPECT_EQ(status(at).repaired_blocks(), 4u) << status(at).ShortDebugString();
    EXPECT_TRUE(verify(true).equal());
    EXPECT_TRUE(verify(false, true).equal());
    // What was mended stays so, and it can stand on its own.
    restart(at);
    wait_converged();
    while (leader() != at) restart(leader());
    EXPECT_TRUE(same(read_all(at), data));
    EXPECT_EQ(status(at).repaired_blocks(), 0u);
  }
}

TEST_F(DiskTrouble, AReadRepairsTheEntryOfItsBlock) {
  const Buffer data = write_first_megabyte();
  set_scrub_rate(0);
  for (auto& server : servers_) run(server->stop());
  damage_entry(*servers_[0], 3, 0, 1);
  damage_entry(*servers_[1], 4, 1, 3);
  damage_entry(*servers_[2], 5, 0, 40);
  for (auto& server : servers_) run(server->start());
  EXPECT_TRUE(same(read_all(leader()), data));
  EXPECT_EQ(status(leader()).repaired_blocks(), 1u);
}

TEST_F(DiskTrouble, AWriteOverADamagedEntryTakesEffectWhateverOpItSeemsToHave) {
  write_first_megabyte();
  const std::size_t at = follower();
  set_scrub_rate(0);
  run(servers_[at]->stop());
  for (const int bit : {5, 20, 40, 60}) damage_entry(*servers_[at], 3, 0, bit);
  run(servers_[at]->start());
  wait_converged();
  const auto client = attach(leader());
  write(*client, 3 * kBlockSize, filled(kBlockSize, 7));
  run(client->close());
  wait_converged();
  EXPECT_TRUE(verify(false, true).equal());
}

// ---- the scrub ----------------------------------------------------------------------------------

// The running fingerprint takes the old version of a block off: if that was damaged, the sum is
// wrong, though all blocks are right.
TEST_F(DiskTrouble, ADamagedEntryThatWasOverwrittenIsNoDivergence) {
  set_scrub_rate(0);
  write_first_megabyte();
  for (const bool of_leader : {false, true}) {
    const std::size_t at = follower();
    for (auto& server : servers_) run(server->stop());
    damage_entry(*servers_[at], 3, 1, 7);  // shows only with the content
    damage_entry(*servers_[at], 200, 0, 1);
    // Of equal ones the first that is there leads.
    const std::size_t first = of_leader ? at : (at + 1) % 3;
    for (std::size_t i = 0; i < 3; ++i) run(servers_[(first + i) % 3]->start());
    ASSERT_EQ(leader() == at, of_leader);
    const auto client = attach(leader());
    write(*client, 3 * kBlockSize, filled(kBlockSize, 7));
    write(*client, 200 * kBlockSize, filled(kBlockSize, 8));
    run(client->close());
    wait_converged();
    loop_.advance(5s);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(status(i).trouble(), "");
    EXPECT_TRUE(verify(true).equal());
    EXPECT_TRUE(verify(false, true).equal());
  }
}

TEST_F(DiskTrouble, TheScrubRepairsWhatNobodyReads) {
  write_first_megabyte();
  const std::size_t at = follower();
  run(servers_[at]->stop());
  for (const std::uint64_t block : {1, 100, 200}) damage_block(*servers_[at], block);
  run(servers_[at]->start());
  loop_.advance(10s);
  EXPECT_EQ(status(at).repaired_blocks(), 3u);
  EXPECT_TRUE(verify(false, true).equal());
}

TEST_F(DiskTrouble, TheScrubKeepsToItsRateWhichCanBeChangedAnyTime) {
  set_scrub_rate(64 << 10);
  write_first_megabyte();
  const std::size_t at = follower();
  restart(at);
  wait_converged();
  loop_.advance(8s);  // half of the megabyte
  const std::uint64_t half = status(at).scrub_position();
  EXPECT_GT(half, 256u << 10);
  EXPECT_LE(half, 768u << 10);
  run(admin_->remove(protocol::paths::property(kDomain, "scrub.bytes_per_second")));
  set_scrub_rate(0);
  loop_.advance(5s);
  const std::uint64_t stopped = status(at).scrub_position();
  loop_.advance(60s);
  EXPECT_EQ(status(at).scrub_position(), stopped);
  run(admin_->remove(protocol::paths::property(kDomain, "scrub.bytes_per_second")));
  set_scrub_rate(100 << 20);
  loop_.advance(5s);
  EXPECT_EQ(status(at).scrub_position(), 0u) << "it has come to the end and waits";
}

TEST_F(DiskTrouble, TheScrubRepairsNothingWhileRedoIsNotThrough) {
  // A power cut in the middle of applying leaves torn blocks that redo makes good, and no damage.
  for (std::uint64_t round = 0; round < 4; ++round) {
    const auto client = attach(leader());
    for (std::uint64_t i = 0; i < 40; ++i) {
      write(*client, (i * 37 % 256) * kBlockSize, filled(8 * kBlockSize, round * 100 + i));
    }
    run(client->close());
    for (auto& server : servers_) run(server->crash());
    for (auto& server : servers_) run(server->start());
    wait_converged();
    loop_.advance(20s);
    for (std::size_t at = 0; at < 3; ++at) EXPECT_EQ(status(at).repaired_blocks(), 0u);
  }
}

// ---- comparing ----------------------------------------------------------------------------------

TEST_F(DiskTrouble, VerifyNamesTheBlockThatDiffersAndBetweenWhom) {
  const Buffer data = write_first_megabyte();
  set_scrub_rate(0);
  EXPECT_TRUE(verify(true).equal());
  EXPECT_TRUE(verify(false).equal());
  // Sound in itself, and yet another content than the others have.
  const std::size_t at = follower();
  run(servers_[at]->stop());
  struct Forge {
    static Task<void> run(runtime::VirtualLoop& loop, Server& server, std::string data,
                          std::string table) {
      const auto files = runtime::make_memory_filesystem(loop, server.disk());
      const auto data_file = co_await files->open(data, runtime::OpenOptions{});
      const auto table_file = co_await files->open(table, runtime::OpenOptions{});
      block_store::RawEntry entry;
      Buffer raw = Buffer::allocate(16);
      co_await table_file->read(70 * 16, raw.mutable_view());
      entry.op_and_kind = load_le<std::uint64_t>(raw.data());
      entry.sealed_checksum = load_le<std::uint64_t>(raw.data() + 8);
      block_store::BlockVersion version = *block_store::decode_entry(70, entry);
      const Buffer content = filled(kBlockSize, 77);
      version.checksum = checksum(content.view());
      entry = block_store::encode_entry(version);
      store_le(raw.mutable_data(), entry.op_and_kind);
      store_le(raw.mutable_data() + 8, entry.sealed_checksum);
      co_await data_file->write(70 * kBlockSize, content.view());
      co_await table_file->write(70 * 16, raw.view());
      co_await data_file->sync();
      co_await table_file->sync();
    }
  };
  run(Forge::run(loop_, *servers_[at], data_of(*servers_[at]), table_of(*servers_[at])));
  run(servers_[at]->start());
  wait_converged();
  const protocol::VerifyReply found = verify(false);
  EXPECT_FALSE(found.equal());
  ASSERT_EQ(found.differences_size(), 1);
  EXPECT_EQ(found.differences(0).block(), 70u);
  EXPECT_EQ(found.differences(0).copies_size(), 3);
  for (const auto& copy : found.differences(0).copies()) {
    EXPECT_EQ(copy.checksum() == checksum(filled(kBlockSize, 77).view()),
              copy.service() == servers_[at]->name());
  }
  // The scrub counts anew, and then the fingerprints differ as well.
  run(admin_->remove(protocol::paths::property(kDomain, "scrub.bytes_per_second")));
  set_scrub_rate(4 << 20);
  loop_.advance(20s);
  EXPECT_FALSE(verify(true).equal());
  EXPECT_THAT(status(at).trouble(), HasSubstr("blocks differ"));
}

TEST_F(DiskTrouble, VerifyOfContentsFindsAndRepairsDamageOnAnyMember) {
  write_first_megabyte();
  set_scrub_rate(0);
  damage_block(*servers_[leader()], 11);
  damage_block(*servers_[follower()], 22);
  const protocol::VerifyReply found = verify(false, true);
  EXPECT_FALSE(found.equal());
  ASSERT_EQ(found.differences_size(), 2);
  EXPECT_EQ(found.differences(0).block(), 11u);
  EXPECT_EQ(found.differences(0).copies(0).service(), servers_[leader()]->name());
  EXPECT_TRUE(found.differences(0).copies(0).damaged());
  EXPECT_TRUE(found.differences(0).copies(0).repaired());
  EXPECT_EQ(found.differences(1).block(), 22u);
  EXPECT_TRUE(verify(false, true).equal());
}

TEST_F(DiskTrouble, VerifyIsNotMisledByWritesThatGoOn) {
  write_first_megabyte();
  const auto client = attach(leader());
  struct Writes {
    static Task<void> until(VolumeClient& to, runtime::Loop& loop, bool& over) {
      runtime::Timer pause(loop);
      std::uint64_t i = 0;
      while (!over) {
        ++i;
        co_await pause.sleep_for(200us);
        co_await to.write((i * 31 % 4000) * kBlockSize, filled(kBlockSize, i));
      }
    }
  };
  bool over = false;
  runtime::TaskGroup group(loop_, [](std::exception_ptr error) { std::rethrow_exception(error); });
  group.spawn(Writes::until(*client, loop_, over));
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(verify(true).equal());
    const protocol::VerifyReply found = verify(false, i % 5 == 0);
    EXPECT_TRUE(found.equal()) << found.ShortDebugString();
    loop_.advance(30ms);
  }
  over = true;
  run(group.close());
  run(client->close());
}

TEST_F(DiskTrouble, VerifySaysWhoCouldNotBeCompared) {
  write_first_megabyte();
  const std::size_t away = follower();
  run(servers_[away]->stop());
  const protocol::VerifyReply found = verify(true);
  EXPECT_FALSE(found.equal());
  for (const auto& member : found.members()) {
    EXPECT_EQ(member.trouble().empty(), member.service() != servers_[away]->name());
  }
}

// ---- disks that refuse --------------------------------------------------------------------------

struct Refusal {
  const char* name;
  const char* operation;
  const char* file;
  int error;
  const char* says;
};
void PrintTo(const Refusal& refusal, std::ostream* to) {
  *to << refusal.name;
}

class DiskRefuses : public DiskTrouble, public testing::WithParamInterface<Refusal> {
 protected:
  void refuse(Server& server) {
    const Refusal refusal = GetParam();
    server.faults = [refusal](const runtime::FileOperation& operation) {
      const bool meant = operation.name == refusal.operation &&
                         operation.path.find(refusal.file) != std::string::npos;
      return meant ? refusal.error : 0;
    };
  }
};

// S1: it stops and says why; the others go on, and nobody reads anything wrong.
TEST_P(DiskRefuses, TheFollowerStopsAndTheOthersGoOn) {
  write_first_megabyte();
  const std::size_t at = follower();
  refuse(*servers_[at]);
  write_all(filled(kMegabyte, 8));
  loop_.advance(60s);  // a checkpoint
  restart(leader());   // an election: a promise
  EXPECT_TRUE(same(read_all(leader()), filled(kMegabyte, 8)));
  EXPECT_THAT(status(at).trouble(), HasSubstr(GetParam().says));
  write_all(filled(kMegabyte, 9));
  EXPECT_TRUE(same(read_all(leader()), filled(kMegabyte, 9)));
}

TEST_P(DiskRefuses, TheLeaderStopsAndAnotherOneLeads) {
  write_first_megabyte();
  const std::size_t at = leader();
  refuse(*servers_[at]);
  write_all(filled(kMegabyte, 8));
  loop_.advance(60s);
  if (status(at).trouble().empty()) restart((at + 1) % 3);
  for (int i = 0; i < 3 && status(at).trouble().empty(); ++i) {
    if (leader() != at) restart(leader());
    leader();
  }
  EXPECT_TRUE(same(read_all(leader()), filled(kMegabyte, 8)));
  EXPECT_NE(leader(), at);
  EXPECT_THAT(status(at).trouble(), HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    All, DiskRefuses,
    testing::Values(Refusal{"JournalFull", "write", "/journal/", ENOSPC, "No space left"},
                    Refusal{"JournalReadOnly", "write", "/journal/", EROFS, "Read-only"},
                    Refusal{"JournalBroken", "write", "/journal/", EIO, "Input/output error"},
                    Refusal{"DataFull", "write", "/layers/0/data", ENOSPC, "No space left"},
                    Refusal{"DataReadOnly", "write", "/layers/0/data", EROFS, "Read-only"},
                    Refusal{"DataSync", "sync", "/layers/0/data", EIO, "Input/output error"},
                    Refusal{"TableFull", "write", "/layers/0/table", ENOSPC, "No space left"},
                    Refusal{"TableSync", "sync", "/layers/0/table", EIO, "Input/output error"},
                    Refusal{"SuperblockReadOnly", "write", "/superblock", EROFS, "Read-only"},
                    Refusal{"SuperblockBroken", "write", "/superblock", EIO, "Input/output error"}),
    [](const testing::TestParamInfo<Refusal>& info) { return info.param.name; });

TEST_F(DiskTrouble, AReadOnlyDiskAtTheStartIsNamed) {
  write_first_megabyte();
  const std::size_t at = follower();
  run(servers_[at]->stop());
  servers_[at]->faults = [](const runtime::FileOperation& operation) {
    const bool opens = operation.name == "open" && operation.path.ends_with("/superblock");
    const bool is_there = operation.name == "make_directories";
    return opens || (operation.changes() && !is_there) ? EROFS : 0;
  };
  run(servers_[at]->start());
  loop_.advance(5s);
  EXPECT_THAT(status(at).trouble(), HasSubstr("Read-only file system"));
  const auto client = attach(leader());
  write(*client, 0, filled(4096, 3));
  run(client->close());
  servers_[at]->faults = nullptr;
  restart(at);
  wait_converged();
}

TEST_F(DiskTrouble, ATableThatCannotBeReadStopsTheLeaderAndAnotherOneServes) {
  const Buffer data = write_first_megabyte();
  const std::size_t at = leader();
  set_scrub_rate(0);
  restart(at);
  wait_converged();
  while (leader() != at) restart(leader());
  lose_sector(*servers_[at], table_of(*servers_[at]), 0);
  EXPECT_TRUE(same(read_all((at + 1) % 3), data));
  EXPECT_NE(leader(), at);
  EXPECT_THAT(status(at).trouble(), HasSubstr("Input/output error"));
}

TEST_F(DiskTrouble, BothSuperblockSlotsLostIsAReplicaToReplace) {
  const Buffer data = write_first_megabyte();
  const std::size_t at = follower();
  run(servers_[at]->stop());
  for (const std::uint64_t slot : {0, 1}) {
    servers_[at]->disk().flip_bit(servers_[at]->directory() + "/superblock", slot * 4096 + 70, 1);
  }
  run(servers_[at]->start());
  loop_.advance(5s);
  EXPECT_THAT(status(at).trouble(), HasSubstr("has to be replaced"));
  EXPECT_TRUE(same(read_all(leader()), data));
}

TEST_F(DiskTrouble, AnEntryOfTheJournalThatCannotBeReadMakesTheFollowerCopyBlocks) {
  const std::size_t leading = leader();
  const std::size_t away = follower();
  run(servers_[away]->crash());
  const auto client = attach(leading);
  const Buffer expected = filled(16 << 20, 2);
  write(*client, 4 << 20, expected);  // more than stays in memory
  run(client->close());
  // The middle of the first segment; the writes are over.
  servers_[leading]->faults = [](const runtime::FileOperation& operation) {
    const bool journal = operation.path.find("/journal/") != std::string::npos;
    return journal && operation.name == "read" && operation.covers(2 << 20) ? EIO : 0;
  };
  run(servers_[away]->start());
  wait_converged();
  EXPECT_EQ(status(leading).state(), "LEADER_FUNCTIONAL");
  EXPECT_EQ(status(leading).trouble(), "");
  EXPECT_TRUE(verify(false, true).equal());
}

// What it lost is applied here and on the others: it is no reason to give up the replica.
TEST_F(DiskTrouble, AJournalThatEndsBelowTheCheckpointIsSuppliedByTheLeader) {
  const Buffer data = write_first_megabyte();
  const std::size_t at = follower();
  run(servers_[at]->stop());  // with a checkpoint of everything
  const std::uint64_t checkpoint = status(leader()).applied_op();
  servers_[at]->disk().flip_bit(servers_[at]->directory() + "/journal/0000000001.segment", 300000,
                                1);
  run(servers_[at]->start());
  EXPECT_EQ(status(at).trouble(), "");
  EXPECT_LT(status(at).last_op(), checkpoint);
  EXPECT_GE(status(at).applied_op(), checkpoint);
  wait_converged();
  EXPECT_EQ(status(at).last_op(), status(leader()).last_op());
  EXPECT_TRUE(verify(false, true).equal());
}

// Nobody acknowledged it but this replica, whose disk has lost it.
TEST_F(DiskTrouble, ALeaderThatCannotReadWhatTheOthersLackGivesWay) {
  run(set_property("client.timeout_ms", "1000"));
  const std::size_t leading = leader();
  const auto client = attach(leading);
  write(*client, 0, filled(4096, 1));
  wait_converged();
  const std::array<std::size_t, 2> others = {follower(), other_follower()};
  for (const std::size_t at : others) run(servers_[at]->crash());
  EXPECT_NE(code_of(client->write(4096, filled(4096, 2))), Code{});
  run(client->close());
  run(servers_[leading]->crash());
  run(servers_[leading]->start());
  servers_[leading]->faults = [](const runtime::FileOperation& operation) {
    const bool journal = operation.path.find("/journal/") != std::string::npos;
    return journal && operation.name == "read" ? EIO : 0;
  };
  for (const std::size_t at : others) run(servers_[at]->start());
  for (int i = 0; i < 200 && status(leading).trouble().empty(); ++i) loop_.advance(100ms);
  EXPECT_THAT(status(leading).trouble(), HasSubstr("reading the journal"));
  EXPECT_NE(leader(), leading);
  EXPECT_TRUE(same(read_all(others[0], 4096), filled(4096, 1)));
}

}  // namespace
}  // namespace datom::volume

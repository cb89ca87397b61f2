// Whole volume servers on one virtual loop: real replicas, journals, block stores and clients over
// disks in memory, coordination in memory and a network in memory.
#include "protocol/methods.h"
#include "volume/volume_fixture.h"

namespace datom::volume {
namespace {

TEST_F(Volume, ReadsBackWhatWasWrittenThroughAnyServer) {
  const std::size_t leading = leader();
  const auto here = attach(leading);
  const auto elsewhere = attach((leading + 1) % 3);
  const Buffer data = filled(3 << 20, 1);
  write(*here, 4096 * 5, data);
  EXPECT_TRUE(same(read(*elsewhere, 4096 * 5, 3 << 20), data));
  EXPECT_TRUE(all_zero(read(*elsewhere, 0, 4096).view()));
  run(here->close());
  run(elsewhere->close());
}

TEST_F(Volume, KeepsTheBytesAroundAWriteOfAnyAlignment) {
  const auto client = attach(leader());
  Buffer expected = filled(64 << 10, 2);
  write(*client, 0, expected);
  expected = Buffer::copy_of(expected.view());
  runtime::SeededRandom random(3);
  for (std::uint64_t i = 0; i < 200; ++i) {
    const std::uint64_t offset = random.below(expected.size() - 1);
    const std::uint64_t size =
        1 + random.below(std::min<std::uint64_t>(9000, expected.size() - offset));
    const Buffer piece = filled(size + 8, i).slice(0, size);
    std::memcpy(expected.mutable_data() + offset, piece.data(), size);
    write(*client, offset, piece);
  }
  EXPECT_TRUE(same(read(*client, 0, 64 << 10), expected));
  run(client->close());
}

TEST_F(Volume, AppliesSmallWritesSomeAtATimeUnlessSomebodyReadsTheirBlocks) {
  const std::size_t at = leader();
  const auto client = attach(at);
  write(*client, 0, filled(kBlockSize, 1));
  write(*client, 8 * kBlockSize, filled(kBlockSize, 2));
  wait_converged();

  write(*client, 0, filled(kBlockSize, 3));
  EXPECT_LT(status(at).applied_op(), status(at).commit_op());
  EXPECT_TRUE(same(read(*client, 8 * kBlockSize, kBlockSize), filled(kBlockSize, 2)));
  EXPECT_LT(status(at).applied_op(), status(at).commit_op());
  EXPECT_TRUE(same(read(*client, 0, kBlockSize), filled(kBlockSize, 3)));
  EXPECT_EQ(status(at).applied_op(), status(at).commit_op());

  const std::uint64_t before = status(at).applied_op();
  for (std::uint64_t i = 0; i < 100; ++i) write(*client, i * kBlockSize, filled(kBlockSize, i));
  EXPECT_GT(status(at).applied_op(), before);
  write(*client, kBlockSize, filled(kBlockSize, 4));
  loop_.advance(100ms);
  EXPECT_EQ(status(at).applied_op(), status(at).last_op());

  write(*client, kBlockSize, filled(kBlockSize, 5));
  write(*client, kBlockSize, filled(512, 6));
  Buffer expected = filled(kBlockSize, 5);
  std::memcpy(expected.mutable_data(), filled(512, 6).data(), 512);
  EXPECT_TRUE(same(read(*client, kBlockSize, kBlockSize), expected));
  run(client->close());
}

TEST_F(Volume, ConcurrentPartialWritesToOneBlockAllTakeEffect) {
  const auto client = attach(leader());
  struct Writes {
    static Task<void> all(VolumeClient& to, runtime::Loop& loop) {
      runtime::TaskGroup group(loop,
                               [](std::exception_ptr error) { std::rethrow_exception(error); });
      for (std::uint64_t i = 0; i < 64; ++i) group.spawn(to.write(i * 64, filled(64, i)));
      co_await group.close();
    }
  };
  run(Writes::all(*client, loop_));
  const Buffer block = read(*client, 0, 4096);
  for (std::uint64_t i = 0; i < 64; ++i) {
    EXPECT_TRUE(same(block.slice(i * 64, 64), filled(64, i))) << i;
  }
  run(client->close());
}

// Changes the volume's record as the config service does.
Task<void> limit(coordination::Client& admin, protocol::Limits limits) {
  const std::string path = protocol::paths::volume(kDomain, "v");
  const auto node = co_await admin.get(path);
  auto record = protocol::VolumeRecord::from_json(node->data);
  record.limits = limits;
  co_await admin.set(path, record.to_json());
}

TEST_F(Volume, KeepsToItsLimitsThroughAnyServerAndToOthersAtOnce) {
  const std::size_t leading = leader();
  const auto here = attach((leading + 1) % 3);
  write(*here, 0, filled(4096, 1));
  run(limit(*admin_, {50, 0, 0}));
  loop_.advance(100ms);
  struct Writes {
    static Task<void> all(VolumeClient& to, runtime::Loop& loop, int many) {
      runtime::TaskGroup group(loop,
                               [](std::exception_ptr error) { std::rethrow_exception(error); });
      for (int i = 0; i < many; ++i) group.spawn(to.write(i * 4096, filled(4096, i + 2)));
      co_await group.close();
    }
  };
  runtime::Time begun = loop_.now();
  run(Writes::all(*here, loop_, 200));
  EXPECT_GE(loop_.now() - begun, 3900ms);
  EXPECT_LE(loop_.now() - begun, 4500ms);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(same(read(*here, i * 4096, 4096), filled(4096, i + 2)));
  run(limit(*admin_, {}));
  loop_.advance(100ms);
  begun = loop_.now();
  run(Writes::all(*here, loop_, 200));
  EXPECT_LE(loop_.now() - begun, 500ms);
  run(here->close());
}

TEST_F(Volume, TrimAndZeroReadAsZerosAndShowInTheExtents) {
  const auto client = attach(leader());
  write(*client, 0, filled(64 << 10, 4));
  run(client->trim(8192, 8192));
  run(client->write_zeroes(20000, 10000, true));
  const Buffer data = read(*client, 0, 64 << 10);
  EXPECT_TRUE(all_zero(data.slice(8192, 8192).view()));
  EXPECT_TRUE(all_zero(data.slice(20000, 10000).view()));
  EXPECT_FALSE(all_zero(data.slice(19000, 1000).view()));
  std::vector<block_store::Extent> extents;
  struct Ask {
    static Task<void> into(VolumeClient& of, std::vector<block_store::Extent>& to) {
      to = co_await of.extents(0, 64 << 10, 100);
    }
  };
  run(Ask::into(*client, extents));
  using block_store::BlockKind;
  const std::vector<std::pair<std::uint64_t, BlockKind>> expected = {{8192, BlockKind::data},
                                                                     {8192, BlockKind::hole},
                                                                     {4096, BlockKind::data},
                                                                     {8192, BlockKind::zero},
                                                                     {36864, BlockKind::data}};
  ASSERT_EQ(extents.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(extents[i].length, expected[i].first) << i;
    EXPECT_EQ(extents[i].kind, expected[i].second) << i;
  }
  run(client->close());
}

TEST_F(Volume, AcknowledgedWritesSurviveTheLeadersCrash) {
  for (int round = 0; round < 5; ++round) {
    const std::size_t leading = leader();
    const auto client = attach((leading + 1) % 3);
    const Buffer data = filled(256 << 10, static_cast<std::uint64_t>(round) + 100);
    write(*client, static_cast<std::uint64_t>(round) << 20, data);
    run(servers_[leading]->crash());
    EXPECT_TRUE(same(read(*client, static_cast<std::uint64_t>(round) << 20, 256 << 10), data));
    run(client->close());
    run(servers_[leading]->start());
    wait_converged();
  }
}

TEST_F(Volume, EverythingSurvivesTheCrashOfAllServers) {
  const Buffer data = filled(1 << 20, 5);
  {
    const auto client = attach(leader());
    write(*client, 12288, data);
    run(client->close());
  }
  for (auto& server : servers_) run(server->crash());
  for (auto& server : servers_) run(server->start());
  const auto client = attach(leader());
  EXPECT_TRUE(same(read(*client, 12288, 1 << 20), data));
  run(client->close());
  wait_converged();
}

TEST_F(Volume, AFollowerThatWasAwayCatchesUp) {
  const std::size_t leading = leader();
  const std::size_t away = (leading + 1) % 3;
  run(servers_[away]->crash());
  const auto client = attach(leading);
  for (std::uint64_t i = 0; i < 300; ++i) write(*client, i * 4096, filled(4096, i));
  run(servers_[away]->start());
  wait_converged();
  EXPECT_EQ(status(away).trouble(), "");
  run(client->close());
}

TEST_F(Volume, AFollowerTooFarBehindForTheJournalCopiesBlocks) {
  run(set_property("journal.retention_bytes", "1048576"));
  const std::size_t leading = leader();
  const std::size_t away = (leading + 1) % 3;
  const auto client = attach(leading);
  write(*client, 0, filled(1 << 20, 1));
  wait_converged();
  run(servers_[away]->crash());
  Buffer expected = filled(32 << 20, 2);
  write(*client, 4 << 20, expected);
  loop_.advance(60s);  // checkpoints: the journal is cut down to its retention
  write(*client, 0, filled(4096, 3));
  run(servers_[away]->start());
  write(*client, 8192, filled(4096, 4));
  wait_converged();
  EXPECT_EQ(status(away).trouble(), "");
  run(client->close());
  // It must stand on its own now: the others go.
  run(servers_[leading]->crash());
  run(servers_[leading]->start());
  run(servers_[(leading + 2) % 3]->crash());
  const auto reader = attach(away);
  EXPECT_TRUE(same(read(*reader, 4 << 20, 32 << 20), expected));
  EXPECT_TRUE(same(read(*reader, 0, 4096), filled(4096, 3)));
  EXPECT_TRUE(same(read(*reader, 8192, 4096), filled(4096, 4)));
  run(reader->close());
}

TEST_F(Volume, AReplicaWhoseDiskWasWipedDoesNotComeBackAsABlankOne) {
  const std::size_t leading = leader();
  const std::size_t wiped = (leading + 1) % 3;
  const auto client = attach(leading);
  write(*client, 0, filled(4096, 1));
  run(servers_[wiped]->stop());
  run(wipe(*servers_[wiped]));
  run(servers_[wiped]->start());
  loop_.advance(5s);
  EXPECT_THAT(status(wiped).trouble(), testing::HasSubstr("wiped"));
  EXPECT_EQ(status(wiped).state(), "");
  run(client->close());
}

TEST_F(Volume, WaitsWhileThereIsNoQuorumAndGoesOn) {
  const std::size_t leading = leader();
  const std::size_t one = (leading + 1) % 3;
  const std::size_t other = (leading + 2) % 3;
  const auto client = attach(leading);
  write(*client, 0, filled(4096, 1));
  run(servers_[one]->crash());
  run(servers_[other]->crash());
  runtime::TaskGroup group(loop_, [](std::exception_ptr error) { std::rethrow_exception(error); });
  group.spawn(client->write(0, filled(4096, 2)));
  loop_.advance(20s);
  EXPECT_EQ(group.running(), 1u) << "acknowledged by one replica of three";
  run(servers_[one]->start());
  run(group.close());
  EXPECT_TRUE(same(read(*client, 0, 4096), filled(4096, 2)));
  run(client->close());
}

class SharedVolume : public Volume {
 protected:
  SharedVolume() : Volume(3, protocol::Access::shared) {}

  Task<void> ask_leader(std::size_t through, protocol::ClientIo io, Buffer payload) {
    rpc::Message message{io.SerializeAsString(), std::move(payload)};
    co_await servers_[through]->caller().call(servers_[leader_]->name(),
                                              protocol::method::kClientIo, std::move(message), 5s);
  }
  // A change of block 0, as it reaches the leader, perhaps late.
  Code reaches_leader(std::size_t through, std::uint64_t session, std::uint64_t sequence,
                      Buffer payload) {
    protocol::ClientIo io;
    io.set_volume(kVolume.bytes.data(), kVolume.bytes.size());
    io.set_kind(protocol::IO_WRITE);
    io.set_session(session);
    io.set_sequence(sequence);
    io.set_first_incomplete(2);
    io.set_length(payload.size());
    leader_ = leader();
    return code_of(ask_leader(through, io, std::move(payload)));
  }
  std::size_t leader_ = 0;
};

// C4: what failed without an answer must not undo what the client has written since.
TEST_F(SharedVolume, AWriteThatWasGivenUpTakesNoEffectBehindTheNextOne) {
  run(set_property("client.timeout_ms", "1000"));
  const std::size_t leading = leader();
  const std::size_t at = (leading + 1) % 3;
  const auto client = attach(at);
  const std::uint64_t session = status(leading).last_op() + 1;
  write(*client, 0, filled(4096, 1));
  for (const std::size_t other : {leading, (leading + 2) % 3}) run(servers_[other]->crash());
  EXPECT_EQ(code_of(client->write(0, filled(4096, 2))), Code::unavailable);
  for (const std::size_t other : {leading, (leading + 2) % 3}) run(servers_[other]->start());
  write(*client, 0, filled(4096, 3));
  EXPECT_EQ(reaches_leader(at, session, 2, filled(4096, 2)), Code::session_expired);
  EXPECT_TRUE(same(read(*client, 0, 4096), filled(4096, 3)));
  run(client->close());
}

// The same where the last attempt was refused: the first one may still come.
TEST_F(SharedVolume, AWriteThatWasRefusedAtLastTakesNoEffectBehindTheNextOne) {
  const std::size_t leading = leader();
  const std::size_t at = (leading + 1) % 3;
  const auto client = attach(at);
  const std::uint64_t session = status(leading).last_op() + 1;
  write(*client, 0, filled(4096, 1));
  run(servers_[leading]->crash());
  for (const std::size_t other : {at, (leading + 2) % 3}) servers_[other]->disk().limit(24 << 20);
  loop_.advance(1s);
  EXPECT_EQ(code_of(client->write(0, filled(4096, 2))), Code::no_space);
  for (const std::size_t other : {at, (leading + 2) % 3}) servers_[other]->disk().limit(1 << 30);
  loop_.advance(1s);
  write(*client, 0, filled(4096, 3));
  const std::size_t sound = leading == 0 ? 1 : 0;
  EXPECT_EQ(reaches_leader(sound, session, 2, filled(4096, 2)), Code::session_expired);
  EXPECT_TRUE(same(read(*client, 0, 4096), filled(4096, 3)));
  run(client->close());
}

// And where the same attempt comes a second time, while an older change is under way still.
TEST_F(SharedVolume, AWriteThatWasRefusedIsRefusedForGood) {
  const std::size_t leading = leader();
  const std::size_t at = (leading + 1) % 3;
  const auto client = attach(at);
  const std::uint64_t session = status(leading).last_op() + 1;
  write(*client, 0, filled(4096, 1));
  servers_[leading]->disk().limit(24 << 20);
  loop_.advance(1s);
  EXPECT_EQ(reaches_leader(at, session, 3, filled(4096, 3)), Code::no_space);
  servers_[leading]->disk().limit(1 << 30);
  loop_.advance(1s);
  EXPECT_EQ(reaches_leader(at, session, 4, filled(4096, 4)), Code{});
  EXPECT_EQ(reaches_leader(at, session, 3, filled(4096, 3)), Code::no_space);
  EXPECT_TRUE(same(read(*client, 0, 4096), filled(4096, 4)));
  run(client->close());
}

TEST_F(Volume, ASecondWriterIsRefusedWhileTheFirstLivesAndTakesOverOnceItIsGone) {
  const auto first = attach(0);
  const auto second = attach(1);
  write(*first, 0, filled(4096, 1));
  EXPECT_EQ(code_of(second->write(0, filled(4096, 2))), Code::permission_denied);
  EXPECT_TRUE(same(read(*second, 0, 4096), filled(4096, 1))) << "readers are never refused";
  run(first->close());
  write(*second, 0, filled(4096, 3));
  EXPECT_TRUE(same(read(*second, 0, 4096), filled(4096, 3)));
  run(second->close());
}

}  // namespace
}  // namespace datom::volume

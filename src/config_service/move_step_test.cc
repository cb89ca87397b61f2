#include "config_service/move_step.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace datom::config_service {
namespace {

using protocol::GroupRecord;
using protocol::ReplicaRecord;
using protocol::VolumeRecord;

ReplicaRecord replica(int number) {
  return {"vs" + std::to_string(number), Uuid::from_random(7, static_cast<std::uint64_t>(number))};
}

// On vs1, vs2 and vs3; vs3 is to be replaced by vs4.
class MoveStep : public ::testing::Test {
 protected:
  MoveStep() {
    volume_.replicas = {replica(1), replica(2), replica(3)};
    group_.voters = volume_.replicas;
  }
  void begin() {
    volume_.replicas.push_back(replica(4));
    volume_.move_from = replica(3).replica;
    volume_.move_to = replica(4).replica;
  }
  void learn(int from, int to) { group_.learners = {{replica(to), replica(from).replica}}; }
  void make_joint(int to) {
    group_.learners.clear();
    group_.next_voters = {replica(1), replica(2), replica(to)};
  }
  void make_stable() {
    group_.voters = group_.next_voters;
    group_.next_voters.clear();
  }

  bool rests() const { return std::holds_alternative<Rest>(next_step(volume_, group_)); }
  bool asks() const { return std::holds_alternative<AskReplace>(next_step(volume_, group_)); }
  // The record that it wants to write is written.
  void write() {
    const NextStep next = next_step(volume_, group_);
    ASSERT_TRUE(std::holds_alternative<WriteVolume>(next));
    volume_ = std::get<WriteVolume>(next).record;
  }
  Uuid cancelled() const {
    const NextStep next = next_step(volume_, group_);
    const auto* cancel = std::get_if<AskCancel>(&next);
    return cancel == nullptr ? Uuid() : cancel->learner;
  }
  void expect_at_rest(const std::vector<ReplicaRecord>& replicas) {
    EXPECT_EQ(volume_.replicas, replicas);
    EXPECT_TRUE(volume_.move_from.is_nil());
    EXPECT_TRUE(volume_.move_to.is_nil());
    EXPECT_FALSE(volume_.undo_move);
    EXPECT_TRUE(rests());
  }

  VolumeRecord volume_;
  GroupRecord group_;
};

TEST_F(MoveStep, AVolumeAtRestNeedsNothing) {
  EXPECT_FALSE(move_of(volume_));
  EXPECT_TRUE(rests());
}

TEST_F(MoveStep, AMoveIsAskedForThenLeftToTheLeaderThenFinished) {
  begin();
  EXPECT_EQ(phase_of(volume_, group_), MovePhase::placing);
  EXPECT_TRUE(asks());
  learn(3, 4);
  EXPECT_EQ(phase_of(volume_, group_), MovePhase::syncing);
  EXPECT_TRUE(rests());
  make_joint(4);
  EXPECT_EQ(phase_of(volume_, group_), MovePhase::joint);
  EXPECT_TRUE(rests());
  make_stable();
  EXPECT_EQ(phase_of(volume_, group_), MovePhase::done);
  write();
  expect_at_rest({replica(1), replica(2), replica(4)});
}

TEST_F(MoveStep, AnUndoneMoveCancelsTheLearnerFirst) {
  begin();
  volume_.undo_move = true;
  learn(3, 4);
  EXPECT_EQ(phase_of(volume_, group_), MovePhase::undoing);
  EXPECT_EQ(cancelled(), replica(4).replica);
  group_.learners.clear();
  write();
  expect_at_rest({replica(1), replica(2), replica(3)});
}

TEST_F(MoveStep, AnUndoThatComesTooLateIsForgotten) {
  begin();
  volume_.undo_move = true;
  make_joint(4);
  write();
  EXPECT_FALSE(volume_.undo_move);
  EXPECT_TRUE(rests());
  make_stable();
  write();
  expect_at_rest({replica(1), replica(2), replica(4)});
}

TEST_F(MoveStep, AnUndoThatComesTooLateForThatStillEndsTheMove) {
  begin();
  volume_.undo_move = true;
  make_joint(4);
  make_stable();
  write();
  expect_at_rest({replica(1), replica(2), replica(4)});
}

TEST_F(MoveStep, ALearnerThatNobodyWantsIsCancelled) {
  learn(3, 4);
  EXPECT_EQ(cancelled(), replica(4).replica);
  begin();
  learn(3, 5);
  EXPECT_EQ(cancelled(), replica(5).replica);
  learn(2, 4);
  EXPECT_EQ(cancelled(), replica(4).replica);
}

TEST_F(MoveStep, TheRecordFollowsTheVotersWhereALateRequestMadeOne) {
  make_joint(4);
  write();
  EXPECT_EQ(move_of(volume_)->from, replica(3));
  EXPECT_EQ(move_of(volume_)->to, replica(4));
  EXPECT_TRUE(rests());
  make_stable();
  write();
  expect_at_rest({replica(1), replica(2), replica(4)});
}

TEST_F(MoveStep, TheRecordFollowsTheVotersAlsoAfterTheFact) {
  make_joint(4);
  make_stable();
  write();
  write();
  expect_at_rest({replica(1), replica(2), replica(4)});
}

TEST_F(MoveStep, AMoveIsGivenUpWhereAnotherHasTakenThePlace) {
  begin();
  make_joint(5);
  write();
  EXPECT_EQ(move_of(volume_)->to, replica(5));
  make_stable();
  write();
  expect_at_rest({replica(1), replica(2), replica(5)});
}

TEST_F(MoveStep, AVoterIsNeverTakenFromTheRecord) {
  begin();
  group_.voters = {replica(1), replica(2), replica(3), replica(4)};
  EXPECT_TRUE(rests());
  volume_.undo_move = true;
  EXPECT_TRUE(rests());
}

TEST_F(MoveStep, AVolumeOnItsWayOutIsLeftAlone) {
  begin();
  volume_.removing = true;
  EXPECT_TRUE(rests());
  learn(3, 4);
  EXPECT_TRUE(rests());
}

TEST_F(MoveStep, AServerMayReplaceAReplicaOfItsOwn) {
  const ReplicaRecord fresh{"vs3", replica(4).replica};
  volume_.replicas.push_back(fresh);
  volume_.move_from = replica(3).replica;
  volume_.move_to = fresh.replica;
  EXPECT_TRUE(asks());
  group_.voters = {replica(1), replica(2), fresh};
  write();
  expect_at_rest({replica(1), replica(2), fresh});
}

}  // namespace
}  // namespace datom::config_service

#include "sim/history.h"

#include <gtest/gtest.h>

namespace datom::sim {
namespace {

using namespace std::chrono_literals;

TEST(History, SequentialWritesAndReadsAreFine) {
  History history;
  history.read(1, 0, 0ns, 1ns);
  history.write_ends(history.write_begins(1, 7, 2ns), 3ns);
  history.read(1, 7, 4ns, 5ns);
  history.write_ends(history.write_begins(1, 8, 6ns), 7ns);
  history.read(1, 8, 8ns, 9ns);
  EXPECT_EQ(history.violation(), std::nullopt);
}

TEST(History, AReadOfAnOverwrittenValueIsStale) {
  History history;
  history.write_ends(history.write_begins(1, 7, 2ns), 3ns);
  history.write_ends(history.write_begins(1, 8, 4ns), 5ns);
  history.read(1, 7, 6ns, 7ns);
  EXPECT_NE(history.violation(), std::nullopt);
}

TEST(History, AReadOfTheInitialValueAfterAnAcknowledgedWriteIsALostWrite) {
  History history;
  history.write_ends(history.write_begins(1, 7, 2ns), 3ns);
  history.read(1, 0, 6ns, 7ns);
  EXPECT_NE(history.violation(), std::nullopt);
}

TEST(History, ValuesMustNotGoBackAndForth) {
  History history;
  history.write_ends(history.write_begins(1, 7, 1ns), 10ns);
  history.write_ends(history.write_begins(1, 8, 1ns), 10ns);
  history.read(1, 7, 11ns, 12ns);
  history.read(1, 8, 13ns, 14ns);
  EXPECT_NE(history.violation(), std::nullopt);
}

TEST(History, ConcurrentOperationsMayGoEitherWay) {
  History history;
  const auto write = history.write_begins(1, 7, 1ns);
  history.read(1, 0, 2ns, 4ns);
  history.read(1, 7, 3ns, 5ns);
  history.write_ends(write, 9ns);
  EXPECT_EQ(history.violation(), std::nullopt);
}

TEST(History, WhatBeginsAsAnotherEndsMayComeBeforeIt) {
  History history;
  history.write_ends(history.write_begins(1, 7, 1ns), 5ns);
  history.write_ends(history.write_begins(1, 8, 2ns), 5ns);
  history.read(1, 7, 5ns, 6ns);
  history.read(1, 8, 7ns, 8ns);
  EXPECT_EQ(history.violation(), std::nullopt);
}

TEST(History, AWriteOfUnknownOutcomeMayHappenLaterOrNever) {
  History history;
  history.write_begins(1, 7, 1ns);
  history.write_ends(history.write_begins(1, 8, 2ns), 3ns);
  history.read(1, 8, 4ns, 5ns);
  EXPECT_EQ(history.violation(), std::nullopt);
  history.read(1, 7, 6ns, 7ns);
  EXPECT_EQ(history.violation(), std::nullopt);
  history.read(1, 8, 8ns, 9ns);
  EXPECT_NE(history.violation(), std::nullopt) << "it cannot un-happen";
}

TEST(History, AWriteOfUnknownOutcomeThatWasFencedMayNotHappenLater) {
  History history;
  const auto unknown = history.write_begins(1, 7, 1ns);
  history.write_ends(history.write_begins(1, 8, 2ns), 3ns);
  history.takes_effect_by(unknown, 4ns);
  history.read(1, 8, 5ns, 6ns);
  EXPECT_EQ(history.violation(), std::nullopt) << "it may never happen";
  history.read(1, 7, 7ns, 8ns);
  EXPECT_NE(history.violation(), std::nullopt);
}

TEST(History, AValueThatNobodyWroteIsAFailure) {
  History history;
  history.read(1, 9, 1ns, 2ns);
  EXPECT_NE(history.violation(), std::nullopt);
}

}  // namespace
}  // namespace datom::sim

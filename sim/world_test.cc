#include "sim/world.h"

#include <gtest/gtest.h>

namespace datom::sim {
namespace {

// Every seed that ever failed, with what it showed.
constexpr std::uint64_t kFailedOnce[] = {
    3,   // a change was acknowledged though an attach before it in the journal had closed its
         // session
    43,  // the same, over a failover
};

TEST(Simulation, SeedsThatFailedOnceHold) {
  for (const std::uint64_t seed : kFailedOnce) {
    const Outcome outcome = simulate(seed, telemetry::Log::silent());
    EXPECT_EQ(outcome.failure, std::nullopt) << "seed " << seed;
  }
}

TEST(Simulation, FreshSeedsHoldAndReachWhatTheyAreMeantToTry) {
  std::uint64_t acknowledged = 0;
  std::uint64_t crashes = 0;
  std::uint64_t terms = 0;
  for (std::uint64_t seed = 1000; seed < 1025; ++seed) {
    const Outcome outcome = simulate(seed, telemetry::Log::silent());
    EXPECT_EQ(outcome.failure, std::nullopt) << "seed " << seed;
    acknowledged += outcome.acknowledged;
    crashes += outcome.crashes;
    terms += outcome.elections;
  }
  EXPECT_GT(acknowledged, 30'000u);
  EXPECT_GT(crashes, 100u);
  EXPECT_GT(terms, 60u);
}

TEST(Simulation, TheSameSeedGivesTheSameRun) {
  const Outcome once = simulate(7, telemetry::Log::silent());
  const Outcome again = simulate(7, telemetry::Log::silent());
  EXPECT_EQ(once.trace, again.trace);
  EXPECT_NE(once.trace, simulate(8, telemetry::Log::silent()).trace);
}

}  // namespace
}  // namespace datom::sim

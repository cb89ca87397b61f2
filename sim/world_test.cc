#include "sim/world.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <vector>

namespace datom::sim {
namespace {

std::vector<std::uint64_t> seeds_that_failed_once() {
  std::ifstream file(DATOM_SOURCE_DIR "/sim/seeds.txt");
  std::vector<std::uint64_t> seeds;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::uint64_t seed = 0;
    if (words >> seed) seeds.push_back(seed);
  }
  return seeds;
}

TEST(Simulation, SeedsThatFailedOnceHold) {
  const std::vector<std::uint64_t> seeds = seeds_that_failed_once();
  ASSERT_FALSE(seeds.empty());
  for (const std::uint64_t seed : seeds) {
    const Outcome outcome = run_seed(seed);
    EXPECT_EQ(outcome.failure, std::nullopt) << "seed " << seed;
  }
}

TEST(Simulation, FreshSeedsHoldAndReachWhatTheyAreMeantToTry) {
  std::uint64_t acknowledged = 0;
  std::uint64_t crashes = 0;
  std::uint64_t terms = 0;
  for (std::uint64_t seed = 1000; seed < 1025; ++seed) {
    Outcome outcome = run_seed(seed);
    EXPECT_EQ(outcome.failure, std::nullopt) << "seed " << seed;
    acknowledged += outcome.acknowledged;
    crashes += outcome.injected["crash"];
    terms += outcome.terms;
  }
  EXPECT_GT(acknowledged, 10'000u);
  EXPECT_GT(crashes, 100u);
  EXPECT_GT(terms, 60u);
}

TEST(Simulation, FaultsThatAreSwitchedOffDoNotHappen) {
  Options options;
  for (unsigned i = 0; i < kFaultClasses; ++i) options.without.insert(static_cast<FaultClass>(i));
  const Outcome outcome = run_seed(1000, options);
  EXPECT_EQ(outcome.failure, std::nullopt);
  for (const auto& [fault, many] : outcome.injected) EXPECT_EQ(many, 0u) << fault;
}

TEST(Simulation, SwitchingOneClassOffLeavesTheOthersAsTheyWere) {
  FaultSet without;
  without.insert(FaultClass::crash);
  const Faults all = Faults::draw(1000, {});
  const Faults some = Faults::draw(1000, without);
  EXPECT_EQ(some.crashes, 0);
  EXPECT_EQ(some.crashes_of_all, all.crashes_of_all);
  EXPECT_EQ(some.network.loss_percent, all.network.loss_percent);
}

TEST(Simulation, TheSameSeedGivesTheSameRun) {
  const Outcome once = run_seed(7);
  const Outcome again = run_seed(7);
  EXPECT_EQ(once.trace, again.trace);
  EXPECT_NE(once.trace, run_seed(8).trace);
}

}  // namespace
}  // namespace datom::sim

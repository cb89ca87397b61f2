#include "replication/state.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>
#include <string>

namespace datom::replication {
namespace {

std::string row(const Transition& transition) {
  return "| " + std::string(name(transition.from)) + " | " + std::string(name(transition.cause)) +
         " | " + std::string(transition.guard) + " | " + std::string(transition.action) + " | " +
         std::string(name(transition.to)) + " |";
}

TEST(StateTable, IsTheOneInTheDocument) {
  std::ifstream file(DATOM_SOURCE_DIR "/docs/replication.md");
  ASSERT_TRUE(file.is_open());
  std::stringstream text;
  text << file.rdbuf();
  std::string expected;
  for (const Transition& transition : transitions()) expected += row(transition) + "\n";
  EXPECT_NE(text.str().find(expected), std::string::npos)
      << "docs/replication.md must hold these rows:\n"
      << expected;
}

TEST(StateTable, NamesEachTransitionOnce) {
  std::set<std::tuple<State, Cause, State>> seen;
  for (const Transition& transition : transitions()) {
    EXPECT_TRUE(seen.emplace(transition.from, transition.cause, transition.to).second)
        << row(transition);
  }
}

TEST(StateTable, LetsNobodyLeadWithoutHavingBeenChosen) {
  for (const Transition& transition : transitions()) {
    if (transition.to == State::leader_waiting_for_quorum) {
      EXPECT_EQ(transition.cause, Cause::chosen);
    }
    if (transition.to == State::leader_functional) {
      EXPECT_EQ(transition.cause, Cause::no_op_committed);
      EXPECT_EQ(transition.from, State::leader_waiting_for_quorum);
    }
  }
}

}  // namespace
}  // namespace datom::replication

// What the contract tests (coordination_contract_test.cc) need of an implementation of
// coordination: sessions, and power over what befalls them. Each implementation says how it is
// done, and runs the tests with INSTANTIATE_TEST_SUITE_P(NAME, CoordinationContract, ...).
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "coordination/client.h"
#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::coordination {

class TestSession {
 public:
  virtual ~TestSession() = default;

  virtual Client& client() = 0;
  // Of the same session, on the same loop.
  virtual std::unique_ptr<Client> another_client() = 0;

  // Its connection breaks, and cannot be made again until mend().
  virtual void cut() = 0;
  virtual void mend() = 0;
  // Runs `call`, which creates `path`, and breaks the connection, as cut(), when the node is there
  // but no answer has come. Throws what `call` throws.
  virtual runtime::Task<void> cut_before_the_answer(runtime::Task<void> call, std::string path) = 0;
  // The session expires while it is cut off, which is then mended.
  virtual runtime::Task<void> expire() = 0;
  // The orderly end.
  virtual void end() = 0;
};

// An empty tree.
class TestWorld {
 public:
  virtual ~TestWorld() = default;

  virtual runtime::Loop& loop() = 0;
  virtual void run(runtime::Task<void> task) = 0;
  // A new session, connected.
  virtual runtime::Task<std::unique_ptr<TestSession>> open_session() = 0;
};

using MakeTestWorld = std::function<std::unique_ptr<TestWorld>()>;

class CoordinationContract : public ::testing::TestWithParam<MakeTestWorld> {
 protected:
  // Runs a test that is a coroutine.
  void run(runtime::Task<void> (*test)(TestWorld& world)) {
    const std::unique_ptr<TestWorld> world = GetParam()();
    world->run(test(*world));
  }
};

}  // namespace datom::coordination

// The contract tests on the tree in memory, in virtual time.
#include <utility>

#include "coordination/coordination_contract.h"
#include "coordination/memory/memory.h"
#include "runtime/task_group.h"
#include "runtime/virtual_loop.h"

namespace datom::coordination {
namespace {

using runtime::Task;

class MemorySession final : public TestSession {
 public:
  MemorySession(MemoryTree& tree, runtime::Loop& loop)
      : tree_(tree), loop_(loop), client_(tree.open_session(loop)), id_(client_->session_id()) {}

  Client& client() override { return *client_; }
  std::unique_ptr<Client> another_client() override { return tree_.join_session(id_, loop_); }
  void cut() override { tree_.disconnect(id_); }
  void mend() override { tree_.reconnect(id_); }
  Task<void> cut_before_the_answer(Task<void> call, std::string) override {
    std::exception_ptr error;
    runtime::TaskGroup group(loop_, [&error](std::exception_ptr thrown) { error = thrown; });
    group.spawn(std::move(call));  // happens now; the answer comes through the loop
    cut();
    co_await group.close();
    if (error) std::rethrow_exception(error);
  }
  Task<void> expire() override {
    cut();
    tree_.expire(id_);
    co_return;
  }
  void end() override { tree_.end(id_); }

 private:
  MemoryTree& tree_;
  runtime::Loop& loop_;
  std::unique_ptr<Client> client_;
  std::int64_t id_;
};

class MemoryWorld final : public TestWorld {
 public:
  runtime::Loop& loop() override { return loop_; }
  void run(Task<void> task) override { loop_.run(std::move(task)); }
  Task<std::unique_ptr<TestSession>> open_session() override {
    co_return std::make_unique<MemorySession>(tree_, loop_);
  }

 private:
  runtime::VirtualLoop loop_;
  MemoryTree tree_;
};

INSTANTIATE_TEST_SUITE_P(Memory, CoordinationContract, ::testing::Values(MakeTestWorld([] {
                           return std::make_unique<MemoryWorld>();
                         })),
                         [](const auto&) { return "Tree"; });

}  // namespace
}  // namespace datom::coordination

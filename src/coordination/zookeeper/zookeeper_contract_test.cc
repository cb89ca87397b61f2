// The contract tests on a real ZooKeeper server. Each world is a chroot of its own; each session
// reaches the server through a proxy that can be cut.
#include <chrono>
#include <utility>
#include <vector>

#include "coordination/coordination_contract.h"
#include "coordination/zookeeper/test_proxy.h"
#include "coordination/zookeeper/test_server.h"
#include "coordination/zookeeper/zookeeper.h"
#include "runtime/event_loop.h"
#include "runtime/task_group.h"
#include "runtime/wait.h"

namespace datom::coordination {
namespace {

using namespace std::chrono_literals;
using runtime::Task;

constexpr auto kPatience = 60s;

Task<void> wait_until(runtime::Loop& loop, Client& client, std::string path, bool there) {
  runtime::Event changed(loop);
  for (;;) {
    WatchHandle watch;
    changed.clear();
    const std::optional<Node> node =
        co_await client.get(path, [&changed] { changed.set(); }, watch);
    if (node.has_value() == there) co_return;
    co_await changed.wait();
  }
}

class ZooKeeperTestSession final : public TestSession {
 public:
  ZooKeeperTestSession(const ZooKeeperServer& server, const std::string& chroot, Client& observer,
                       runtime::Loop& loop)
      : proxy_(server.port()), observer_(observer), loop_(loop) {
    ZooKeeperOptions options;
    options.servers = "127.0.0.1:" + std::to_string(proxy_.port()) + chroot;
    options.session_timeout = 1s;
    session_ = ZooKeeperSession::open(options);
    client_ = session_->make_client(loop);
  }
  ~ZooKeeperTestSession() override { session_->close(); }

  // The marker is gone once the server has ended the session.
  Task<void> connect() {
    co_await session_->wait_connected(loop_, kPatience);
    marker_ = "/marker-" + std::to_string(client_->session_id());
    co_await client_->create(marker_, "", {true, false});
  }

  Client& client() override { return *client_; }
  std::unique_ptr<Client> another_client() override { return session_->make_client(loop_); }
  void cut() override { proxy_.set_mode(TestProxy::Mode::cut); }
  void mend() override { proxy_.set_mode(TestProxy::Mode::forward); }
  Task<void> cut_before_the_answer(Task<void> call, std::string path) override {
    proxy_.set_mode(TestProxy::Mode::lose_answers);
    std::exception_ptr error;
    runtime::TaskGroup group(loop_, [&error](std::exception_ptr thrown) { error = thrown; });
    group.spawn(std::move(call));
    co_await wait_until(loop_, observer_, path, true);
    cut();
    co_await group.close();
    if (error) std::rethrow_exception(error);
  }
  Task<void> expire() override {
    cut();
    co_await wait_until(loop_, observer_, marker_, false);
    mend();
  }
  void end() override { session_->close(); }

 private:
  TestProxy proxy_;
  Client& observer_;
  runtime::Loop& loop_;
  std::shared_ptr<ZooKeeperSession> session_;
  std::unique_ptr<Client> client_;
  std::string marker_;
};

class ZooKeeperWorld final : public TestWorld {
 public:
  ZooKeeperWorld(const ZooKeeperServer& server, std::string chroot)
      : server_(server), chroot_(std::move(chroot)) {
    ZooKeeperOptions options;
    options.servers = server.address() + chroot_;
    observer_session_ = ZooKeeperSession::open(options);
    observer_ = observer_session_->make_client(loop_);
    loop_.run(prepare());
  }
  ~ZooKeeperWorld() override { observer_session_->close(); }

  runtime::Loop& loop() override { return loop_; }
  void run(Task<void> task) override { loop_.run(std::move(task)); }
  Task<std::unique_ptr<TestSession>> open_session() override {
    auto session = std::make_unique<ZooKeeperTestSession>(server_, chroot_, *observer_, loop_);
    co_await session->connect();
    co_return session;
  }

 private:
  Task<void> prepare() {
    co_await observer_session_->wait_connected(loop_, kPatience);
    co_await ensure_path(*observer_, "/");  // the chroot
  }

  const ZooKeeperServer& server_;
  const std::string chroot_;
  runtime::EventLoop loop_;
  std::shared_ptr<ZooKeeperSession> observer_session_;
  std::unique_ptr<Client> observer_;
};

// One server for all, started by the first test that needs it.
std::unique_ptr<TestWorld> make_world() {
  static const ZooKeeperServer server;
  static int worlds = 0;
  return std::make_unique<ZooKeeperWorld>(server, "/world-" + std::to_string(++worlds));
}

INSTANTIATE_TEST_SUITE_P(ZooKeeper, CoordinationContract,
                         ::testing::Values(MakeTestWorld(make_world)),
                         [](const auto&) { return "Server"; });

}  // namespace
}  // namespace datom::coordination

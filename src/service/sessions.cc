#include "service/sessions.h"

#include <mutex>
#include <thread>
#include <utility>

#include "coordination/memory/memory.h"
#include "coordination/zookeeper/zookeeper.h"
#include "runtime/wait.h"

namespace datom::service {
namespace {

using runtime::Task;

class ZooKeeperBacked final : public Session {
 public:
  ZooKeeperBacked(const std::string& servers, std::chrono::milliseconds timeout)
      : session_(coordination::ZooKeeperSession::open(
            {.servers = servers, .session_timeout = timeout})) {}

  Task<void> wait_connected(runtime::Loop& loop, runtime::Duration timeout) override {
    return session_->wait_connected(loop, timeout);
  }
  std::unique_ptr<coordination::Client> make_client(runtime::Loop& loop) override {
    return session_->make_client(loop);
  }
  // It blocks, for seconds where no server answers, hence on a thread that is joined right after.
  Task<void> close(runtime::Loop& loop) override {
    if (std::exchange(closed_, true)) co_return;
    runtime::Event done(loop);
    std::thread closing([this, &loop, &done] {
      session_->close();
      loop.post([&done] { done.set(); });
    });
    co_await done.wait();
    closing.join();
  }

 private:
  bool closed_ = false;
  std::shared_ptr<coordination::ZooKeeperSession> session_;
};

class MemoryBacked final : public Session {
 public:
  explicit MemoryBacked(coordination::MemoryTree& tree) : tree_(tree) {}

  Task<void> wait_connected(runtime::Loop&, runtime::Duration) override { co_return; }
  std::unique_ptr<coordination::Client> make_client(runtime::Loop& loop) override {
    const std::lock_guard guard(mutex_);
    if (id_ != 0) return tree_.join_session(id_, loop);
    std::unique_ptr<coordination::Client> client = tree_.open_session(loop);
    id_ = client->session_id();
    return client;
  }
  Task<void> close(runtime::Loop&) override {
    const std::lock_guard guard(mutex_);
    if (id_ != 0) tree_.end(id_);
    co_return;
  }

 private:
  coordination::MemoryTree& tree_;
  std::mutex mutex_;
  std::int64_t id_ = 0;  // guarded by mutex_; 0: no client was made yet
};

}  // namespace

std::shared_ptr<Session> open_zookeeper_session(const std::string& servers,
                                                std::chrono::milliseconds timeout) {
  return std::make_shared<ZooKeeperBacked>(servers, timeout);
}

std::shared_ptr<Session> open_memory_session(coordination::MemoryTree& tree) {
  return std::make_shared<MemoryBacked>(tree);
}

}  // namespace datom::service

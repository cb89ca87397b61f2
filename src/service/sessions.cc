#include "service/sessions.h"

#include <mutex>

#include "coordination/memory/memory.h"
#include "coordination/zookeeper/zookeeper.h"

namespace datom::service {
namespace {

using runtime::Task;

class ZooKeeperBacked final : public Session {
 public:
  explicit ZooKeeperBacked(const std::string& servers)
      : session_(coordination::ZooKeeperSession::open({.servers = servers})) {}

  Task<void> wait_connected(runtime::Loop& loop, runtime::Duration timeout) override {
    return session_->wait_connected(loop, timeout);
  }
  std::unique_ptr<coordination::Client> make_client(runtime::Loop& loop) override {
    return session_->make_client(loop);
  }
  void close() override { session_->close(); }

 private:
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
  void close() override {
    const std::lock_guard guard(mutex_);
    if (id_ != 0) tree_.end(id_);
  }

 private:
  coordination::MemoryTree& tree_;
  std::mutex mutex_;
  std::int64_t id_ = 0;  // guarded by mutex_; 0: no client was made yet
};

}  // namespace

std::shared_ptr<Session> open_zookeeper_session(const std::string& servers) {
  return std::make_shared<ZooKeeperBacked>(servers);
}

std::shared_ptr<Session> open_memory_session(coordination::MemoryTree& tree) {
  return std::make_shared<MemoryBacked>(tree);
}

}  // namespace datom::service

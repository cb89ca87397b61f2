// A client of a ZooKeeper session, on one loop.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordination/client.h"
#include "coordination/zookeeper/session.h"
#include "runtime/loop.h"

namespace datom::coordination::zookeeper {

class ZooKeeperClient final : public Client {
 public:
  ZooKeeperClient(std::shared_ptr<Session> session, runtime::Loop& loop)
      : session_(std::move(session)), loop_(loop) {}

  runtime::Task<std::string> create(std::string path, std::string data,
                                    CreateOptions options) override;
  runtime::Task<Version> set(std::string path, std::string data, Version expected) override;
  runtime::Task<void> remove(std::string path, Version expected) override;
  runtime::Task<std::vector<OperationResult>> multi(std::vector<Operation> operations) override;

  runtime::Task<std::optional<Node>> get(std::string path) override;
  runtime::Task<std::optional<Node>> get(std::string path, OnChange on_change,
                                         WatchHandle& watch) override;
  runtime::Task<std::optional<std::vector<std::string>>> children(std::string path) override;
  runtime::Task<std::optional<std::vector<std::string>>> children(std::string path,
                                                                  OnChange on_change,
                                                                  WatchHandle& watch) override;
  runtime::Task<void> sync() override;

  SessionState state() const override { return session_->state(); }
  std::int64_t session_id() const override { return session_->id(); }
  WatchHandle watch_session(std::function<void(SessionState)> on_state) override {
    return session_->watch_state(loop_, std::move(on_state));
  }

 private:
  using Names = std::vector<std::string>;
  RegistrationPtr watch_for(const std::string& path, bool of_children, OnChange on_change);
  // With `watch`, it is set if the node is there.
  runtime::Task<std::optional<Node>> read(std::string path, RegistrationPtr watch);
  runtime::Task<std::optional<Names>> list(std::string path, RegistrationPtr watch);
  // True, and the watch set, if there is no such node.
  runtime::Task<bool> watch_missing(std::string path, RegistrationPtr watch);

  std::shared_ptr<Session> session_;
  runtime::Loop& loop_;
};

}  // namespace datom::coordination::zookeeper

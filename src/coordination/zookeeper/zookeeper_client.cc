#include "coordination/zookeeper/zookeeper_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/error.h"
#include "coordination/checks.h"
#include "coordination/zookeeper/reply.h"

namespace datom::coordination::zookeeper {
namespace {

// A node that comes and goes this often while its watch is being set is given up.
constexpr int kMaxAttempts = 16;
constexpr std::size_t kSequenceRoom = 16;  // 10 digits, perhaps a sign, and the end of the string

class ZooKeeperWatch final : public Watch {
 public:
  ZooKeeperWatch(std::shared_ptr<Session> session, RegistrationPtr registration)
      : session_(std::move(session)), registration_(std::move(registration)) {}
  ~ZooKeeperWatch() override {
    registration_->callback->silence();
    session_->forget_watch(registration_);
  }

 private:
  std::shared_ptr<Session> session_;
  RegistrationPtr registration_;
};

int mode_of(CreateOptions options) {
  if (options.ephemeral) return options.sequential ? ZOO_EPHEMERAL_SEQUENTIAL : ZOO_EPHEMERAL;
  return options.sequential ? ZOO_PERSISTENT_SEQUENTIAL : ZOO_PERSISTENT;
}

int size_of(const std::string& data) {
  return static_cast<int>(data.size());
}

Stat stat_of(const ::Stat& stat) {
  return Stat{stat.version, stat.czxid, stat.ephemeralOwner, stat.numChildren};
}

// The arguments of zoo_amulti, which keeps pointers into them until its completion.
class MultiCall {
 public:
  explicit MultiCall(const std::vector<Operation>& operations)
      : operations_(operations),
        calls_(operations.size()),
        results_(operations.size()),
        paths_(operations.size()),
        stats_(operations.size()) {
    for (std::size_t i = 0; i < operations.size(); ++i) {
      std::visit([&](const auto& step) { prepare(i, step); }, operations[i]);
    }
  }

  int count() const { return static_cast<int>(calls_.size()); }
  const zoo_op_t* calls() const { return calls_.data(); }
  zoo_op_result_t* results() { return results_.data(); }

  OperationResult result(std::size_t index) const {
    if (std::holds_alternative<Create>(operations_[index])) return {paths_[index].c_str(), 0};
    return {{}, stats_[index].version};
  }
  // Those that were rolled back, or not tried, bear ZOK or ZRUNTIMEINCONSISTENCY.
  std::size_t failed_step() const {
    const auto failed = [](const zoo_op_result_t& result) { return is_unmet(result.err); };
    return static_cast<std::size_t>(std::find_if(results_.begin(), results_.end(), failed) -
                                    results_.begin());
  }

 private:
  void prepare(std::size_t i, const Create& step) {
    paths_[i].resize(step.path.size() + kSequenceRoom);
    zoo_create_op_init(&calls_[i], step.path.c_str(), step.data.data(), size_of(step.data),
                       &ZOO_OPEN_ACL_UNSAFE, mode_of(step.options), paths_[i].data(),
                       size_of(paths_[i]));
  }
  void prepare(std::size_t i, const Set& step) {
    zoo_set_op_init(&calls_[i], step.path.c_str(), step.data.data(), size_of(step.data),
                    step.expected, &stats_[i]);
  }
  void prepare(std::size_t i, const Delete& step) {
    zoo_delete_op_init(&calls_[i], step.path.c_str(), step.expected);
  }
  void prepare(std::size_t i, const Check& step) {
    stats_[i].version = step.expected;
    zoo_check_op_init(&calls_[i], step.path.c_str(), step.expected);
  }

  const std::vector<Operation>& operations_;
  std::vector<zoo_op_t> calls_;
  std::vector<zoo_op_result_t> results_;
  std::vector<std::string> paths_;
  std::vector<::Stat> stats_;
};

}  // namespace

runtime::Task<std::string> ZooKeeperClient::create(std::string path, std::string data,
                                                   CreateOptions options) {
  const Create step{std::move(path), std::move(data), options};
  check_step(step);
  Reply reply(*session_, loop_);
  co_await reply.of([&](zhandle_t* handle) {
    return zoo_acreate(handle, step.path.c_str(), step.data.data(), size_of(step.data),
                       &ZOO_OPEN_ACL_UNSAFE, mode_of(options), &Reply::on_path, &reply);
  });
  if (reply.code != ZOK) throw_answer(reply.code, "create " + step.path);
  co_return std::move(reply.text);
}

runtime::Task<Version> ZooKeeperClient::set(std::string path, std::string data, Version expected) {
  const Set step{std::move(path), std::move(data), expected};
  check_step(step);
  Reply reply(*session_, loop_);
  co_await reply.of([&](zhandle_t* handle) {
    return zoo_aset(handle, step.path.c_str(), step.data.data(), size_of(step.data), expected,
                    &Reply::on_stat, &reply);
  });
  if (reply.code != ZOK) throw_answer(reply.code, "set " + step.path);
  co_return reply.stat.version;
}

runtime::Task<void> ZooKeeperClient::remove(std::string path, Version expected) {
  const Delete step{std::move(path), expected};
  check_step(step);
  Reply reply(*session_, loop_);
  co_await reply.of([&](zhandle_t* handle) {
    return zoo_adelete(handle, step.path.c_str(), expected, &Reply::on_done, &reply);
  });
  if (reply.code != ZOK) throw_answer(reply.code, "delete " + step.path);
}

runtime::Task<std::vector<OperationResult>> ZooKeeperClient::multi(
    std::vector<Operation> operations) {
  check_operations(operations);
  std::vector<OperationResult> results;
  if (operations.empty()) co_return results;
  MultiCall call(operations);
  Reply reply(*session_, loop_);
  co_await reply.of([&](zhandle_t* handle) {
    return zoo_amulti(handle, call.count(), call.calls(), call.results(), &Reply::on_done, &reply);
  });
  const std::size_t failed = call.failed_step();
  if (is_unmet(reply.code) && failed < operations.size()) {
    throw Error(Code::conflict, "multi step {} ({}): {}", failed, describe(operations[failed]),
                zerror(call.results()[failed].err));
  }
  if (reply.code != ZOK) {
    throw_answer(reply.code, fmt::format("multi of {} steps", operations.size()));
  }
  for (std::size_t i = 0; i < operations.size(); ++i) results.push_back(call.result(i));
  co_return results;
}

RegistrationPtr ZooKeeperClient::watch_for(const std::string& path, bool of_children,
                                           OnChange on_change) {
  auto callback = std::make_shared<LoopCallback<>>(loop_, std::move(on_change));
  return std::make_shared<Registration>(Registration{path, of_children, std::move(callback)});
}

runtime::Task<std::optional<Node>> ZooKeeperClient::read(std::string path, RegistrationPtr watch) {
  check_path(path);
  Reply reply(*session_, loop_, std::move(watch), ZOK);
  co_await reply.of([&](zhandle_t* handle) {
    return zoo_awget(handle, path.c_str(), reply.watcher(), reply.watcher_context(),
                     &Reply::on_data, &reply);
  });
  if (reply.code == ZNONODE) co_return std::nullopt;
  if (reply.code != ZOK) throw_answer(reply.code, "get " + path);
  Node node{std::move(reply.text), stat_of(reply.stat)};
  co_return node;
}

runtime::Task<std::optional<ZooKeeperClient::Names>> ZooKeeperClient::list(std::string path,
                                                                           RegistrationPtr watch) {
  check_path(path);
  Reply reply(*session_, loop_, std::move(watch), ZOK);
  co_await reply.of([&](zhandle_t* handle) {
    return zoo_awget_children(handle, path.c_str(), reply.watcher(), reply.watcher_context(),
                              &Reply::on_names, &reply);
  });
  if (reply.code == ZNONODE) co_return std::nullopt;
  if (reply.code != ZOK) throw_answer(reply.code, "children of " + path);
  std::sort(reply.names.begin(), reply.names.end());
  co_return std::move(reply.names);
}

runtime::Task<bool> ZooKeeperClient::watch_missing(std::string path, RegistrationPtr watch) {
  Reply reply(*session_, loop_, std::move(watch), ZNONODE);
  co_await reply.of([&](zhandle_t* handle) {
    return zoo_awexists(handle, path.c_str(), reply.watcher(), reply.watcher_context(),
                        &Reply::on_stat, &reply);
  });
  if (reply.code != ZOK && reply.code != ZNONODE) throw_answer(reply.code, "get " + path);
  co_return reply.code == ZNONODE;
}

runtime::Task<std::optional<Node>> ZooKeeperClient::get(std::string path) {
  return read(std::move(path), nullptr);
}

runtime::Task<std::optional<Node>> ZooKeeperClient::get(std::string path, OnChange on_change,
                                                        WatchHandle& watch) {
  const RegistrationPtr registration = watch_for(path, false, std::move(on_change));
  auto handle = std::make_unique<ZooKeeperWatch>(session_, registration);
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    std::optional<Node> node = co_await read(path, registration);
    bool watched = node.has_value();
    if (!watched) watched = co_await watch_missing(path, registration);
    if (!watched) continue;
    watch = std::move(handle);
    co_return node;
  }
  throw Error(Code::unavailable, "get {}: it comes and goes too fast", path);
}

runtime::Task<std::optional<std::vector<std::string>>> ZooKeeperClient::children(std::string path) {
  return list(std::move(path), nullptr);
}

runtime::Task<std::optional<std::vector<std::string>>> ZooKeeperClient::children(
    std::string path, OnChange on_change, WatchHandle& watch) {
  const RegistrationPtr registration = watch_for(path, true, std::move(on_change));
  auto handle = std::make_unique<ZooKeeperWatch>(session_, registration);
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    std::optional<Names> names = co_await list(path, registration);
    bool watched = names.has_value();
    if (!watched) watched = co_await watch_missing(path, registration);
    if (!watched) continue;
    watch = std::move(handle);
    co_return names;
  }
  throw Error(Code::unavailable, "children of {}: it comes and goes too fast", path);
}

runtime::Task<void> ZooKeeperClient::sync() {
  Reply reply(*session_, loop_);
  co_await reply.of(
      [&](zhandle_t* handle) { return zoo_async(handle, "/", &Reply::on_path, &reply); });
  if (reply.code != ZOK) throw_answer(reply.code, "sync");
}

}  // namespace datom::coordination::zookeeper

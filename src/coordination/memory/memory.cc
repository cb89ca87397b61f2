#include "coordination/memory/memory.h"

#include <algorithm>
#include <coroutine>
#include <exception>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/error.h"
#include "coordination/checks.h"
#include "coordination/loop_callback.h"
#include "coordination/memory/tree.h"

namespace datom::coordination {
namespace {

using memory::Change;
using memory::NodeState;
using memory::Transaction;
using memory::Tree;
using StateCallback = LoopCallback<SessionState>;

struct Session;

// A watch until it has fired or its handle is destroyed.
struct Registration {
  Change subject;
  std::shared_ptr<Session> session;
  std::shared_ptr<LoopCallback<>> callback;
};
using RegistrationPtr = std::shared_ptr<Registration>;

struct Session {
  explicit Session(std::int64_t session_id) : id(session_id) {}

  const std::int64_t id;
  SessionState state = SessionState::connected;
  // Counts broken connections: an answer on its way when one breaks is lost.
  std::uint64_t breaks = 0;
  std::vector<std::shared_ptr<StateCallback>> listeners;
  std::vector<RegistrationPtr> undelivered;  // fired while disconnected
  bool over = false;                         // it has expired, and nobody has heard of it yet
};
using SessionPtr = std::shared_ptr<Session>;

}  // namespace

// Callbacks are posted under the lock: so they arrive in the order of the changes, and none arrives
// after its handle is gone.
struct MemoryTree::Impl {
  std::mutex mutex;
  std::function<void(const std::string&)> on_persistent_change;
  std::function<void(const memory::Commit&)> on_commit;
  Tree tree;
  std::map<std::int64_t, SessionPtr> sessions;  // the open ones
  std::int64_t next_session = 1;
  std::multimap<std::string, RegistrationPtr> watches;  // by path

  std::vector<OperationResult> write(const std::vector<Operation>& operations, bool multi,
                                     std::int64_t session);
  void commit(Transaction& transaction);
  void fire(const Change& change);
  void forget(const RegistrationPtr& registration);
  void set_state(Session& session, SessionState state);
  void remove_ephemerals(std::int64_t session_id);
  void close(std::int64_t session_id, bool tell);
};

namespace {

using Impl = MemoryTree::Impl;

OperationResult apply_step(Transaction& transaction, const std::vector<Operation>& operations,
                           std::size_t index, std::int64_t session) {
  try {
    return transaction.apply(operations[index], session);
  } catch (const Error& error) {
    throw Error(Code::conflict, "multi step {} ({}): {}", index, describe(operations[index]),
                error.what());
  }
}

}  // namespace

std::vector<OperationResult> MemoryTree::Impl::write(const std::vector<Operation>& operations,
                                                     bool multi, std::int64_t session) {
  Transaction transaction(tree);
  std::vector<OperationResult> results;
  for (std::size_t i = 0; i < operations.size(); ++i) {
    results.push_back(multi ? apply_step(transaction, operations, i, session)
                            : transaction.apply(operations[i], session));
  }
  commit(transaction);
  return results;
}

void MemoryTree::Impl::commit(Transaction& transaction) {
  if (transaction.persistent() && on_persistent_change) on_persistent_change(tree.to_json());
  const memory::Commit commit = transaction.commit();
  for (const Change& change : commit.changes) fire(change);
  if (on_commit) on_commit(commit);
}

void MemoryTree::Impl::fire(const Change& change) {
  auto [begin, end] = watches.equal_range(change.path);
  while (begin != end) {
    const RegistrationPtr registration = begin->second;
    if (registration->subject.of_children != change.of_children) {
      ++begin;
      continue;
    }
    begin = watches.erase(begin);
    if (registration->session->state == SessionState::connecting) {
      registration->session->undelivered.push_back(registration);
    } else {
      registration->callback->post();
    }
  }
}

void MemoryTree::Impl::forget(const RegistrationPtr& registration) {
  auto [begin, end] = watches.equal_range(registration->subject.path);
  while (begin != end) begin = begin->second == registration ? watches.erase(begin) : ++begin;
  std::erase(registration->session->undelivered, registration);
}

void MemoryTree::Impl::set_state(Session& session, SessionState state) {
  session.state = state;
  if (state != SessionState::connected) ++session.breaks;
  for (const auto& listener : session.listeners) listener->post(state);
  if (state == SessionState::connecting) return;
  for (const auto& registration : std::exchange(session.undelivered, {})) {
    registration->callback->post();
  }
}

void MemoryTree::Impl::close(std::int64_t session_id, bool tell) {
  const auto found = sessions.find(session_id);
  if (found == sessions.end()) return;
  const SessionPtr session = found->second;
  sessions.erase(found);
  std::erase_if(watches, [&](const auto& entry) {
    if (entry.second->session != session) return false;
    if (tell) entry.second->callback->post();
    return true;
  });
  if (!tell) {
    session->listeners.clear();
    session->undelivered.clear();
  }
  set_state(*session, SessionState::expired);
  remove_ephemerals(session_id);
}

void MemoryTree::Impl::remove_ephemerals(std::int64_t session_id) {
  Transaction transaction(tree);
  for (std::string& path : tree.owned_by(session_id)) {
    transaction.apply(Delete{std::move(path)}, session_id);
  }
  commit(transaction);
}

namespace {

class MemoryWatch final : public Watch {
 public:
  MemoryWatch(std::shared_ptr<Impl> tree, RegistrationPtr registration)
      : tree_(std::move(tree)), registration_(std::move(registration)) {}
  ~MemoryWatch() override {
    registration_->callback->silence();
    const std::lock_guard lock(tree_->mutex);
    tree_->forget(registration_);
  }

 private:
  std::shared_ptr<Impl> tree_;
  RegistrationPtr registration_;
};

class MemorySessionWatch final : public Watch {
 public:
  MemorySessionWatch(std::shared_ptr<Impl> tree, SessionPtr session,
                     std::shared_ptr<StateCallback> callback)
      : tree_(std::move(tree)), session_(std::move(session)), callback_(std::move(callback)) {}
  ~MemorySessionWatch() override {
    callback_->silence();
    const std::lock_guard lock(tree_->mutex);
    std::erase(session_->listeners, callback_);
  }

 private:
  std::shared_ptr<Impl> tree_;
  SessionPtr session_;
  std::shared_ptr<StateCallback> callback_;
};

class MemoryClient final : public Client {
 public:
  MemoryClient(std::shared_ptr<Impl> tree, SessionPtr session, runtime::Loop& loop)
      : tree_(std::move(tree)), session_(std::move(session)), loop_(loop) {}

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

  SessionState state() const override {
    const std::lock_guard lock(tree_->mutex);
    return session_->state;
  }
  std::int64_t session_id() const override { return session_->id; }
  WatchHandle watch_session(std::function<void(SessionState)> on_state) override;

 private:
  // Runs `body` under the lock; the caller goes on through the loop's queue, behind the callbacks
  // of what happened until then. Throws outcome_unknown when the connection broke meanwhile.
  template <typename Body>
  runtime::Task<void> execute(Body body);
  runtime::Task<std::vector<OperationResult>> write(std::vector<Operation> operations, bool multi);
  runtime::Task<OperationResult> write_one(Operation operation);
  RegistrationPtr watch_for(Change subject, OnChange on_change);
  // Under the lock.
  void require_connected() const;
  std::optional<Node> look_up(const std::string& path) const;
  std::optional<std::vector<std::string>> list(const std::string& path) const;

  std::shared_ptr<Impl> tree_;
  SessionPtr session_;
  runtime::Loop& loop_;
};

template <typename Body>
runtime::Task<void> MemoryClient::execute(Body body) {
  struct Step {
    MemoryClient& client;
    Body& body;
    std::exception_ptr error;
    std::uint64_t breaks = 0;

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> caller) {
      const std::lock_guard lock(client.tree_->mutex);
      try {
        client.require_connected();
        body();
      } catch (...) {
        error = std::current_exception();
      }
      breaks = client.session_->breaks;
      client.loop_.post([caller] { caller.resume(); });
    }
    void await_resume() const {
      if (error) std::rethrow_exception(error);
      const std::lock_guard lock(client.tree_->mutex);
      if (breaks != client.session_->breaks) {
        throw Error(Code::outcome_unknown, "coordination: the connection broke during the call");
      }
    }
  };
  Step step{*this, body, nullptr};
  co_await step;
}

void MemoryClient::require_connected() const {
  if (session_->state == SessionState::expired) {
    throw Error(Code::session_expired, "coordination: session {} is over", session_->id);
  }
  if (session_->state == SessionState::connecting) {
    throw Error(Code::unavailable, "coordination: session {} is not connected", session_->id);
  }
}

runtime::Task<std::vector<OperationResult>> MemoryClient::write(std::vector<Operation> operations,
                                                                bool multi) {
  check_operations(operations);
  std::vector<OperationResult> results;
  co_await execute([&] { results = tree_->write(operations, multi, session_->id); });
  co_return results;
}

runtime::Task<OperationResult> MemoryClient::write_one(Operation operation) {
  std::vector<Operation> operations;
  operations.push_back(std::move(operation));
  std::vector<OperationResult> results = co_await write(std::move(operations), false);
  co_return std::move(results.front());
}

runtime::Task<std::string> MemoryClient::create(std::string path, std::string data,
                                                CreateOptions options) {
  OperationResult result = co_await write_one(Create{std::move(path), std::move(data), options});
  co_return std::move(result.created_path);
}

runtime::Task<Version> MemoryClient::set(std::string path, std::string data, Version expected) {
  const OperationResult result =
      co_await write_one(Set{std::move(path), std::move(data), expected});
  co_return result.version;
}

runtime::Task<void> MemoryClient::remove(std::string path, Version expected) {
  co_await write_one(Delete{std::move(path), expected});
}

runtime::Task<std::vector<OperationResult>> MemoryClient::multi(std::vector<Operation> operations) {
  return write(std::move(operations), true);
}

RegistrationPtr MemoryClient::watch_for(Change subject, OnChange on_change) {
  auto callback = std::make_shared<LoopCallback<>>(loop_, std::move(on_change));
  return std::make_shared<Registration>(
      Registration{std::move(subject), session_, std::move(callback)});
}

std::optional<Node> MemoryClient::look_up(const std::string& path) const {
  const NodeState* found = tree_->tree.find(path);
  if (found == nullptr) return std::nullopt;
  const auto children = static_cast<std::int32_t>(found->children.size());
  return Node{found->data, Stat{found->version, found->created, found->owner, children}};
}

std::optional<std::vector<std::string>> MemoryClient::list(const std::string& path) const {
  const NodeState* found = tree_->tree.find(path);
  if (found == nullptr) return std::nullopt;
  return std::vector<std::string>(found->children.begin(), found->children.end());
}

runtime::Task<std::optional<Node>> MemoryClient::get(std::string path) {
  check_path(path);
  std::optional<Node> node;
  co_await execute([&] { node = look_up(path); });
  co_return node;
}

runtime::Task<std::optional<Node>> MemoryClient::get(std::string path, OnChange on_change,
                                                     WatchHandle& watch) {
  check_path(path);
  const RegistrationPtr registration = watch_for({path, false}, std::move(on_change));
  auto handle = std::make_unique<MemoryWatch>(tree_, registration);
  std::optional<Node> node;
  co_await execute([&] {
    node = look_up(path);
    tree_->watches.emplace(path, registration);
  });
  watch = std::move(handle);
  co_return node;
}

runtime::Task<std::optional<std::vector<std::string>>> MemoryClient::children(std::string path) {
  check_path(path);
  std::optional<std::vector<std::string>> names;
  co_await execute([&] { names = list(path); });
  co_return names;
}

runtime::Task<std::optional<std::vector<std::string>>> MemoryClient::children(std::string path,
                                                                              OnChange on_change,
                                                                              WatchHandle& watch) {
  check_path(path);
  const RegistrationPtr registration = watch_for({path, true}, std::move(on_change));
  auto handle = std::make_unique<MemoryWatch>(tree_, registration);
  std::optional<std::vector<std::string>> names;
  co_await execute([&] {
    names = list(path);
    tree_->watches.emplace(path, registration);
  });
  watch = std::move(handle);
  co_return names;
}

runtime::Task<void> MemoryClient::sync() {
  co_await execute([] {});
}

WatchHandle MemoryClient::watch_session(std::function<void(SessionState)> on_state) {
  auto callback = std::make_shared<StateCallback>(loop_, std::move(on_state));
  const std::lock_guard lock(tree_->mutex);
  session_->listeners.push_back(callback);
  return std::make_unique<MemorySessionWatch>(tree_, session_, std::move(callback));
}

}  // namespace

MemoryTree::MemoryTree(std::function<void(const std::string& json)> on_persistent_change)
    : impl_(std::make_shared<Impl>()) {
  impl_->on_persistent_change = std::move(on_persistent_change);
}

MemoryTree::~MemoryTree() = default;

void MemoryTree::load(const std::string& json) {
  const std::lock_guard lock(impl_->mutex);
  DATOM_CHECK(impl_->tree.empty());
  impl_->tree.load_json(json);
}

void MemoryTree::on_commit(std::function<void(const memory::Commit&)> observer) {
  const std::lock_guard lock(impl_->mutex);
  impl_->on_commit = std::move(observer);
}

std::unique_ptr<Client> MemoryTree::open_session(runtime::Loop& loop) {
  const std::lock_guard lock(impl_->mutex);
  const auto session = std::make_shared<Session>(impl_->next_session++);
  impl_->sessions.emplace(session->id, session);
  return std::make_unique<MemoryClient>(impl_, session, loop);
}

std::unique_ptr<Client> MemoryTree::join_session(std::int64_t session_id, runtime::Loop& loop) {
  const std::lock_guard lock(impl_->mutex);
  const auto found = impl_->sessions.find(session_id);
  if (found == impl_->sessions.end()) {
    throw Error(Code::not_found, "coordination: there is no session {}", session_id);
  }
  return std::make_unique<MemoryClient>(impl_, found->second, loop);
}

void MemoryTree::expire(std::int64_t session_id) {
  const std::lock_guard lock(impl_->mutex);
  impl_->close(session_id, true);
}

void MemoryTree::expire_unseen(std::int64_t session_id) {
  const std::lock_guard lock(impl_->mutex);
  const auto found = impl_->sessions.find(session_id);
  if (found == impl_->sessions.end()) return;
  if (found->second->state == SessionState::connected) {
    impl_->close(session_id, true);
    return;
  }
  found->second->over = true;
  impl_->remove_ephemerals(session_id);
}

void MemoryTree::end(std::int64_t session_id) {
  const std::lock_guard lock(impl_->mutex);
  impl_->close(session_id, false);
}

void MemoryTree::disconnect(std::int64_t session_id) {
  const std::lock_guard lock(impl_->mutex);
  const auto found = impl_->sessions.find(session_id);
  if (found == impl_->sessions.end()) return;
  if (found->second->state != SessionState::connected) return;
  impl_->set_state(*found->second, SessionState::connecting);
}

void MemoryTree::reconnect(std::int64_t session_id) {
  const std::lock_guard lock(impl_->mutex);
  const auto found = impl_->sessions.find(session_id);
  if (found == impl_->sessions.end()) return;
  if (found->second->state != SessionState::connecting) return;
  if (found->second->over) {
    impl_->close(session_id, true);
    return;
  }
  impl_->set_state(*found->second, SessionState::connected);
}

}  // namespace datom::coordination

#include "sim/ensemble.h"

#include <algorithm>
#include <utility>

#include "common/error.h"
#include "runtime/wait.h"

namespace datom::sim {

using coordination::Node;
using coordination::OnChange;
using coordination::SessionState;
using coordination::WatchHandle;
using coordination::memory::Change;
using coordination::memory::Commit;
using coordination::memory::NodeState;
using runtime::Task;

namespace {

constexpr runtime::Duration kUntilFound = std::chrono::seconds(1);  // after an outage
constexpr runtime::Duration kLook = std::chrono::milliseconds(1);

// A watch until it fired or its handle was destroyed: then it calls nobody.
struct Registration {
  Change subject;
  std::uint64_t as_of = 0;  // what was read with it
  OnChange on_change;

  void fire() {
    if (const OnChange call = std::exchange(on_change, nullptr)) call();
  }
};
using RegistrationPtr = std::shared_ptr<Registration>;

class RegisteredWatch final : public coordination::Watch {
 public:
  explicit RegisteredWatch(RegistrationPtr registration) : registration_(std::move(registration)) {}
  ~RegisteredWatch() override { registration_->on_change = nullptr; }

 private:
  RegistrationPtr registration_;
};

}  // namespace

// One of ZooKeeper's servers: what it has taken in so far, and who is connected to it.
class Ensemble::Server {
 public:
  explicit Server(runtime::VirtualLoop& world) : world_(world) {}

  std::uint64_t applied() const { return applied_; }
  const NodeState* find(const std::string& path) const {
    const auto found = nodes_.find(path);
    return found == nodes_.end() ? nullptr : &found->second;
  }
  // Which transaction last changed it.
  std::uint64_t changed(const Change& subject) const {
    const auto found = changed_.find({subject.path, subject.of_children});
    return found == changed_.end() ? 0 : found->second;
  }

  // What sets out later arrives later.
  void take(std::shared_ptr<const Commit> commit, runtime::Duration after) {
    behind_.push_back(std::move(commit));
    arrives_ = std::max(arrives_, world_.now() + after);
    if (arrives_ <= world_.now()) {
      apply_all();
    } else {
      apply_at(arrives_);
    }
  }
  void hold(runtime::Duration how_long) {
    held_until_ = std::max(held_until_, world_.now() + how_long);
    arrives_ = std::max(arrives_, held_until_);
  }
  void release() {
    held_until_ = arrives_ = world_.now();
    apply_all();
  }

  std::set<Client*> connected;

 private:
  // One more of what is behind then, if it has not come already.
  void apply_at(runtime::Time time) {
    world_.start_timer(time, [this] {
      if (world_.now() < held_until_) {
        apply_at(held_until_);
      } else if (!behind_.empty()) {
        apply();
      }
    });
  }
  void apply_all() {
    while (!behind_.empty()) apply();
  }
  void apply();

  runtime::VirtualLoop& world_;
  std::map<std::string, NodeState> nodes_;
  std::map<std::pair<std::string, bool>, std::uint64_t> changed_;
  std::uint64_t applied_ = 0;
  std::deque<std::shared_ptr<const Commit>> behind_;
  runtime::Time arrives_{};
  runtime::Time held_until_{};
};

// Writes go to the tree, reads to the server that it is connected to. Requests are served one after
// the other, as those of a connection are.
class Ensemble::Client final : public coordination::Client {
 public:
  Client(Ensemble& ensemble, std::unique_ptr<coordination::Client> inner, runtime::Loop& loop)
      : ensemble_(ensemble),
        inner_(std::move(inner)),
        turns_(loop),
        moved_(loop),
        states_(inner_->watch_session([this](SessionState state) { session_is(state); })) {}
  ~Client() override { leave(); }

  Task<std::string> create(std::string path, std::string data,
                           coordination::CreateOptions options) override {
    return written(inner_->create(std::move(path), std::move(data), options));
  }
  Task<coordination::Version> set(std::string path, std::string data,
                                  coordination::Version expected) override {
    return written(inner_->set(std::move(path), std::move(data), expected));
  }
  Task<void> remove(std::string path, coordination::Version expected) override {
    co_await written(done(inner_->remove(std::move(path), expected)));
  }
  Task<std::vector<coordination::OperationResult>> multi(
      std::vector<coordination::Operation> operations) override {
    return written(inner_->multi(std::move(operations)));
  }
  Task<void> sync() override { co_await written(done(inner_->sync())); }

  Task<std::optional<Node>> get(std::string path) override {
    return read_node(std::move(path), nullptr);
  }
  Task<std::optional<Node>> get(std::string path, OnChange on_change, WatchHandle& watch) override {
    const RegistrationPtr registration = registration_for(path, false, std::move(on_change));
    auto handle = std::make_unique<RegisteredWatch>(registration);
    auto node = co_await read_node(std::move(path), registration);
    watch = std::move(handle);
    co_return node;
  }
  Task<std::optional<std::vector<std::string>>> children(std::string path) override {
    return read_children(std::move(path), nullptr);
  }
  Task<std::optional<std::vector<std::string>>> children(std::string path, OnChange on_change,
                                                         WatchHandle& watch) override {
    const RegistrationPtr registration = registration_for(path, true, std::move(on_change));
    auto handle = std::make_unique<RegisteredWatch>(registration);
    auto names = co_await read_children(std::move(path), registration);
    watch = std::move(handle);
    co_return names;
  }

  SessionState state() const override { return inner_->state(); }
  std::int64_t session_id() const override { return inner_->session_id(); }
  WatchHandle watch_session(std::function<void(SessionState)> on_state) override {
    return inner_->watch_session(std::move(on_state));
  }

  // Its server has taken one more transaction in.
  void heard(const Commit& commit) {
    for (const Change& change : commit.changes) {
      fire_if([&](const Registration& one) {
        return one.subject.path == change.path && one.subject.of_children == change.of_children;
      });
    }
    moved_.set();
  }

 private:
  static Task<bool> done(Task<void> call) {
    co_await std::move(call);
    co_return true;
  }
  static RegistrationPtr registration_for(std::string path, bool of_children, OnChange on_change) {
    return std::make_shared<Registration>(
        Registration{{std::move(path), of_children}, 0, std::move(on_change)});
  }

  void session_is(SessionState state) {
    if (state != SessionState::connected) {
      ++breaks_;
      leave();
    } else {
      server();
    }
    if (state == SessionState::expired) fire_if([](const Registration&) { return true; });
    moved_.set();
  }
  void check(std::uint64_t breaks) const {
    if (breaks == breaks_) return;
    throw Error(Code::outcome_unknown, "coordination: the connection broke during the call");
  }

  // The one that it is connected to; any that is not behind what it has seen, if to none.
  Server& server() {
    if (server_ != nullptr) return *server_;
    std::vector<Server*> possible;
    for (const auto& one : ensemble_.servers_) {
      if (one->applied() >= seen_) possible.push_back(one.get());
    }
    server_ = possible[ensemble_.random_.below(possible.size())];
    server_->connected.insert(this);
    fire_if([&](const Registration& one) { return server_->changed(one.subject) > one.as_of; });
    return *server_;
  }
  void leave() {
    if (server_ == nullptr) return;
    seen_ = server_->applied();
    server_->connected.erase(this);
    server_ = nullptr;
  }

  template <typename Which>
  void fire_if(Which which) {
    std::vector<RegistrationPtr> fired;
    std::erase_if(registrations_, [&](const RegistrationPtr& one) {
      if (one->on_change && which(*one)) fired.push_back(one);
      return !one->on_change || which(*one);
    });
    for (const RegistrationPtr& one : fired) one->fire();
  }

  // The answer to a write, also to one that was refused, comes through the server, behind all that
  // came before it.
  template <typename Result>
  Task<Result> written(Task<Result> call) {
    const std::uint64_t breaks = breaks_;
    const runtime::Mutex::Holder turn = co_await turns_.lock();
    check(breaks);
    std::optional<Result> result;
    std::exception_ptr refused;
    try {
      result.emplace(co_await std::move(call));
    } catch (const Error& error) {
      if (error.code() == Code::unavailable || error.code() == Code::outcome_unknown ||
          error.code() == Code::session_expired) {
        throw;
      }
      refused = std::current_exception();
    }
    const std::uint64_t until = ensemble_.newest_;
    for (check(breaks); server().applied() < until; check(breaks)) {
      moved_.clear();
      co_await moved_.wait();
    }
    if (refused) std::rethrow_exception(refused);
    co_return std::move(*result);
  }

  // Its server, once it is this request's turn.
  Task<Server*> reading(RegistrationPtr registration) {
    const std::uint64_t breaks = breaks_;
    const runtime::Mutex::Holder turn = co_await turns_.lock();
    check(breaks);
    co_await inner_->sync();  // throws unless it is connected
    check(breaks);
    Server& from = server();
    if (registration) {
      registration->as_of = from.applied();
      registrations_.push_back(std::move(registration));
    }
    co_return &from;
  }
  Task<std::optional<Node>> read_node(std::string path, RegistrationPtr registration) {
    const Server* from = co_await reading(std::move(registration));
    const NodeState* found = from->find(path);
    if (found == nullptr) co_return std::nullopt;
    co_return Node{found->data,
                   {found->version, found->created, found->owner,
                    static_cast<std::int32_t>(found->children.size())}};
  }
  Task<std::optional<std::vector<std::string>>> read_children(std::string path,
                                                              RegistrationPtr registration) {
    const Server* from = co_await reading(std::move(registration));
    const NodeState* found = from->find(path);
    if (found == nullptr) co_return std::nullopt;
    co_return std::vector<std::string>(found->children.begin(), found->children.end());
  }

  Ensemble& ensemble_;
  std::unique_ptr<coordination::Client> inner_;
  runtime::Mutex turns_;
  runtime::Event moved_;
  std::uint64_t breaks_ = 0;
  Server* server_ = nullptr;
  std::uint64_t seen_ = 0;  // no server that is behind that will do
  std::vector<RegistrationPtr> registrations_;
  WatchHandle states_;
};

void Ensemble::Server::apply() {
  const std::shared_ptr<const Commit> commit = std::move(behind_.front());
  behind_.pop_front();
  ++applied_;
  for (const auto& [path, node] : commit->nodes) {
    if (node) {
      nodes_[path] = *node;
    } else {
      nodes_.erase(path);
    }
  }
  for (const Change& change : commit->changes)
    changed_[{change.path, change.of_children}] = applied_;
  const std::set<Client*> hearing = connected;
  for (Client* client : hearing) {
    if (connected.contains(client)) client->heard(*commit);
  }
}

Ensemble::Ensemble(runtime::VirtualLoop& world, std::uint64_t seed) : world_(world), random_(seed) {
  for (std::size_t i = 0; i < kServers; ++i) servers_.push_back(std::make_unique<Server>(world));
  tree_.on_commit([this](const Commit& commit) { committed(commit); });
}

Ensemble::~Ensemble() = default;

// Under the tree's lock: the servers take it in afterwards, at the earliest right after this.
void Ensemble::committed(const Commit& commit) {
  ++newest_;
  const auto shared = std::make_shared<const Commit>(commit);
  for (const auto& server : servers_) {
    const auto most = static_cast<std::uint64_t>(longest_.count());
    server->take(shared, std::chrono::nanoseconds(most == 0 ? 0 : random_.below(most + 1)));
  }
}

void Ensemble::hold(std::size_t server, runtime::Duration how_long) {
  servers_[server]->hold(how_long);
}

void Ensemble::calm() {
  longest_ = {};
  for (const auto& server : servers_) server->release();
}

std::unique_ptr<coordination::Client> Ensemble::open_session(runtime::Loop& loop) {
  std::unique_ptr<coordination::Client> inner = tree_.open_session(loop);
  const std::int64_t session = inner->session_id();
  sessions_[session];
  auto client = std::make_unique<Client>(*this, std::move(inner), loop);
  if (out_) tree_.disconnect(session);
  return client;
}

std::unique_ptr<coordination::Client> Ensemble::open_observer(runtime::Loop& loop) {
  return tree_.open_session(loop);
}

void Ensemble::cut(std::int64_t session) {
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) return;
  found->second.cut = true;
  tree_.disconnect(session);
}

void Ensemble::mend(std::int64_t session) {
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) return;
  found->second.cut = false;
  reconnect(session);
}

void Ensemble::reconnect(std::int64_t session) {
  const auto found = sessions_.find(session);
  if (out_ || found == sessions_.end() || found->second.cut) return;
  tree_.reconnect(session);
}

void Ensemble::end(std::int64_t session) {
  sessions_.erase(session);
  tree_.end(session);
}

void Ensemble::expire(std::int64_t session) {
  sessions_.erase(session);
  tree_.expire(session);
}

void Ensemble::expire_unseen(std::int64_t session) {
  tree_.expire_unseen(session);
}

void Ensemble::bereave(std::int64_t session, runtime::Duration lingers) {
  cut(session);
  sessions_[session].dead = true;
  bury(session, lingers);
}

// Its time counts anew after an outage.
void Ensemble::bury(std::int64_t session, runtime::Duration after) {
  world_.start_timer(world_.now() + after, [this, session, outages = outages_] {
    if (outages == outages_) expire(session);
  });
}

void Ensemble::begin_outage() {
  out_ = true;
  ++outages_;
  for (const auto& [session, state] : sessions_) tree_.disconnect(session);
}

void Ensemble::end_outage() {
  out_ = false;
  for (const auto& [session, state] : sessions_) {
    if (state.dead) {
      bury(session, kSession);
      continue;
    }
    const auto most = static_cast<std::uint64_t>(kUntilFound.count());
    world_.start_timer(world_.now() + std::chrono::nanoseconds(random_.below(most)),
                       [this, id = session] { reconnect(id); });
  }
}

Task<void> Ensemble::reachable() {
  runtime::Timer timer(world_);
  while (out_) co_await timer.sleep_for(kLook);
}

}  // namespace datom::sim

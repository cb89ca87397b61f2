#include "coordination/zookeeper/session.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <limits>
#include <utility>

#include "common/error.h"
#include "coordination/zookeeper/reply.h"
#include "coordination/zookeeper/server_list.h"
#include "coordination/zookeeper/zookeeper_client.h"
#include "runtime/wait.h"

namespace datom::coordination {

std::shared_ptr<ZooKeeperSession> ZooKeeperSession::open(ZooKeeperOptions options) {
  return std::make_shared<zookeeper::Session>(options);
}

namespace zookeeper {
namespace {

// How long close() waits for the answers to calls under way.
constexpr std::chrono::milliseconds kDrainTime{500};

// What its log tells, the session's states and the errors of calls tell too.
void drop_log_line(const char*) {}

SessionState state_of(int state) {
  if (state == ZOO_CONNECTED_STATE) return SessionState::connected;
  if (state == ZOO_EXPIRED_SESSION_STATE || state == ZOO_AUTH_FAILED_STATE) {
    return SessionState::expired;
  }
  return SessionState::connecting;
}

class SessionWatch final : public Watch {
 public:
  SessionWatch(std::shared_ptr<Session> session, std::shared_ptr<StateCallback> callback)
      : session_(std::move(session)), callback_(std::move(callback)) {}
  ~SessionWatch() override {
    callback_->silence();
    session_->forget_listener(callback_);
  }

 private:
  std::shared_ptr<Session> session_;
  std::shared_ptr<StateCallback> callback_;
};

}  // namespace

Session::Session(const ZooKeeperOptions& options) : servers_(normal_server_list(options.servers)) {
  const auto timeout = options.session_timeout.count();
  if (timeout <= 0 || timeout > std::numeric_limits<int>::max()) {
    throw Error(Code::invalid_argument, "session timeout of {} ms", timeout);
  }
  zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
  errno = 0;
  zhandle_t* handle =
      zookeeper_init2(servers_.c_str(), &Session::on_session_event, static_cast<int>(timeout),
                      nullptr, this, ZOO_NO_LOG_CLIENTENV, &drop_log_line);
  if (handle == nullptr) {
    throw Error(Code::unavailable, "ZooKeeper {}: cannot start, or a name cannot be resolved: {}",
                servers_, std::strerror(errno));
  }
  const std::unique_lock lock(handle_mutex_);
  handle_ = handle;
}

Session::~Session() {
  Session::close();
}

void Session::close() {
  zhandle_t* handle = nullptr;
  {
    const std::unique_lock lock(handle_mutex_);
    handle = std::exchange(handle_, nullptr);
  }
  if (handle == nullptr) return;
  {
    std::unique_lock lock(mutex_);
    no_calls_.wait_for(lock, kDrainTime, [this] { return calls_.empty(); });
    closed_ = true;
    state_ = SessionState::expired;
    watches_.clear();
    listeners_.clear();
  }
  zookeeper_close(handle);
  // It joined its threads, and may have dropped completions that were queued for them.
  std::set<Reply*> calls;
  {
    const std::lock_guard lock(mutex_);
    calls.swap(calls_);
  }
  for (Reply* reply : calls) reply->finish(ZCLOSING);
}

std::unique_ptr<Client> Session::make_client(runtime::Loop& loop) {
  return std::make_unique<ZooKeeperClient>(shared_from_this(), loop);
}

runtime::Task<void> Session::wait_connected(runtime::Loop& loop, runtime::Duration timeout) {
  const std::shared_ptr<Session> self = shared_from_this();
  const runtime::Time deadline = loop.now() + timeout;
  runtime::Timer timer(loop);
  const WatchHandle watch = watch_state(loop, [&timer](SessionState) { timer.cancel(); });
  while (state_ == SessionState::connecting) {
    const bool too_late = co_await timer.sleep_until(deadline);
    if (too_late && state_ == SessionState::connecting) {
      throw Error(Code::timeout, "no ZooKeeper server of {} answers", servers_);
    }
    timer.reset();
  }
  if (state_ == SessionState::expired) {
    throw Error(Code::session_expired, "the session with ZooKeeper {} is over", servers_);
  }
}

void Session::require_connected() const {
  if (handle_ == nullptr || is_unrecoverable(handle_) != ZOK) {
    throw Error(Code::session_expired, "the session with ZooKeeper {} is over", servers_);
  }
  // The C client would queue the call until a connection is made or has failed. Its state is ahead
  // of ours when it connects, and behind when it loses the connection.
  if (state_ != SessionState::connected || zoo_state(handle_) != ZOO_CONNECTED_STATE) {
    throw Error(Code::unavailable, "not connected to ZooKeeper {}", servers_);
  }
}

void Session::throw_not_sent(int code) const {
  if (is_unrecoverable(handle_) != ZOK) {
    throw Error(Code::session_expired, "the session with ZooKeeper {} is over", servers_);
  }
  throw Error(code == ZBADARGUMENTS ? Code::invalid_argument : Code::unavailable,
              "ZooKeeper {}: not sent: {}", servers_, zerror(code));
}

void Session::add_call(Reply& reply) {
  const std::lock_guard lock(mutex_);
  calls_.insert(&reply);
}

void Session::end_call(Reply& reply) {
  const std::lock_guard lock(mutex_);
  calls_.erase(&reply);
  if (calls_.empty()) no_calls_.notify_all();
}

void Session::add_watch(const RegistrationPtr& registration) {
  const std::lock_guard lock(mutex_);
  if (!closed_) watches_.emplace(registration->path, registration);
}

void Session::forget_watch(const RegistrationPtr& registration) {
  const std::lock_guard lock(mutex_);
  auto [begin, end] = watches_.equal_range(registration->path);
  while (begin != end) begin = begin->second == registration ? watches_.erase(begin) : ++begin;
}

WatchHandle Session::watch_state(runtime::Loop& loop, std::function<void(SessionState)> on_state) {
  auto listener = std::make_shared<StateCallback>(loop, std::move(on_state));
  {
    const std::lock_guard lock(mutex_);
    if (!closed_) listeners_.push_back(listener);
  }
  return std::make_unique<SessionWatch>(shared_from_this(), std::move(listener));
}

void Session::forget_listener(const std::shared_ptr<StateCallback>& listener) {
  const std::lock_guard lock(mutex_);
  std::erase(listeners_, listener);
}

void Session::on_session_event(zhandle_t* handle, int type, int state, const char*, void* context) {
  if (type != ZOO_SESSION_EVENT) return;
  auto* session = static_cast<Session*>(context);
  if (state == ZOO_CONNECTED_STATE) session->id_ = zoo_client_id(handle)->client_id;
  session->set_state(state_of(state));
}

void Session::set_state(SessionState state) {
  const std::lock_guard lock(mutex_);
  if (closed_ || state_ == state) return;
  state_ = state;
  for (const auto& listener : listeners_) listener->post(state);
  if (state != SessionState::expired) return;
  for (const auto& [path, registration] : std::exchange(watches_, {})) {
    registration->callback->post();
  }
}

void Session::on_event(zhandle_t*, int type, int, const char* path, void* context) {
  auto* session = static_cast<Session*>(context);
  const std::lock_guard lock(session->mutex_);
  // A watch of either kind hears both: of a missing node it waits for its creation.
  const bool comes_or_goes = type == ZOO_CREATED_EVENT || type == ZOO_DELETED_EVENT;
  if (comes_or_goes || type == ZOO_CHANGED_EVENT) session->fire(path, false);
  if (comes_or_goes || type == ZOO_CHILD_EVENT) session->fire(path, true);
}

void Session::fire(const std::string& path, bool of_children) {
  auto [begin, end] = watches_.equal_range(path);
  while (begin != end) {
    if (begin->second->of_children != of_children) {
      ++begin;
      continue;
    }
    begin->second->callback->post();
    begin = watches_.erase(begin);
  }
}

}  // namespace zookeeper
}  // namespace datom::coordination

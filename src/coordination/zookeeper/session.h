// The session behind ZooKeeperSession and its clients: the handle of the C client, and the watches.
//
// Threads: loops call the C client; its completion thread fills replies, calls on_event, and posts
// to loops. It delivers answers and events in the order in which the server sent them, and whatever
// is told to a loop is posted in that order.
#pragma once

#include <zookeeper/zookeeper.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <vector>

#include "coordination/loop_callback.h"
#include "coordination/zookeeper/zookeeper.h"

namespace datom::coordination::zookeeper {

class Reply;

// A watch, from the answer it was set with until it has fired or its handle is destroyed.
struct Registration {
  std::string path;
  bool of_children = false;
  std::shared_ptr<LoopCallback<>> callback;
};
using RegistrationPtr = std::shared_ptr<Registration>;
using StateCallback = LoopCallback<SessionState>;

class Session final : public ZooKeeperSession, public std::enable_shared_from_this<Session> {
 public:
  explicit Session(const ZooKeeperOptions& options);
  ~Session() override;

  runtime::Task<void> wait_connected(runtime::Loop& loop, runtime::Duration timeout) override;
  std::unique_ptr<Client> make_client(runtime::Loop& loop) override;
  void close() override;

  SessionState state() const { return state_; }
  std::int64_t id() const { return id_; }

  // Runs start(handle), which gives a code of the C client, while the session is connected; `reply`
  // will be finished once. Throws Error{session_expired} or Error{unavailable} when it is not, or
  // when the code says that nothing was sent; `reply` is then left alone.
  template <typename Start>
  void send(Reply& reply, const Start& start) {
    const std::shared_lock lock(handle_mutex_);
    require_connected();
    add_call(reply);
    const int code = start(handle_);
    if (code == ZOK) return;
    end_call(reply);
    throw_not_sent(code);
  }
  // From the completion thread, before the reply is finished.
  void end_call(Reply& reply);

  // From the completion thread, with the answer that set the watch.
  void add_watch(const RegistrationPtr& registration);
  void forget_watch(const RegistrationPtr& registration);
  WatchHandle watch_state(runtime::Loop& loop, std::function<void(SessionState)> on_state);
  void forget_listener(const std::shared_ptr<StateCallback>& listener);

  // The watcher of every path. The C client keeps one per path, however often the path is watched.
  static void on_event(zhandle_t* handle, int type, int state, const char* path, void* context);

 private:
  static void on_session_event(zhandle_t* handle, int type, int state, const char* path,
                               void* context);
  void require_connected() const;
  [[noreturn]] void throw_not_sent(int code) const;
  void add_call(Reply& reply);
  void set_state(SessionState state);
  void fire(const std::string& path, bool of_children);

  const std::string servers_;
  std::atomic<SessionState> state_{SessionState::connecting};
  std::atomic<std::int64_t> id_{0};

  mutable std::shared_mutex handle_mutex_;
  zhandle_t* handle_ = nullptr;  // null once closed; held shared while it is used

  std::mutex mutex_;  // of what follows; held while posting, so that forget_* is final
  bool closed_ = false;
  std::set<Reply*> calls_;  // under way
  std::condition_variable no_calls_;
  std::multimap<std::string, RegistrationPtr> watches_;  // by path
  std::vector<std::shared_ptr<StateCallback>> listeners_;
};

}  // namespace datom::coordination::zookeeper

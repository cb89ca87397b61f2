// The answer to one call of the C client, awaited by a coroutine on its loop.
#pragma once

#include <zookeeper/zookeeper.h>

#include <coroutine>
#include <string>
#include <string_view>
#include <vector>

#include "coordination/client.h"
#include "coordination/zookeeper/session.h"

namespace datom::coordination::zookeeper {

// Lives in the frame of the caller, who goes on only when it is finished: by the completion, or by
// the session's close().
class Reply {
 public:
  Reply(Session& session, runtime::Loop& loop) : session_(session), loop_(loop) {}
  // `watch` is set if the answer is `watch_code`.
  Reply(Session& session, runtime::Loop& loop, RegistrationPtr watch, int watch_code)
      : session_(session), loop_(loop), watch_(std::move(watch)), watch_code_(watch_code) {}
  Reply(const Reply&) = delete;
  Reply& operator=(const Reply&) = delete;

  int code = ZOK;
  std::string text;  // path or data
  ::Stat stat{};
  std::vector<std::string> names;

  // What to give the C client.
  watcher_fn watcher() const { return watch_ ? &Session::on_event : nullptr; }
  Session* watcher_context() const { return &session_; }
  static void on_path(int code, const char* path, const void* reply);
  static void on_data(int code, const char* data, int size, const ::Stat* stat, const void* reply);
  static void on_stat(int code, const ::Stat* stat, const void* reply);
  static void on_names(int code, const String_vector* names, const void* reply);
  static void on_done(int code, const void* reply);

  // Wakes the caller; the reply may be gone when it returns.
  void finish(int result);

  // co_await reply.of(start): runs start(handle) and waits for the answer. Throws when nothing was
  // sent; what the server said is in `code`.
  template <typename Start>
  auto of(Start start) {
    struct Awaiter {
      Reply& reply;
      Start start;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> caller) {
        reply.caller_ = caller;
        reply.session_.send(reply, start);
      }
      void await_resume() const noexcept {}
    };
    return Awaiter{*this, std::move(start)};
  }

 private:
  static Reply& from(const void* reply) {
    return *const_cast<Reply*>(static_cast<const Reply*>(reply));
  }
  void complete(int result);

  Session& session_;
  runtime::Loop& loop_;
  RegistrationPtr watch_;
  int watch_code_ = ZOK;
  std::coroutine_handle<> caller_;
};

// Whether a step of a multi met another tree than expected.
bool is_unmet(int code);
// The Error for an answer other than ZOK. `what`: "set /a/b".
[[noreturn]] void throw_answer(int code, std::string_view what);

}  // namespace datom::coordination::zookeeper

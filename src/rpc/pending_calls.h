// Calls that wait for their replies. One PendingCalls for each peer; a PendingCall lives in the
// frame of the coroutine that waits for it, and takes itself off the table when it goes. All belong
// to one loop.
#pragma once

#include <coroutine>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>

#include "rpc/rpc.h"

namespace datom::rpc {

class PendingCall;

class PendingCalls {
 public:
  // `service` is named in errors. `loop` must outlive it.
  PendingCalls(runtime::Loop& loop, std::string service);
  // No call may be left.
  ~PendingCalls();
  PendingCalls(const PendingCalls&) = delete;
  PendingCalls& operator=(const PendingCalls&) = delete;

  std::size_t size() const { return calls_.size(); }
  bool waits(std::uint64_t id) const { return calls_.contains(id); }

  // False where nobody waits for that id (any more): a late reply.
  bool resolve(std::uint64_t id, Message reply);
  bool reject(std::uint64_t id, const Error& error);
  // From now on the peer may have executed it. No effect where nobody waits.
  void mark_sent(std::uint64_t id);

  // What was sent fails with `sent`, the rest with `not_sent`.
  void reject_all(const Error& sent, const Error& not_sent);
  void reject_sent(const Error& error);

 private:
  friend class PendingCall;

  runtime::Loop& loop_;
  std::string service_;
  std::uint64_t next_id_ = 1;
  std::unordered_map<std::uint64_t, PendingCall*> calls_;
};

class PendingCall {
 public:
  // On the table from now on, until it ends: by a reply, by an error, or at `deadline` with
  // Error{timeout} if it was sent, Error{unavailable} if not.
  PendingCall(PendingCalls& table, Method method, runtime::Time deadline);
  ~PendingCall();
  PendingCall(const PendingCall&) = delete;
  PendingCall& operator=(const PendingCall&) = delete;

  // Unique among the calls of this table, ever.
  std::uint64_t id() const { return id_; }

  // Awaitable, once: the reply, or throws the Error.
  auto wait() {
    struct Awaiter {
      PendingCall& call;
      bool await_ready() const noexcept { return call.ended(); }
      void await_suspend(std::coroutine_handle<> waiter) noexcept { call.waiter_ = waiter; }
      Message await_resume() {
        if (call.error_) throw *call.error_;
        return std::move(*call.reply_);
      }
    };
    return Awaiter{*this};
  }

 private:
  friend class PendingCalls;

  bool ended() const { return reply_.has_value() || error_.has_value(); }
  void expire();
  void leave_table();
  void wake();

  PendingCalls& table_;
  std::uint64_t id_;
  Method method_;
  bool sent_ = false;
  std::optional<runtime::Loop::TimerId> timer_;
  std::coroutine_handle<> waiter_;
  std::optional<Message> reply_;
  std::optional<Error> error_;
};

}  // namespace datom::rpc

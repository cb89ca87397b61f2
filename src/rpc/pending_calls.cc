#include "rpc/pending_calls.h"

#include <utility>
#include <vector>

#include "common/check.h"

namespace datom::rpc {

PendingCalls::PendingCalls(runtime::Loop& loop, std::string service)
    : loop_(loop), service_(std::move(service)) {}

PendingCalls::~PendingCalls() {
  DATOM_CHECK(calls_.empty());
}

bool PendingCalls::resolve(std::uint64_t id, Message reply) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) return false;
  PendingCall& call = *found->second;
  call.reply_ = std::move(reply);
  call.leave_table();
  call.wake();
  return true;
}

bool PendingCalls::reject(std::uint64_t id, const Error& error) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) return false;
  PendingCall& call = *found->second;
  call.error_ = error;
  call.leave_table();
  call.wake();
  return true;
}

void PendingCalls::mark_sent(std::uint64_t id) {
  const auto found = calls_.find(id);
  if (found != calls_.end()) found->second->sent_ = true;
}

void PendingCalls::reject_all(const Error& sent, const Error& not_sent) {
  std::vector<PendingCall*> calls;
  for (const auto& [id, call] : calls_) calls.push_back(call);
  for (PendingCall* call : calls) reject(call->id(), call->sent_ ? sent : not_sent);
}

void PendingCalls::reject_sent(const Error& error) {
  std::vector<PendingCall*> calls;
  for (const auto& [id, call] : calls_) {
    if (call->sent_) calls.push_back(call);
  }
  for (PendingCall* call : calls) reject(call->id(), error);
}

PendingCall::PendingCall(PendingCalls& table, Method method, runtime::Time deadline)
    : table_(table), id_(table.next_id_++), method_(method) {
  timer_ = table_.loop_.start_timer(deadline, [this] {
    timer_.reset();
    expire();
  });
  table_.calls_.emplace(id_, this);
}

PendingCall::~PendingCall() {
  if (!ended()) leave_table();
}

void PendingCall::expire() {
  if (sent_) {
    error_ = Error(Code::timeout, "service \"{}\" did not answer method {} in time",
                   table_.service_, method_);
  } else {
    error_ = Error(Code::unavailable,
                   "method {} could not be sent to service \"{}\" in time: no connection yet, or "
                   "it reads too slowly",
                   method_, table_.service_);
  }
  leave_table();
  wake();
}

void PendingCall::leave_table() {
  if (timer_) table_.loop_.cancel_timer(*timer_);
  timer_.reset();
  table_.calls_.erase(id_);
}

void PendingCall::wake() {
  if (!waiter_) return;
  table_.loop_.post([waiter = std::exchange(waiter_, nullptr)] { waiter.resume(); });
}

}  // namespace datom::rpc

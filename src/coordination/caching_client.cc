#include "coordination/caching_client.h"

#include <utility>

namespace datom::coordination {

using runtime::Task;

CachingClient::CachingClient(Client& inner, std::size_t limit)
    : inner_(inner),
      limit_(limit),
      session_watch_(inner.watch_session([this](SessionState) { forget(); })) {}

void CachingClient::forget() {
  ++age_;
  nodes_.clear();
  children_.clear();
}

// nullptr: to be asked for.
template <typename Answer>
const Answer* CachingClient::find(Answers<Answer>& answers, const std::string& path) {
  const auto found = answers.find(path);
  if (found == answers.end()) return nullptr;
  if (!*found->second.changed && inner_.state() == SessionState::connected) {
    return &found->second.answer;
  }
  answers.erase(found);
  return nullptr;
}

template <typename Answer>
void CachingClient::keep(Answers<Answer>& answers, const std::string& path, Kept<Answer> kept,
                         std::uint64_t age) {
  if (age != age_ || *kept.changed) return;
  if (nodes_.size() + children_.size() >= limit_) forget();
  answers.insert_or_assign(path, std::move(kept));
}

Task<std::optional<Node>> CachingClient::get(std::string path) {
  if (const auto* known = find(nodes_, path)) co_return *known;
  const std::uint64_t age = age_;
  Kept<std::optional<Node>> kept;
  kept.changed = std::make_shared<bool>(false);
  kept.answer =
      co_await inner_.get(path, [changed = kept.changed] { *changed = true; }, kept.watch);
  std::optional<Node> answer = kept.answer;
  keep(nodes_, path, std::move(kept), age);
  co_return answer;
}

Task<CachingClient::Children> CachingClient::children(std::string path) {
  if (const auto* known = find(children_, path)) co_return *known;
  const std::uint64_t age = age_;
  Kept<Children> kept;
  kept.changed = std::make_shared<bool>(false);
  kept.answer =
      co_await inner_.children(path, [changed = kept.changed] { *changed = true; }, kept.watch);
  Children answer = kept.answer;
  keep(children_, path, std::move(kept), age);
  co_return answer;
}

// One that failed was decided by what is no more, or nobody knows what it did.
template <typename Result>
Task<Result> CachingClient::write(Task<Result> call) {
  std::exception_ptr error;
  try {
    co_return co_await std::move(call);
  } catch (...) {
    error = std::current_exception();
  }
  forget();
  std::rethrow_exception(error);
}

Task<std::string> CachingClient::create(std::string path, std::string data, CreateOptions options) {
  return write(inner_.create(std::move(path), std::move(data), options));
}
Task<Version> CachingClient::set(std::string path, std::string data, Version expected) {
  return write(inner_.set(std::move(path), std::move(data), expected));
}
Task<void> CachingClient::remove(std::string path, Version expected) {
  return write(inner_.remove(std::move(path), expected));
}
Task<std::vector<OperationResult>> CachingClient::multi(std::vector<Operation> operations) {
  return write(inner_.multi(std::move(operations)));
}

Task<std::optional<Node>> CachingClient::get(std::string path, OnChange on_change,
                                             WatchHandle& watch) {
  return inner_.get(std::move(path), std::move(on_change), watch);
}
Task<CachingClient::Children> CachingClient::children(std::string path, OnChange on_change,
                                                      WatchHandle& watch) {
  return inner_.children(std::move(path), std::move(on_change), watch);
}
Task<void> CachingClient::sync() {
  return inner_.sync();
}

SessionState CachingClient::state() const {
  return inner_.state();
}
std::int64_t CachingClient::session_id() const {
  return inner_.session_id();
}
WatchHandle CachingClient::watch_session(std::function<void(SessionState)> on_state) {
  return inner_.watch_session(std::move(on_state));
}

}  // namespace datom::coordination

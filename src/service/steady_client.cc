#include "service/steady_client.h"

#include <utility>

#include "common/check.h"
#include "common/error.h"

namespace datom::service {

using coordination::Client;
using coordination::Node;
using coordination::OnChange;
using coordination::SessionState;
using coordination::Version;
using coordination::WatchHandle;
using runtime::Task;

namespace {

// The end of one session is no end for those who use this client.
template <typename T>
Task<T> lasting(Task<T> call) {
  try {
    co_return co_await std::move(call);
  } catch (const Error& error) {
    if (error.code() != Code::session_expired) throw;
    throw Error(Code::unavailable, error.what());
  }
}

}  // namespace

// A call under way.
class SteadyClient::Use {
 public:
  explicit Use(SteadyClient& owner) : owner_(owner), client_(owner.current()) { ++owner_.in_use_; }
  ~Use() {
    if (--owner_.in_use_ == 0) owner_.unused_.wake_all();
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;
  Client* operator->() const { return &client_; }

 private:
  SteadyClient& owner_;
  Client& client_;
};

// Fires once: when the session's own watch does, or when the session is lost.
class SteadyClient::DataWatch final : public coordination::Watch {
 public:
  DataWatch(SteadyClient& owner, OnChange on_change)
      : owner_(owner), on_change_(std::make_shared<OnChange>(std::move(on_change))) {
    owner_.data_watches_.insert(this);
  }
  ~DataWatch() override {
    *on_change_ = nullptr;  // a callback that is on its way finds nothing
    owner_.data_watches_.erase(this);
  }

  // What the session's watch calls.
  OnChange callback() const {
    return [on_change = on_change_] { fire(on_change); };
  }
  void attach(WatchHandle inner) { inner_ = std::move(inner); }
  void session_lost() {
    inner_.reset();
    owner_.loop_.post([on_change = on_change_] { fire(on_change); });
  }

 private:
  static void fire(const std::shared_ptr<OnChange>& on_change) {
    if (const OnChange callback = std::exchange(*on_change, nullptr)) callback();
  }

  SteadyClient& owner_;
  std::shared_ptr<OnChange> on_change_;
  WatchHandle inner_;
};

class SteadyClient::SessionWatch final : public coordination::Watch {
 public:
  using OnState = std::function<void(SessionState)>;

  SessionWatch(SteadyClient& owner, OnState on_state)
      : owner_(owner), on_state_(std::make_shared<OnState>(std::move(on_state))) {
    owner_.session_watches_.insert(this);
  }
  ~SessionWatch() override {
    *on_state_ = nullptr;
    owner_.session_watches_.erase(this);
  }
  void tell(SessionState state) {
    owner_.loop_.post([on_state = on_state_, state] {
      if (const OnState callback = *on_state) callback(state);
    });
  }

 private:
  SteadyClient& owner_;
  std::shared_ptr<OnState> on_state_;
};

SteadyClient::SteadyClient(runtime::Loop& loop) : loop_(loop), unused_(loop) {}

SteadyClient::~SteadyClient() {
  DATOM_CHECK(current_ == nullptr);
  DATOM_CHECK(data_watches_.empty() && session_watches_.empty());
}

void SteadyClient::session_begins(Client& client) {
  DATOM_CHECK(current_ == nullptr);
  current_ = &client;
  session_watch_ = client.watch_session([this](SessionState state) { tell(state); });
  tell(client.state());
}

Task<void> SteadyClient::session_lost() {
  current_ = nullptr;
  session_watch_.reset();
  for (DataWatch* watch : data_watches_) watch->session_lost();
  tell(SessionState::connecting);
  while (in_use_ > 0) co_await unused_.wait();
}

void SteadyClient::tell(SessionState state) {
  if (state == SessionState::expired) state = SessionState::connecting;
  for (SessionWatch* watch : session_watches_) watch->tell(state);
}

Client& SteadyClient::current() const {
  if (current_ == nullptr) {
    throw Error(Code::unavailable, "the coordination session expired and there is no new one yet");
  }
  return *current_;
}

Task<std::string> SteadyClient::create(std::string path, std::string data,
                                       coordination::CreateOptions options) {
  const Use use(*this);
  co_return co_await lasting(use->create(std::move(path), std::move(data), options));
}

Task<Version> SteadyClient::set(std::string path, std::string data, Version expected) {
  const Use use(*this);
  co_return co_await lasting(use->set(std::move(path), std::move(data), expected));
}

Task<void> SteadyClient::remove(std::string path, Version expected) {
  const Use use(*this);
  co_await lasting(use->remove(std::move(path), expected));
}

Task<std::vector<coordination::OperationResult>> SteadyClient::multi(
    std::vector<coordination::Operation> operations) {
  const Use use(*this);
  co_return co_await lasting(use->multi(std::move(operations)));
}

Task<std::optional<Node>> SteadyClient::get(std::string path) {
  const Use use(*this);
  co_return co_await lasting(use->get(std::move(path)));
}

Task<std::optional<Node>> SteadyClient::get(std::string path, OnChange on_change,
                                            WatchHandle& watch) {
  const Use use(*this);
  auto outer = std::make_unique<DataWatch>(*this, std::move(on_change));
  WatchHandle inner;
  std::optional<Node> node = co_await lasting(use->get(std::move(path), outer->callback(), inner));
  if (current_ == nullptr) current();  // lost meanwhile: nothing would tell of changes
  outer->attach(std::move(inner));
  watch = std::move(outer);
  co_return node;
}

Task<std::optional<std::vector<std::string>>> SteadyClient::children(std::string path) {
  const Use use(*this);
  co_return co_await lasting(use->children(std::move(path)));
}

Task<std::optional<std::vector<std::string>>> SteadyClient::children(std::string path,
                                                                     OnChange on_change,
                                                                     WatchHandle& watch) {
  const Use use(*this);
  auto outer = std::make_unique<DataWatch>(*this, std::move(on_change));
  WatchHandle inner;
  std::optional<std::vector<std::string>> names =
      co_await lasting(use->children(std::move(path), outer->callback(), inner));
  if (current_ == nullptr) current();
  outer->attach(std::move(inner));
  watch = std::move(outer);
  co_return names;
}

Task<void> SteadyClient::sync() {
  const Use use(*this);
  co_await lasting(use->sync());
}

SessionState SteadyClient::state() const {
  if (current_ == nullptr || current_->state() == SessionState::expired) {
    return SessionState::connecting;
  }
  return current_->state();
}

std::int64_t SteadyClient::session_id() const {
  return current().session_id();
}

WatchHandle SteadyClient::watch_session(std::function<void(SessionState)> on_state) {
  return std::make_unique<SessionWatch>(*this, std::move(on_state));
}

}  // namespace datom::service

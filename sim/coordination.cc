#include "sim/coordination.h"

#include <algorithm>
#include <utility>

#include "common/error.h"
#include "runtime/wait.h"

namespace datom::sim {

using coordination::OnChange;
using coordination::SessionState;
using coordination::WatchHandle;
using runtime::Task;

namespace {

// One direction: what sets out later arrives later.
class Way {
 public:
  Way(runtime::Loop& loop, std::uint64_t seed, runtime::Duration longest)
      : loop_(loop), random_(seed), longest_(longest) {}

  // When what sets out now arrives.
  runtime::Time arrival() {
    const auto most = static_cast<std::uint64_t>(longest_.count());
    const auto takes = std::chrono::nanoseconds(random_.below(most + 1));
    return last_ = std::max(last_, loop_.now() + takes);
  }

 private:
  runtime::Loop& loop_;
  runtime::SeededRandom random_;
  const runtime::Duration longest_;
  runtime::Time last_{};
};

// What a watch is to call, until its handle is destroyed.
struct Heard {
  OnChange on_change;
};

class SlowWatch final : public coordination::Watch {
 public:
  explicit SlowWatch(OnChange on_change)
      : heard_(std::make_shared<Heard>(Heard{std::move(on_change)})) {}
  ~SlowWatch() override { heard_->on_change = nullptr; }

  const std::shared_ptr<Heard>& heard() const { return heard_; }
  WatchHandle& inner() { return inner_; }

 private:
  std::shared_ptr<Heard> heard_;
  WatchHandle inner_;
};

class SlowClient final : public coordination::Client {
 public:
  SlowClient(std::unique_ptr<coordination::Client> inner, runtime::Loop& loop, std::uint64_t seed,
             runtime::Duration longest)
      : inner_(std::move(inner)),
        loop_(loop),
        there_(loop, seed, longest),
        back_(std::make_shared<Way>(loop, ~seed, longest)),
        states_(inner_->watch_session([this](SessionState state) {
          if (state != SessionState::connected) ++breaks_;
        })) {}

  Task<std::string> create(std::string path, std::string data,
                           coordination::CreateOptions options) override {
    return through(inner_->create(std::move(path), std::move(data), options));
  }
  Task<coordination::Version> set(std::string path, std::string data,
                                  coordination::Version expected) override {
    return through(inner_->set(std::move(path), std::move(data), expected));
  }
  Task<void> remove(std::string path, coordination::Version expected) override {
    co_await through(done(inner_->remove(std::move(path), expected)));
  }
  Task<std::vector<coordination::OperationResult>> multi(
      std::vector<coordination::Operation> operations) override {
    return through(inner_->multi(std::move(operations)));
  }
  Task<std::optional<coordination::Node>> get(std::string path) override {
    return through(inner_->get(std::move(path)));
  }
  Task<std::optional<coordination::Node>> get(std::string path, OnChange on_change,
                                              WatchHandle& watch) override {
    auto armed = std::make_unique<SlowWatch>(std::move(on_change));  // calls nobody if this throws
    auto node =
        co_await through(inner_->get(std::move(path), late(armed->heard()), armed->inner()));
    watch = std::move(armed);
    co_return node;
  }
  Task<std::optional<std::vector<std::string>>> children(std::string path) override {
    return through(inner_->children(std::move(path)));
  }
  Task<std::optional<std::vector<std::string>>> children(std::string path, OnChange on_change,
                                                         WatchHandle& watch) override {
    auto armed = std::make_unique<SlowWatch>(std::move(on_change));
    auto names =
        co_await through(inner_->children(std::move(path), late(armed->heard()), armed->inner()));
    watch = std::move(armed);
    co_return names;
  }
  Task<void> sync() override { co_await through(done(inner_->sync())); }

  SessionState state() const override { return inner_->state(); }
  std::int64_t session_id() const override { return inner_->session_id(); }
  WatchHandle watch_session(std::function<void(SessionState)> on_state) override {
    return inner_->watch_session(std::move(on_state));
  }

 private:
  static Task<bool> done(Task<void> call) {
    co_await std::move(call);
    co_return true;
  }

  Task<void> wait_until(runtime::Time time) {
    runtime::Timer timer(loop_);
    co_await timer.sleep_until(time);
  }
  void check(std::uint64_t breaks) const {
    if (breaks == breaks_) return;
    throw Error(Code::outcome_unknown, "coordination: the connection broke during the call");
  }

  // Tasks are lazy: the call is made when the request has arrived.
  template <typename Result>
  Task<Result> through(Task<Result> call) {
    const bool connected = inner_->state() == SessionState::connected;
    const std::uint64_t breaks = breaks_;
    if (connected) co_await wait_until(there_.arrival());
    check(breaks);
    std::optional<Result> result;
    std::exception_ptr error;
    try {
      result.emplace(co_await std::move(call));
    } catch (const Error&) {
      error = std::current_exception();
    }
    if (connected) co_await wait_until(back_->arrival());
    check(breaks);
    if (error) std::rethrow_exception(error);
    co_return std::move(*result);
  }

  // Calls it when the news has arrived.
  OnChange late(std::shared_ptr<Heard> heard) {
    return [heard, back = back_, loop = &loop_] {
      loop->start_timer(back->arrival(), [heard] {
        const OnChange running = heard->on_change;  // it may destroy its handle
        if (running) running();
      });
    };
  }

  std::unique_ptr<coordination::Client> inner_;
  runtime::Loop& loop_;
  Way there_;
  std::shared_ptr<Way> back_;
  std::uint64_t breaks_ = 0;
  WatchHandle states_;
};

}  // namespace

std::unique_ptr<coordination::Client> make_slow_client(std::unique_ptr<coordination::Client> inner,
                                                       runtime::Loop& loop, std::uint64_t seed,
                                                       runtime::Duration longest) {
  return std::make_unique<SlowClient>(std::move(inner), loop, seed, longest);
}

}  // namespace datom::sim

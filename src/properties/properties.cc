#include "properties/properties.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/check.h"
#include "common/error.h"
#include "protocol/records.h"

namespace datom::properties {

using coordination::SessionState;

namespace {

// After a read that failed though coordination seemed to be there.
constexpr runtime::Duration kRetryDelay = std::chrono::seconds(1);

}  // namespace

Properties::Following::Following(runtime::Loop& loop, coordination::Client& of)
    : client(of),
      changed(loop),
      // follow() catches what coordination throws; anything else is a mistake of ours.
      tasks(loop, [](std::exception_ptr error) { DATOM_CHECK(error == nullptr); }) {}

void Properties::Following::look_again_in(runtime::Loop& loop, runtime::Duration delay) {
  retry = loop.start_timer(loop.now() + delay, [this] {
    retry.reset();
    changed.set();
  });
}

void Properties::Following::forget_retry(runtime::Loop& loop) {
  if (retry) loop.cancel_timer(*retry);
  retry.reset();
}

Properties::Properties(runtime::Loop& loop, std::string domain, OnWarning on_warning)
    : loop_(loop), domain_(std::move(domain)), on_warning_(std::move(on_warning)) {
  for (const Definition* definition : known()) {
    entries_[definition->name].value = definition->default_value;
  }
}

Properties::~Properties() {
  DATOM_CHECK(following_ == nullptr);
}

runtime::Task<void> Properties::start(coordination::Client& client) {
  DATOM_CHECK(following_ == nullptr);
  following_ = std::make_unique<Following>(loop_, client);
  following_->session = client.watch_session([this](SessionState) { following_->changed.set(); });
  for (auto& [name, entry] : entries_) entry.stale = true;
  std::exception_ptr error;
  try {
    co_await refresh_stale();
  } catch (...) {
    error = std::current_exception();
  }
  if (error) {
    co_await stop();
    std::rethrow_exception(error);
  }
  following_->tasks.spawn(follow());
}

runtime::Task<void> Properties::stop() {
  if (following_ == nullptr) co_return;
  stopping_ = true;
  following_->session.reset();
  following_->changed.set();
  co_await following_->tasks.close();
  stopping_ = false;
  for (auto& [name, entry] : entries_) entry.watch.reset();
  following_.reset();
}

runtime::Task<void> Properties::follow() {
  Following& following = *following_;
  while (!stopping_) {
    following.changed.clear();
    try {
      co_await refresh_stale();
    } catch (const Error&) {
      // Coordination is away; what it knew last stays in force.
    }
    const bool over = following.client.state() == SessionState::expired;
    if (any_stale() && !over && !stopping_) following.look_again_in(loop_, kRetryDelay);
    co_await following.changed.wait();
    following.forget_retry(loop_);
  }
}

bool Properties::any_stale() const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [](const auto& entry) { return entry.second.stale; });
}

runtime::Task<void> Properties::refresh_stale() {
  for (auto& [name, entry] : entries_) {
    if (entry.stale && !stopping_) co_await refresh(name, entry);
  }
}

runtime::Task<void> Properties::refresh(std::string_view name, Entry& entry) {
  Following& following = *following_;
  coordination::WatchHandle watch;
  const auto on_change = [&entry, &following] {
    entry.stale = true;
    following.changed.set();
  };
  entry.stale = false;  // a change may be heard before the answer is
  std::optional<coordination::Node> node;
  try {
    node =
        co_await following.client.get(protocol::paths::property(domain_, name), on_change, watch);
  } catch (...) {
    entry.stale = true;
    throw;
  }
  if (stopping_) co_return;
  entry.watch = std::move(watch);
  store(entry, value_in(name, node));
}

std::uint64_t Properties::value_in(std::string_view name,
                                   const std::optional<coordination::Node>& node) {
  const std::uint64_t default_value = find(name)->default_value;
  if (!node) return default_value;
  try {
    return validate(name, protocol::PropertyRecord::from_json(node->data).value);
  } catch (const Error& error) {
    on_warning_(
        fmt::format("property {}: its default {} is used: {}", name, default_value, error.what()));
    return default_value;
  }
}

void Properties::store(Entry& entry, std::uint64_t value) {
  if (entry.value.exchange(value) == value) return;
  const auto subscribers = entry.subscribers;  // a callback may subscribe
  for (const auto& subscriber : subscribers) {
    if (const Subscription alive = subscriber.lock()) (*alive)();
  }
}

Subscription Properties::on_change(const Definition& property, std::function<void()> on_change) {
  const auto subscription = std::make_shared<const std::function<void()>>(std::move(on_change));
  auto& subscribers = entries_.at(property.name).subscribers;
  std::erase_if(subscribers, [](const auto& subscriber) { return subscriber.expired(); });
  subscribers.push_back(subscription);
  return subscription;
}

}  // namespace datom::properties

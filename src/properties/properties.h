// The properties of a domain, as the processes of the domain see them: values come from the
// coordination tree, are cached, and follow every change. Without coordination the last values
// stay.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coordination/client.h"
#include "properties/known.h"
#include "runtime/loop.h"
#include "runtime/task.h"
#include "runtime/task_group.h"
#include "runtime/wait.h"

namespace datom::properties {

// Keeps a callback alive; destroy it on the loop of the Properties.
using Subscription = std::shared_ptr<const std::function<void()>>;

// Belongs to one loop, except get(), which any thread may call.
class Properties {
 public:
  using OnWarning = std::function<void(const std::string& message)>;

  // `on_warning` hears of values in the tree that are malformed, on the loop.
  Properties(runtime::Loop& loop, std::string domain, OnWarning on_warning);
  ~Properties();  // stop() must have returned after a start()
  Properties(const Properties&) = delete;
  Properties& operator=(const Properties&) = delete;

  // Reads all values, then follows them in the background until stop(). `client` is of the same
  // loop and outlives stop(). Throws what coordination throws. After stop() it may be called again,
  // with the client of a new session.
  runtime::Task<void> start(coordination::Client& client);
  runtime::Task<void> stop();

  // The value now: the tree's, or the default where it is unset or malformed.
  std::uint64_t get(const BytesProperty& property) const { return number(property); }
  std::chrono::milliseconds get(const DurationProperty& property) const {
    return std::chrono::milliseconds(number(property));
  }

  // `on_change` runs on the loop after each change of the value, while the subscription lives.
  Subscription on_change(const Definition& property, std::function<void()> on_change);

 private:
  struct Entry {
    std::atomic<std::uint64_t> value;
    bool stale = true;  // the tree may have another value
    coordination::WatchHandle watch;
    std::vector<std::weak_ptr<const std::function<void()>>> subscribers;
  };

  std::uint64_t number(const Definition& property) const {
    return entries_.at(property.name).value;
  }
  runtime::Task<void> refresh(std::string_view name, Entry& entry);
  runtime::Task<void> refresh_stale();
  runtime::Task<void> follow();
  std::uint64_t value_in(std::string_view name, const std::optional<coordination::Node>& node);
  void store(Entry& entry, std::uint64_t value);
  bool any_stale() const;

  // What lives from start() to stop().
  struct Following {
    Following(runtime::Loop& loop, coordination::Client& of);
    void look_again_in(runtime::Loop& loop, runtime::Duration delay);
    void forget_retry(runtime::Loop& loop);

    coordination::Client& client;
    runtime::Event changed;  // look again
    coordination::WatchHandle session;
    std::optional<runtime::Loop::TimerId> retry;
    runtime::TaskGroup tasks;
  };

  runtime::Loop& loop_;
  const std::string domain_;
  OnWarning on_warning_;
  std::map<std::string_view, Entry> entries_;  // every known property; made once
  std::unique_ptr<Following> following_;
  bool stopping_ = false;
};

}  // namespace datom::properties

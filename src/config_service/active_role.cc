#include "config_service/active_role.h"

#include <fmt/core.h>

#include "common/error.h"

namespace datom::config_service {
namespace {

using coordination::SessionState;
using runtime::Task;

namespace paths = protocol::paths;

constexpr int kKnownFormat = 1;
constexpr auto kRetryAfter = std::chrono::milliseconds(500);

}  // namespace

ActiveRole::ActiveRole(runtime::Loop& loop, coordination::Client& client, telemetry::Log log,
                       protocol::ActiveRecord self, std::string domain)
    : client_(client),
      log_(std::move(log)),
      self_(std::move(self)),
      domain_(std::move(domain)),
      changed_(loop),
      settled_(loop),
      retry_(loop) {}

Task<void> ActiveRole::run() {
  session_watch_ = client_.watch_session([this](SessionState) { changed_.set(); });
  while (!stopping_ && client_.state() != SessionState::expired) {
    changed_.clear();
    std::string trouble;
    try {
      co_await look();
    } catch (const Error& error) {
      trouble = error.what();
    }
    if (trouble.empty()) {
      co_await changed_.wait();
    } else {
      log_.debug("config_service.retry", {}, trouble);
      co_await retry_.sleep_for(kRetryAfter);
    }
  }
  settle(Role::ended, "has lost its coordination session");
}

void ActiveRole::stop() {
  settle(Role::ended, "is stopping");
  stopping_ = true;
  changed_.set();
  retry_.cancel();
}

Task<void> ActiveRole::leave() {
  const std::string path(paths::kActiveConfigService);
  const auto node = co_await client_.get(path);
  if (!node || node->stat.ephemeral_owner != client_.session_id()) co_return;
  if (protocol::ActiveRecord::from_json(node->data).epoch != self_.epoch) co_return;
  co_await client_.remove(path, node->stat.version);
}

Task<void> ActiveRole::wait_settled() {
  while (role_ == Role::starting || role_ == Role::fresh) co_await settled_.wait();
  if (role_ == Role::standby || role_ == Role::active) co_return;
  Code code = Code::unsupported;
  if (role_ == Role::ended) code = stopping_ ? Code::closed : Code::session_expired;
  throw Error(code, "config service {} {}", self_.service, why_);
}

void ActiveRole::require_active() const {
  if (role_ == Role::active) return;
  throw Error(Code::unavailable, "config service {} {}", self_.service, why_);
}

Task<void> ActiveRole::look() {
  const bool usable = co_await look_at_instance();
  if (usable) co_await look_at_active();
}

// False, and settled, where the tree cannot be served.
Task<bool> ActiveRole::look_at_instance() {
  const auto instance =
      co_await client_.get(std::string(paths::kConfigService), on_change(), instance_watch_);
  if (!instance) {
    settle(Role::fresh, "serves no instance yet: waiting for `datom init`");
    co_return false;
  }
  protocol::InstanceRecord record;
  std::string trouble;
  try {
    record = protocol::InstanceRecord::from_json(instance->data);
  } catch (const Error& error) {
    trouble = error.what();
  }
  if (trouble.empty() && record.format != kKnownFormat) {
    trouble = fmt::format("found tree format {}, expected {}", record.format, kKnownFormat);
  }
  if (!trouble.empty()) {
    settle(Role::unusable, fmt::format("cannot serve {}: {}", paths::kConfigService, trouble));
    co_return false;
  }
  const auto domain = co_await client_.get(paths::domain(domain_), on_change(), domain_watch_);
  if (!domain) {
    settle(Role::unusable, fmt::format("is for domain {}, which is not in instance {}", domain_,
                                       record.uuid.to_string()));
    co_return false;
  }
  co_return true;
}

Task<void> ActiveRole::look_at_active() {
  const std::string path(paths::kActiveConfigService);
  const auto node = co_await client_.get(path, on_change(), active_watch_);
  if (!node) {
    coordination::CreateOptions options;
    options.ephemeral = true;
    // The watch fires for this node, and the next look tells whose it is, also after a lost answer.
    try {
      co_await client_.create(path, self_.to_json(), options);
    } catch (const Error& error) {
      if (error.code() != Code::already_exists) throw;
    }
    co_return;
  }
  const auto active = protocol::ActiveRecord::from_json(node->data);
  const bool mine =
      node->stat.ephemeral_owner == client_.session_id() && active.epoch == self_.epoch;
  if (!mine) {
    settle(Role::standby,
           fmt::format("stands by; the active one is {} at {}", active.service, active.address));
    co_return;
  }
  if (role_ == Role::active) co_return;
  co_await client_.sync();
  ++takeovers_;
  settle(Role::active, "");
}

void ActiveRole::settle(Role role, std::string why) {
  if (stopping_) return;
  const bool news = role != role_ || why != why_;
  role_ = role;
  why_ = std::move(why);
  if (!news) return;
  settled_.wake_all();
  const std::string text = role == Role::active ? "is active" : why_;
  if (role == Role::unusable) {
    log_.error("config_service.role", {}, text);
  } else {
    log_.info("config_service.role", {}, text);
  }
}

coordination::OnChange ActiveRole::on_change() {
  return [this] { changed_.set(); };
}

}  // namespace datom::config_service

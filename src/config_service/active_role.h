// Which of the config services is the active one: the one whose ephemeral node is in the tree.
#pragma once

#include <string>

#include "coordination/client.h"
#include "protocol/records.h"
#include "runtime/loop.h"
#include "runtime/task.h"
#include "runtime/wait.h"
#include "telemetry/log.h"

namespace datom::config_service {

enum class Role {
  starting,  // has not read the tree yet
  fresh,     // the tree is no datom instance yet: waits for `datom init`
  unusable,  // the tree is none that this program can serve, and `why` says so
  standby,   // another config service is active
  active,
  ended,  // the coordination session has expired, or stop() was called
};

// Nothing relies on there being only one: every change of the tree is checked by versions. The
// active one is who clients are sent to.
class ActiveRole {
 public:
  // `self` is what it publishes of itself. They must outlive it, on `loop`.
  ActiveRole(runtime::Loop& loop, coordination::Client& client, telemetry::Log log,
             protocol::ActiveRecord self, std::string domain);

  // Watches the tree and takes the role when it is free, until stop() or the session's expiry.
  runtime::Task<void> run();
  // Makes run() end.
  void stop();
  // Gives the role up, so that a standby takes over at once. After run() has ended.
  runtime::Task<void> leave();

  // Waits while starting or fresh. Throws Error{unsupported} when unusable, Error{session_expired}
  // or Error{closed} when ended.
  runtime::Task<void> wait_settled();

  Role role() const { return role_; }
  // How often this one became active: changes with each takeover.
  std::uint64_t takeovers() const { return takeovers_; }
  // Throws Error{unavailable} saying why this one does not answer and who does.
  void require_active() const;

 private:
  runtime::Task<void> look();
  runtime::Task<bool> look_at_instance();
  runtime::Task<void> look_at_active();
  void settle(Role role, std::string why);
  coordination::OnChange on_change();

  coordination::Client& client_;
  telemetry::Log log_;
  protocol::ActiveRecord self_;
  std::string domain_;

  Role role_ = Role::starting;
  std::string why_ = "is starting";
  std::uint64_t takeovers_ = 0;
  bool stopping_ = false;
  runtime::Event changed_;
  runtime::Event settled_;
  runtime::Timer retry_;
  coordination::WatchHandle session_watch_;
  coordination::WatchHandle instance_watch_;
  coordination::WatchHandle domain_watch_;
  coordination::WatchHandle active_watch_;
};

}  // namespace datom::config_service

// A service's place in the coordination tree.
#pragma once

#include <string>

#include "coordination/client.h"
#include "runtime/loop.h"
#include "runtime/task.h"
#include "service/settings.h"
#include "telemetry/log.h"

namespace datom::service {

// What the service publishes while it is up.
struct Presence {
  std::string address;
  std::string nbd_address;  // "" where it has none
  std::string epoch;        // a new uuid at each start
  std::int64_t pid = 0;
};

// Throws Error{not_found} or Error{conflict} saying what is missing or different: the instance, the
// domain, the node (by uuid) or the service.
runtime::Task<void> check_registered(coordination::Client& client, ServiceSettings settings);

// Makes the ephemeral node that says: up. One left over from an earlier start of this service,
// whose session has not expired yet, is replaced: the lock on the root tells that that process is
// gone.
runtime::Task<void> announce(coordination::Client& client, ServiceSettings settings,
                             Presence presence);

// Removes it, if it is still the one of `epoch`. Errors are only logged: it goes with the session.
runtime::Task<void> withdraw(coordination::Client& client, ServiceSettings settings,
                             std::string epoch, telemetry::Log log);

}  // namespace datom::service

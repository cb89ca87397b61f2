// Makes the coordination tree of a new datom instance.
#pragma once

#include <string>

#include "common/uuid.h"
#include "coordination/client.h"
#include "protocol/config_fwd.h"
#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::config_service {

// Makes the instance, its domain, and, if the request names one, the first node and its services;
// all in one step, once. Gives the new instance's uuid. Throws Error{already_exists} naming the
// instance that is there, Error{invalid_argument}.
runtime::Task<Uuid> make_tree(coordination::Client& client, runtime::Random& random,
                              protocol::InitRequest request);

}  // namespace datom::config_service

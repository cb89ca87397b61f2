// The config service as a service.
#pragma once

#include <functional>
#include <memory>

#include "rpc/rpc.h"
#include "service/seams.h"
#include "service/settings.h"

namespace datom::service {

// Registers more handlers on the service's router, which is made anew with each session.
using MoreHandlers = std::function<void(rpc::Router& router)>;

// When its coordination session expires it boots again, on another one.
std::unique_ptr<Service> make_config_node(Seams seams, ServiceOptions options,
                                          MoreHandlers more_handlers = {});

}  // namespace datom::service

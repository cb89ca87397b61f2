// The volume server as a service: a VolumeServer on every loop, RPC and NBD in front of them.
#pragma once

#include <memory>

#include "service/seams.h"
#include "service/settings.h"

namespace datom::service {

// When its coordination session expires it goes on serving, opens another session, and announces
// itself again.
std::unique_ptr<Service> make_volume_service(Seams seams, ServiceOptions options);

}  // namespace datom::service

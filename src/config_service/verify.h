// Whether the members of a volume hold the same.
#pragma once

#include "config_service/domain.h"
#include "protocol/config_fwd.h"
#include "rpc/rpc.h"
#include "runtime/task.h"

namespace datom::config_service {

// What the volume's leader finds: one part of a comparison (protocol/config.proto). Throws
// Error{not_found} for an unknown volume, Error{unavailable} where nobody leads it.
runtime::Task<protocol::VerifyVolumeReply> verify_volume(rpc::Caller& caller, const Domain& domain,
                                                         protocol::VerifyVolumeRequest request);

}  // namespace datom::config_service

// Volumes as NBD exports.
#pragma once

#include <memory>
#include <vector>

#include "nbd/export.h"
#include "service/seams.h"
#include "volume/volume_server.h"

namespace datom::service {

// `shards` and `loops` are those of the process, in the same order, and outlive it.
std::unique_ptr<nbd::Exports> make_volume_exports(std::vector<volume::VolumeServer*> shards,
                                                  std::vector<LoopSeams> loops);

}  // namespace datom::service

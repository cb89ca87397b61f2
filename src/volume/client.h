// One attached client's access to a volume, from any volume server: finds the leader, passes
// requests on to it, and rides out its failover. A request takes effect once, however often it is
// repeated: writes belong to a session and are numbered (rules C1, C2).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "block_store/block_store.h"
#include "common/bytes.h"
#include "protocol/records.h"
#include "runtime/task.h"

namespace datom::volume {

// Belongs to the loop of its volume. Many operations may be under way at once. They wait while the
// volume has no leader: for ever, unless the property client.timeout_ms says how long (then
// Error{unavailable}; the session is closed to later copies of the request). Other errors:
//   permission_denied  another client writes to the volume, or has taken it over
//   no_space, corrupt, invalid_argument (range), closed, not_found (the volume was removed)
class VolumeClient {
 public:
  virtual ~VolumeClient() = default;

  virtual const protocol::VolumeRecord& record() const = 0;
  virtual runtime::Task<Buffer> read(std::uint64_t offset, std::uint32_t length) = 0;
  // Durable on a majority when it returns. Any alignment.
  virtual runtime::Task<void> write(std::uint64_t offset, Buffer data) = 0;
  // Whole blocks inside the range read as zeros afterwards and give their space back.
  virtual runtime::Task<void> trim(std::uint64_t offset, std::uint64_t length) = 0;
  // The range reads as zeros; `keep_allocated`: its whole blocks keep their space.
  virtual runtime::Task<void> write_zeroes(std::uint64_t offset, std::uint64_t length,
                                           bool keep_allocated) = 0;
  // From the start of the range, at least one extent, perhaps not covering it all. Extents end on
  // block boundaries or at the ends of the range.
  virtual runtime::Task<std::vector<block_store::Extent>> extents(std::uint64_t offset,
                                                                  std::uint64_t length,
                                                                  std::size_t max_extents) = 0;
  // The client has gone: operations under way fail with closed, its session may be taken over at
  // once. Returns when all have ended. Before destruction.
  virtual runtime::Task<void> close() = 0;
};

}  // namespace datom::volume

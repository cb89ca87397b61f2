// What the NBD server serves: the seam between NBD and volumes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "runtime/loop.h"
#include "runtime/network.h"
#include "runtime/task.h"

namespace datom::nbd {

struct ExportInfo {
  std::string name;
  std::uint64_t size = 0;  // bytes
  std::string description;
  bool read_only = false;
  bool multi_conn = false;  // a flush on one connection covers writes acknowledged on all others
  std::uint32_t preferred_block = 4096;
};

struct StatusExtent {
  std::uint64_t length = 0;
  bool hole = false;  // no space allocated
  bool zero = false;  // reads as zeros
};

// One client's attachment to a volume. Belongs to one loop. Many operations may be under way at
// once; overlapping ones take effect in some order. They wait, rather than fail, while the volume
// has no leader. Ranges are checked by the caller against info().size; any alignment is fine.
// Errors: permission_denied (another client holds the volume), no_space, corrupt (an unreadable
// block), closed, io_error, unavailable (waited too long).
class Export {
 public:
  virtual ~Export() = default;

  virtual const ExportInfo& info() const = 0;
  virtual runtime::Task<Buffer> read(std::uint64_t offset, std::uint32_t length) = 0;
  // Durable on a majority when it returns.
  virtual runtime::Task<void> write(std::uint64_t offset, Buffer data) = 0;
  // Gives whole blocks inside the range back; they read as zeros. The rest is untouched.
  virtual runtime::Task<void> trim(std::uint64_t offset, std::uint64_t length) = 0;
  // The range reads as zeros; `keep_allocated`: and its space stays reserved
  // (NBD_CMD_FLAG_NO_HOLE).
  virtual runtime::Task<void> write_zeroes(std::uint64_t offset, std::uint64_t length,
                                           bool keep_allocated) = 0;
  virtual runtime::Task<void> flush() = 0;
  // From the start of the range, at least one extent, perhaps not covering it all. Each reaches as
  // far as its state does within the range, also the last: many clients ask for one at a time.
  virtual runtime::Task<std::vector<StatusExtent>> block_status(std::uint64_t offset,
                                                                std::uint64_t length,
                                                                std::size_t max_extents) = 0;
  // The client has gone; ends what is under way, returns when all has ended. Before destruction.
  virtual runtime::Task<void> close() = 0;
};

// Where a volume lives within the process.
struct ExportPlace {
  runtime::Loop* loop = nullptr;
  runtime::Network* network = nullptr;  // of that loop
};

class Exports {
 public:
  virtual ~Exports() = default;

  // All exports, sorted by name. On any loop of the process.
  virtual runtime::Task<std::vector<ExportInfo>> list() = 0;
  // Error{not_found} naming the export. On any loop of the process.
  virtual runtime::Task<ExportInfo> describe(std::string name) = 0;
  // The loop that serves the export. Any loop; does not block.
  virtual ExportPlace place(const std::string& name) = 0;
  // Attaches a client. On the loop of place(name). Attaching to read disturbs nobody; the first
  // write makes the client the writer.
  virtual runtime::Task<std::unique_ptr<Export>> open(std::string name) = 0;
};

}  // namespace datom::nbd

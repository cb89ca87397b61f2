// Brings changes into the data file: neighbouring ones become one operation, those that do not
// overlap run side by side, those that do in their order. Format: docs/formats.md.
#pragma once

#include <cstdint>
#include <vector>

#include "block_store/range_guard.h"
#include "common/bytes.h"
#include "runtime/file.h"
#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::block_store {

struct Change {
  BlockKind kind = BlockKind::hole;  // what the range becomes
  BlockRange range;
  Buffer content;  // of the range, if data
};

// Returns when all is written; not synced. `file`, which may be opened `direct`, and `loop` must
// live that long.
runtime::Task<void> write_changes(runtime::Loop& loop, runtime::File& file,
                                  std::vector<Change> changes);

}  // namespace datom::block_store

// What every File implementation checks of an operation on a file opened `direct`.
#pragma once

#include <cstdint>

#include "common/bytes.h"
#include "common/check.h"
#include "runtime/file.h"

namespace datom::runtime {

// Fails a DATOM_CHECK when offset or length are no multiples of 4 KiB, or memory not as it has to
// be, although the file is direct; also where the filesystem fell back to buffered, so that
// mistakes do not hide there.
inline void check_alignment(const File& file, const OpenOptions& options, std::uint64_t offset,
                            ByteView memory) {
  if (!options.direct) return;
  DATOM_CHECK(offset % kBlockSize == 0);
  DATOM_CHECK(memory.size() % kBlockSize == 0);
  DATOM_CHECK(reinterpret_cast<std::uintptr_t>(memory.data()) % file.memory_alignment() == 0);
}

}  // namespace datom::runtime

// Finds out what a journal's directory holds (docs/formats.md, "Recovery"). Reads only.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/uuid.h"
#include "journal/index.h"
#include "journal/segment.h"
#include "runtime/file.h"
#include "runtime/task.h"

namespace datom::journal {

inline constexpr std::uint64_t kMaxSegmentBytes = 1 << 30;

// A file beside the segments: while it is there, the head is uncertain, whatever the segments say.
inline constexpr std::string_view kUncertainMarker = "head-uncertain";

struct Recovered {
  Index index{protocol::EntryId{}};
  std::deque<std::shared_ptr<Segment>> segments;  // in order, at least one
  std::uint64_t keep = 0;                         // where the last entry ends in the last segment
  bool torn = false;     // behind `keep` are remains of a write that was never acknowledged
  bool damaged = false;  // behind `keep`, or in `lost`, is what was not understood
  bool marker = false;   // kUncertainMarker is there
  std::vector<std::string> lost;      // segment files behind the damage, or themselves damaged
  std::vector<std::string> obsolete;  // files of no use: spares, never begun, or superseded
  std::uint32_t next_number = 1;      // of a file
  std::uint32_t next_sequence = 1;
};

// Throws Error{not_found, corrupt, unsupported}.
runtime::Task<Recovered> recover(runtime::Filesystem& files, std::string directory, Uuid volume);

// Whether a journal was begun in the directory, readable or not.
runtime::Task<bool> journal_exists(runtime::Filesystem& files, std::string directory);

}  // namespace datom::journal

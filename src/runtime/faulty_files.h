// A file system whose operations fail or wait as a test decides: full disks, read-only ones, bad
// sectors, slow ones.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/file.h"

namespace datom::runtime {

struct FileOperation {
  // That of File or Filesystem, e.g. "read", "sync", "rename"; an open that may create: "create".
  std::string_view name;
  std::string path;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;

  bool changes() const { return name != "open" && name != "read" && name != "list"; }
  // Whether byte `at` is among those that it reads or writes.
  bool covers(std::uint64_t at) const { return offset <= at && at - offset < length; }
};

// An errno, or 0: the operation takes place in `below`.
using Faults = std::function<int(const FileOperation&)>;

// What a write waits for before it takes place.
using Holds = std::function<Task<void>(FileOperation)>;

std::unique_ptr<Filesystem> make_faulty_filesystem(std::unique_ptr<Filesystem> below, Faults faults,
                                                   Holds holds = nullptr);

}  // namespace datom::runtime

// A file system in memory that knows what a power cut would leave: tests and simulations crash it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "runtime/file.h"
#include "runtime/loop.h"

namespace datom::runtime {

// What outlives a crash: the disk. Several MemoryFilesystems (one process after another) may be
// made over it in turn.
class MemoryDisk {
 public:
  MemoryDisk();
  ~MemoryDisk();

  // As a power cut: of all writes not covered by a completed sync, each 512 byte sector survives or
  // not; so does each creation, rename and removal not covered by sync_directory (never without
  // those before it of the same name or directory). `random` draws the decisions. Files and
  // filesystems opened before fail with io_error afterwards.
  void crash(Random& random);
  // The disk's size; writes and allocations beyond it fail with no_space. Unlimited until set.
  void limit(std::uint64_t bytes);
  // Flips one bit of the stored file. REQUIRES: the file exists and is that long.
  void flip_bit(const std::string& path, std::uint64_t byte, int bit);
  // The next sync of any file, or write to one opened `synchronous`, fails with io_error. What it
  // should have covered stays unsynced for ever, as after a real one: a later sync does not help.
  void fail_next_sync();

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

// Operations take effect and complete through the loop's queue, in order; between the two a crash
// may tear a write. `loop` and `disk` must outlive it.
std::unique_ptr<Filesystem> make_memory_filesystem(Loop& loop, MemoryDisk& disk);

}  // namespace datom::runtime

// The File seam: everything datom keeps on disk goes through it. Implementations: io_uring
// (uring_files.h), a thread pool where io_uring is refused (thread_files.h), and memory
// (memory_files.h), which can also lose unsynced writes for tests. A Filesystem and its files
// belong to one loop; completions resume there.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "runtime/task.h"

namespace datom::runtime {

struct OpenOptions {
  bool create = false;     // create it if missing
  bool exclusive = false;  // with create: fail with already_exists if it is there
  bool read_only = false;
  // O_DIRECT: offsets and lengths in multiples of 4 KiB, memory as memory_alignment() says. Falls
  // back to buffered where the filesystem refuses it (tmpfs), with `synchronous` still honoured.
  bool direct = false;
  bool synchronous = false;  // O_DSYNC: a finished write is on stable storage
};

// An open file. close() or the destructor releases it; no operation may be under way then.
// Several operations may be under way at once, in no order among each other.
// Errors: Error{io_error, no_space, ...} with path and errno's text. A failed sync means that
// unsynced writes may be lost for ever: the caller stops (reliability rule S1).
class File {
 public:
  virtual ~File() = default;

  // What is read or written `direct` begins in memory at a multiple of this, which is 4 KiB or a
  // part of it.
  virtual std::size_t memory_alignment() const { return kBlockSize; }

  // Reads until `into` is full or the file ends; gives how much was read. Holes read as zeros.
  virtual Task<std::size_t> read(std::uint64_t offset, MutableBytes into) = 0;
  // Writes all of `from`, growing the file if needed. Not durable before sync() (or `synchronous`).
  virtual Task<void> write(std::uint64_t offset, ByteView from) = 0;
  // As write() of each piece, in no order; returns once all are written, or throws what the first
  // failure was once none is under way. The memory stays the caller's until then. One call of the
  // system for many pieces where that can be.
  struct Piece {
    std::uint64_t offset = 0;
    ByteView bytes;
  };
  virtual Task<void> write_pieces(std::span<const Piece> pieces);
  // fdatasync: everything written and allocated before the call is on stable storage.
  virtual Task<void> sync() = 0;
  virtual Task<std::uint64_t> size() = 0;
  virtual Task<void> resize(std::uint64_t size) = 0;
  // Reserves space for [offset, offset + length) so that later writes cannot fail for lack of it;
  // grows the file. Reads as zeros. Error{no_space} if there is none.
  virtual Task<void> allocate(std::uint64_t offset, std::uint64_t length) = 0;
  // Frees the space of [offset, offset + length): reads as zeros afterwards; the size stays.
  virtual Task<void> punch_hole(std::uint64_t offset, std::uint64_t length) = 0;
};

struct SpaceInfo {
  std::uint64_t total = 0;      // bytes of the filesystem
  std::uint64_t available = 0;  // bytes this process may still use
};

// Paths are absolute or relative to the process; directories are made durable by sync_directory.
class Filesystem {
 public:
  virtual ~Filesystem() = default;

  virtual Task<std::unique_ptr<File>> open(std::string path, OpenOptions options) = 0;
  // Names (not paths) in the directory, sorted, without "." and "..".
  virtual Task<std::vector<std::string>> list(std::string directory) = 0;
  virtual Task<bool> exists(std::string path) = 0;
  // Makes the directory and its missing parents; no error if it is there.
  virtual Task<void> make_directories(std::string path) = 0;
  // Atomic: `to` is replaced if it is there.
  virtual Task<void> rename(std::string from, std::string to) = 0;
  virtual Task<void> remove(std::string path) = 0;
  // Removes a directory with all that is in it; no error if missing.
  virtual Task<void> remove_tree(std::string path) = 0;
  // Makes creations, renames and removals in the directory durable.
  virtual Task<void> sync_directory(std::string path) = 0;
  virtual Task<SpaceInfo> space(std::string path) = 0;
};

// A whole small file (at most `limit` bytes, else Error{too_large}); Error{not_found} if missing.
Task<std::string> read_file(Filesystem& files, std::string path, std::size_t limit);
// Replaces the file durably: temporary file beside it, sync, rename, sync of the directory.
Task<void> write_file(Filesystem& files, std::string path, std::string content);

}  // namespace datom::runtime

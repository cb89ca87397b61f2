// A server's disk: it takes its time, so that power cuts find writes under way and later operations
// overtake earlier ones; and it fails in the ways that disks do. What it keeps outlives processes.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "block_store/block_store.h"
#include "common/uuid.h"
#include "runtime/file.h"
#include "runtime/memory_files.h"
#include "runtime/virtual_loop.h"
#include "sim/verdict.h"

namespace datom::sim {

enum class DiskFault { sync_fails, write_fails, read_fails, read_misdirected, write_misdirected };

class Disk {
 public:
  // Operations go on in the `world`, whatever becomes of the process that asked; an operation waits
  // up to `slowest` first, one of `stall_one_in` (0: none) up to three seconds. Its completion
  // resumes on `node`.
  Disk(runtime::VirtualLoop& world, runtime::Loop& node, std::uint64_t seed,
       runtime::Duration slowest, std::uint64_t stall_one_in);
  ~Disk();

  // For one process.
  std::unique_ptr<runtime::Filesystem> mount();
  // Beside all processes: at once, and never failing.
  std::unique_ptr<runtime::Filesystem> look();

  // A power cut.
  void crash();
  // Another, empty disk. REQUIRES: nothing is mounted.
  void replace();
  // Its size, from now on; 0: without limit.
  void limit(std::uint64_t bytes);
  // Befalls the next operation of the kind, on files whose path contains `path`.
  void inject(DiskFault fault, std::string path);
  // Until then every operation takes up to three seconds.
  void stall(runtime::Time until);
  // What was injected and has not happened yet will not; space is there.
  void calm();
  // 0: there is no such file.
  runtime::Task<std::uint64_t> size_of(std::string path);
  runtime::Task<std::uint64_t> used();
  void flip_bit(const std::string& path, std::uint64_t byte, int bit);
  // The last write to a journal.
  struct Written {
    std::string path;
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
  };
  std::optional<Written> last_journal_write() const;
  // Faults that happened, by kind.
  void count_faults(Verdict& verdict) const;
  // Since when the process that has it mounted knows that a sync or a write has failed.
  std::optional<runtime::Time> failed_since() const;
  // What the replica's superblock on stable storage says; of none: nothing is promised or complete.
  block_store::ReplicaState kept(const Uuid& replica) const;

 private:
  struct State;
  class File;
  class Files;
  std::shared_ptr<State> state_;
};

}  // namespace datom::sim

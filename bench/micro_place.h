// Where the microbenchmarks of devices run: in memory and virtual time (the cost of our own code),
// or on the file system of this machine (with the kernel's).
#pragma once

#include <stdlib.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/check.h"
#include "protocol/entry.h"
#include "runtime/event_loop.h"
#include "runtime/memory_files.h"
#include "runtime/thread_files.h"
#include "runtime/virtual_loop.h"

namespace datom::bench {

inline const Uuid kVolume = Uuid::from_random(7, 8);

// A folder /bench on a disk in memory.
class InMemory {
 public:
  InMemory() : files_(runtime::make_memory_filesystem(loop_, disk_)) {
    run(files_->make_directories(folder()));
  }

  runtime::Loop& loop() { return loop_; }
  runtime::Filesystem& files() { return *files_; }
  std::string folder() const { return "/bench"; }
  void run(runtime::Task<void> task) { loop_.run(std::move(task)); }

 private:
  runtime::VirtualLoop loop_;
  runtime::MemoryDisk disk_;
  std::unique_ptr<runtime::Filesystem> files_;
};

// A folder of its own below the current one, which should be on a disk. Gone afterwards.
class OnDisk {
 public:
  OnDisk() : files_(runtime::make_filesystem(loop_, &chosen_)) {
    DATOM_CHECK(::mkdtemp(folder_.data()) != nullptr);
  }
  ~OnDisk() { run(files_->remove_tree(folder_)); }
  OnDisk(const OnDisk&) = delete;
  OnDisk& operator=(const OnDisk&) = delete;

  runtime::Loop& loop() { return loop_; }
  runtime::Filesystem& files() { return *files_; }
  const std::string& folder() const { return folder_; }
  void run(runtime::Task<void> task) { loop_.run(std::move(task)); }

 private:
  runtime::EventLoop loop_;
  std::string chosen_;
  std::unique_ptr<runtime::Filesystem> files_;
  std::string folder_ = "microbench-XXXXXX";
};

// Puts the value of a task into `into`.
template <typename T>
runtime::Task<void> keep(runtime::Task<T> task, std::optional<T>* into) {
  T value = co_await std::move(task);
  into->emplace(std::move(value));
}

template <typename Place, typename T>
T result_of(Place& place, runtime::Task<T> task) {
  std::optional<T> value;
  place.run(keep(std::move(task), &value));
  return std::move(*value);
}

// `size` bytes that are not all zeros.
Buffer content(std::size_t size);

// Writes of `bytes` each, behind `last`, to blocks that `random` chooses among `volume_bytes`.
protocol::EntryBatch write_batch(const protocol::EntryId& last, std::size_t entries,
                                 const Buffer& payload, runtime::SeededRandom& random,
                                 std::uint64_t volume_bytes);

std::vector<protocol::Entry> entries_of(const protocol::EntryBatch& batch);

}  // namespace datom::bench

// For tests: a block store on a memory disk in virtual time, and entries whose content tells which
// op wrote it to which block.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "block_store/block_store.h"
#include "common/error.h"
#include "runtime/memory_files.h"
#include "runtime/task_group.h"
#include "runtime/virtual_loop.h"

namespace datom::block_store {

// Puts the value of a task into `into`.
template <typename T>
runtime::Task<void> keep(runtime::Task<T> task, std::optional<T>* into) {
  T value = co_await std::move(task);
  into->emplace(std::move(value));
}

template <typename T>
T run(runtime::VirtualLoop& loop, runtime::Task<T> task) {
  std::optional<T> value;
  loop.run(keep(std::move(task), &value));
  return std::move(*value);
}
inline void run(runtime::VirtualLoop& loop, runtime::Task<void> task) {
  loop.run(std::move(task));
}

// The code of the Error that `action` throws; nullopt if none.
template <typename Action>
std::optional<Code> code_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return std::nullopt;
}

// 4 KiB that no other (op, block) has.
Buffer content_of(std::uint64_t op, BlockNumber block);

protocol::Entry write_entry(std::uint64_t op, BlockNumber first, std::uint64_t count);
protocol::Entry write_zeros_entry(std::uint64_t op, BlockNumber first, std::uint64_t count);
protocol::Entry zero_entry(std::uint64_t op, BlockNumber first, std::uint64_t count);
protocol::Entry trim_entry(std::uint64_t op, BlockNumber first, std::uint64_t count);
protocol::Entry no_op_entry(std::uint64_t op);

// A random sequence in which every sector survives a crash: what is left after kill -9.
class AllSurvives final : public runtime::Random {
 public:
  std::uint64_t next() override { return 0; }
};

class StoreWorld {
 public:
  static constexpr const char* kDirectory = "/replica";

  // Formats and opens a store of `blocks`.
  explicit StoreWorld(std::uint64_t blocks, BlockStoreOptions options = {});
  ~StoreWorld();

  void open();
  void close();
  // Power cut, then open. Only while nothing is under way.
  void crash(runtime::Random& random);
  void reopen();

  void apply(protocol::Entry entry);
  void apply_all(std::vector<protocol::Entry> entries);
  // `state` of the store with these sessions.
  void checkpoint(std::string sessions = "");
  Buffer read(BlockNumber first, std::uint64_t count);
  // Which op's content the block holds: 0 for zeros, nullopt for neither.
  std::optional<std::uint64_t> op_read(BlockNumber block, std::uint64_t newest_op);
  std::vector<BlockVersion> versions();
  std::vector<Extent> extents(BlockNumber first, std::uint64_t count, std::size_t limit = 1000);

  runtime::VirtualLoop loop;
  runtime::MemoryDisk disk;
  std::unique_ptr<runtime::Filesystem> files;
  std::unique_ptr<BlockStore> store;

 private:
  BlockStoreOptions options_;
};

// A block to install, by itself.
std::vector<PeerBlock> alone(BlockVersion version, Buffer content);

// Brings everything that `from` has into `to`, as a replica does that was away; `to` is then as of
// from.applied_op() and checkpointed.
void copy_blocks(StoreWorld& from, StoreWorld& to);

}  // namespace datom::block_store

// The superblock: what a replica must remember beside its blocks. Two slots of 4 KiB in one file.
// Format: docs/formats.md.
//
// A write goes to both slots, one after the other, the older or damaged one first: at every moment
// one slot is whole, and once the write has returned either slot alone is enough. A promise that
// was sent must not be lost to one bad sector.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "block_store/block_store.h"
#include "runtime/file.h"
#include "runtime/task.h"

namespace datom::block_store {

inline constexpr std::size_t kSuperblockSlotBytes = 4096;

struct Superblock {
  std::uint64_t sequence = 0;  // of the write: the greater one counts
  std::uint64_t size = 0;      // of the volume, bytes
  ReplicaState state;
  Op checkpoint;
  // The table may hold ops up to this one: the checkpoint, or that of a checkpoint which was begun.
  // fingerprint and blocks_used are as of it; undefined while state.base_complete is false.
  Op horizon;
  std::uint64_t fingerprint = 0;
  std::uint64_t blocks_used = 0;
};

// One slot. REQUIRES: state.sessions within kMaxSessionBytes.
Buffer encode_superblock(const Superblock& superblock);
// nullopt where the slot is damaged. Throws Error{unsupported} for a format of another version.
std::optional<Superblock> decode_superblock(ByteView slot);

class SuperblockFile {
 public:
  // Makes the file with `first` in both slots, durably but for its name in the directory.
  static runtime::Task<void> create(runtime::Filesystem& files, std::string path, Superblock first);
  // See BlockStore::open for the errors. Slots that differ are made equal.
  static runtime::Task<std::unique_ptr<SuperblockFile>> open(runtime::Filesystem& files,
                                                             std::string path);

  const Superblock& current() const { return current_; }
  // Durable when it returns; `next.sequence` is assigned here. One at a time.
  runtime::Task<void> write(Superblock next);

 private:
  runtime::Task<void> load(const std::string& path);
  runtime::Task<Buffer> read_slot(std::size_t slot, std::string& trouble);
  runtime::Task<void> write_slot(std::size_t slot, Buffer bytes);

  std::unique_ptr<runtime::File> file_;
  Superblock current_;
  std::size_t write_first_ = 0;  // never the only valid slot
};

}  // namespace datom::block_store

// A block store as a disk may show it: superblock slots and table. First byte: what is sealed with
// good checksums; then the slots' fields, then table entries. It is opened and used.
#include <utility>

#include "block_store/block_store.h"
#include "block_store/superblock.h"
#include "block_store/table.h"
#include "common/check.h"
#include "common/checksum.h"
#include "common/error.h"
#include "fuzz/input.h"
#include "fuzz/target.h"
#include "runtime/memory_files.h"
#include "runtime/virtual_loop.h"

namespace datom::fuzz {
namespace {

using block_store::BlockVersion;
using block_store::Superblock;

constexpr std::uint64_t kBlocks = 300;
constexpr std::size_t kFieldBytes = 160;  // of a slot: all but most of the sessions
constexpr std::size_t kChecksumAt = block_store::kSuperblockSlotBytes - 8;
const std::string kDirectory = "/store";

// The slot of a store as it is made, some of its bytes changed.
Buffer slot(Input& input, bool sealed) {
  Superblock good;
  good.size = kBlocks * kBlockSize;
  good.sequence = 1;
  Buffer bytes = Buffer::copy_of(block_store::encode_superblock(good).view());
  for (std::size_t changes = input.byte() % 16; changes > 0; --changes) {
    const std::size_t at = input.byte() % kFieldBytes;
    bytes.mutable_data()[at] = std::byte{input.byte()};
  }
  if (sealed) {
    store_le(bytes.mutable_data() + kChecksumAt, checksum(bytes.view().first(kChecksumAt)));
  }
  return bytes;
}

Buffer table(Input& input, bool sealed) {
  Buffer bytes = Buffer::zeroed(block_store::table_file_bytes(kBlocks));
  while (!input.empty()) {
    BlockVersion version;
    version.block = input.number<std::uint16_t>() % kBlocks;
    block_store::RawEntry entry;
    if (sealed) {
      version.op = Op(input.byte());
      version.kind = static_cast<block_store::BlockKind>(input.byte() % 3);
      if (version.kind == block_store::BlockKind::data) version.checksum = input.byte();
      entry = block_store::encode_entry(version);
      const auto decoded = block_store::decode_entry(version.block, entry);
      DATOM_CHECK(decoded && decoded->op == version.op);
    } else {
      entry.op_and_kind = input.number<std::uint64_t>();
      entry.sealed_checksum = input.number<std::uint64_t>();
      block_store::decode_entry(version.block, entry);
    }
    std::byte* at = bytes.mutable_data() + version.block * block_store::kTableEntryBytes;
    store_le(at, entry.op_and_kind);
    store_le(at + 8, entry.sealed_checksum);
  }
  return bytes;
}

runtime::Task<void> put(runtime::Filesystem& files, std::string path, ByteView bytes) {
  runtime::OpenOptions options{.create = true};
  const auto file = co_await files.open(path, options);
  co_await file->write(0, bytes);
  co_await file->sync();
}

runtime::Task<void> swallow(runtime::Task<void> task) {
  try {
    co_await std::move(task);
  } catch (const Error& error) {
    DATOM_CHECK(error.code() != Code::internal);
  }
}

runtime::Task<void> look(block_store::BlockStore& store) {
  co_await store.newer_blocks(0, Op(3), 50);
  co_await store.extents(0, store.size(), 64);
  co_await store.read(0, store.size());
}

// Applies a write over everything, if the op has room behind what the superblock says.
runtime::Task<void> overwrite(block_store::BlockStore& store) {
  if (store.applied_op().value() >= block_store::kMaxOp) co_return;
  protocol::Entry entry;
  entry.header.kind = protocol::EntryKind::write;
  entry.header.op = store.applied_op().next();
  entry.header.length = std::min<std::uint64_t>(store.size(), 64 * kBlockSize);
  entry.payload = Buffer::zeroed(entry.header.length);
  std::vector<protocol::Entry> entries(1, entry);
  co_await store.apply(std::move(entries));
  const Buffer back = co_await store.read(0, entry.header.length);
  DATOM_CHECK(all_zero(back.view()));
}

runtime::Task<void> use(runtime::Filesystem& files, runtime::Loop& loop) {
  const auto store = co_await block_store::BlockStore::open(files, loop, kDirectory, {});
  co_await swallow(look(*store));
  co_await swallow(overwrite(*store));
  co_await swallow(look(*store));
  co_await swallow(store->checkpoint(store->state()));
  co_await store->close();
}

runtime::Task<void> make_and_use(runtime::Filesystem& files, runtime::Loop& loop, Buffer first,
                                 Buffer second, Buffer entries) {
  co_await files.make_directories(kDirectory);
  co_await block_store::BlockStore::format(files, kDirectory, kBlocks * kBlockSize, {});
  co_await put(files, kDirectory + "/superblock", first.view());
  {
    runtime::OpenOptions options;
    const auto file = co_await files.open(kDirectory + "/superblock", options);
    co_await file->write(block_store::kSuperblockSlotBytes, second.view());
  }
  co_await put(files, kDirectory + "/layers/0/table", entries.view());
  co_await swallow(use(files, loop));
}

}  // namespace

void run(ByteView bytes) {
  Input input(bytes);
  const std::uint8_t sealed = input.byte();
  const Buffer first = slot(input, (sealed & 1) != 0);
  const Buffer second = slot(input, (sealed & 2) != 0);
  for (const Buffer& each : {first, second}) {
    try {
      const std::optional<Superblock> decoded = block_store::decode_superblock(each.view());
      if (decoded) block_store::encode_superblock(*decoded);
    } catch (const Error&) {
    }
  }
  const Buffer entries = table(input, (sealed & 4) != 0);
  runtime::VirtualLoop loop;
  runtime::MemoryDisk disk;
  const auto files = runtime::make_memory_filesystem(loop, disk);
  loop.run(make_and_use(*files, loop, first, second, entries));
}

std::map<std::string, std::string> seeds() {
  Output good;
  good.number<std::uint8_t>(7).number<std::uint8_t>(0).number<std::uint8_t>(0);
  for (std::uint16_t block = 0; block < 4; ++block) {
    good.number(block).number<std::uint8_t>(5).number(static_cast<std::uint8_t>(block % 2));
  }
  Output damaged;
  damaged.number<std::uint8_t>(1).number<std::uint8_t>(2).number<std::uint8_t>(16);
  damaged.number<std::uint8_t>(9).number<std::uint8_t>(80).number<std::uint8_t>(200);
  damaged.number<std::uint8_t>(1).number<std::uint8_t>(64).number<std::uint8_t>(1);
  damaged.number<std::uint16_t>(7).number<std::uint64_t>(1).number<std::uint64_t>(2);
  return {{"good", good.take()}, {"damaged", damaged.take()}};
}

}  // namespace datom::fuzz

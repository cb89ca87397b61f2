#include "block_store/store_fixture.h"

#include <cstring>

namespace datom::block_store {
namespace {

protocol::Entry entry_of(protocol::EntryKind kind, std::uint64_t op, BlockNumber first,
                         std::uint64_t count) {
  protocol::Entry entry;
  entry.header.kind = kind;
  entry.header.term = Term(1);
  entry.header.op = Op(op);
  entry.header.offset = first * kBlockSize;
  entry.header.length = count * kBlockSize;
  return entry;
}

}  // namespace

Buffer content_of(std::uint64_t op, BlockNumber block) {
  Buffer content = Buffer::allocate(kBlockSize);
  runtime::SeededRandom random(op * 1'000'003 + block);
  for (std::size_t at = 0; at < kBlockSize; at += 8) {
    store_le(content.mutable_data() + at, random.next());
  }
  return content;
}

protocol::Entry write_entry(std::uint64_t op, BlockNumber first, std::uint64_t count) {
  protocol::Entry entry = entry_of(protocol::EntryKind::write, op, first, count);
  entry.payload = Buffer::allocate(count * kBlockSize);
  for (std::uint64_t i = 0; i < count; ++i) {
    std::memcpy(entry.payload.mutable_data() + i * kBlockSize, content_of(op, first + i).data(),
                kBlockSize);
  }
  entry.header.payload_length = static_cast<std::uint32_t>(entry.payload.size());
  return entry;
}

protocol::Entry write_zeros_entry(std::uint64_t op, BlockNumber first, std::uint64_t count) {
  protocol::Entry entry = entry_of(protocol::EntryKind::write, op, first, count);
  entry.payload = Buffer::zeroed(count * kBlockSize);
  entry.header.payload_length = static_cast<std::uint32_t>(entry.payload.size());
  return entry;
}

protocol::Entry zero_entry(std::uint64_t op, BlockNumber first, std::uint64_t count) {
  return entry_of(protocol::EntryKind::zero, op, first, count);
}

protocol::Entry trim_entry(std::uint64_t op, BlockNumber first, std::uint64_t count) {
  return entry_of(protocol::EntryKind::trim, op, first, count);
}

protocol::Entry no_op_entry(std::uint64_t op) {
  return entry_of(protocol::EntryKind::no_op, op, 0, 0);
}

StoreWorld::StoreWorld(std::uint64_t blocks, BlockStoreOptions options) : options_(options) {
  files = runtime::make_memory_filesystem(loop, disk);
  run(loop, files->make_directories(kDirectory));
  run(loop, files->sync_directory("/"));
  run(loop, BlockStore::format(*files, kDirectory, blocks * kBlockSize, ReplicaState{}));
  open();
}

StoreWorld::~StoreWorld() {
  close();
}

void StoreWorld::open() {
  store = run(loop, BlockStore::open(*files, loop, kDirectory, options_));
}

void StoreWorld::close() {
  if (store == nullptr) return;
  run(loop, store->close());
  store.reset();
}

void StoreWorld::crash(runtime::Random& random) {
  disk.crash(random);
  close();
  files = runtime::make_memory_filesystem(loop, disk);
  open();
}

void StoreWorld::reopen() {
  close();
  open();
}

void StoreWorld::apply(protocol::Entry entry) {
  std::vector<protocol::Entry> entries;
  entries.push_back(std::move(entry));
  apply_all(std::move(entries));
}

void StoreWorld::apply_all(std::vector<protocol::Entry> entries) {
  run(loop, store->apply(std::move(entries)));
}

void StoreWorld::checkpoint(std::string sessions) {
  ReplicaState state = store->state();
  state.sessions = std::move(sessions);
  run(loop, store->checkpoint(std::move(state)));
}

Buffer StoreWorld::read(BlockNumber first, std::uint64_t count) {
  return run(loop, store->read(first * kBlockSize, count * kBlockSize));
}

std::optional<std::uint64_t> StoreWorld::op_read(BlockNumber block, std::uint64_t newest_op) {
  const Buffer content = read(block, 1);
  if (all_zero(content.view())) return 0;
  for (std::uint64_t op = newest_op; op > 0; --op) {
    if (as_text(content_of(op, block).view()) == as_text(content.view())) return op;
  }
  return std::nullopt;
}

std::vector<BlockVersion> StoreWorld::versions() {
  return run(loop, store->newer_blocks(0, Op(0), store->size() / kBlockSize + 1));
}

std::vector<Extent> StoreWorld::extents(BlockNumber first, std::uint64_t count, std::size_t limit) {
  return run(loop, store->extents(first * kBlockSize, count * kBlockSize, limit));
}

std::vector<PeerBlock> alone(BlockVersion version, Buffer content) {
  std::vector<PeerBlock> blocks;
  blocks.push_back({version, std::move(content)});
  return blocks;
}

void copy_blocks(StoreWorld& from, StoreWorld& to) {
  constexpr std::size_t kAtOnce = 7;
  const Op had = to.store->checkpoint_op();
  ReplicaState state = to.store->state();
  state.base_complete = false;
  state.copy_from = had;
  run(to.loop, to.store->save(state));
  to.store->begin_copy(from.store->applied_op(), from.store->applied_op());
  std::vector<BlockVersion> versions;
  BlockNumber next = 0;
  do {
    versions = run(from.loop, from.store->newer_blocks(next, had, kAtOnce));
    std::vector<PeerBlock> blocks;
    for (const BlockVersion& version : versions) {
      Buffer content;
      if (version.kind == BlockKind::data) content = from.read(version.block, 1);
      blocks.push_back({version, std::move(content)});
      next = version.block + 1;
    }
    run(to.loop, to.store->install(std::move(blocks)));
  } while (versions.size() == kAtOnce);
  run(to.loop, to.store->finish_copy(from.store->applied_op()));
  state.base_complete = true;
  run(to.loop, to.store->checkpoint(state));
}

}  // namespace datom::block_store

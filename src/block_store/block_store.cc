#include "block_store/block_store.h"

#include <utility>

#include "block_store/block_store_impl.h"
#include "common/check.h"
#include "common/error.h"

namespace datom::block_store {
namespace {

std::string superblock_path(const std::string& directory) {
  return directory + "/superblock";
}
std::string layers_path(const std::string& directory) {
  return directory + "/layers";
}
std::string layer_path(const std::string& directory) {
  return layers_path(directory) + "/0";
}
std::string data_path(const std::string& directory) {
  return layer_path(directory) + "/data";
}
std::string table_path(const std::string& directory) {
  return layer_path(directory) + "/table";
}

// An empty sparse file of that size, whatever an interrupted attempt has left.
runtime::Task<void> make_sparse(runtime::Filesystem& files, std::string path, std::uint64_t size) {
  runtime::OpenOptions options{.create = true};
  std::unique_ptr<runtime::File> file = co_await files.open(path, options);
  co_await file->resize(0);
  co_await file->resize(size);
  co_await file->sync();
}

runtime::Task<std::unique_ptr<runtime::File>> open_sized(runtime::Filesystem& files,
                                                         std::string path, std::uint64_t size,
                                                         runtime::OpenOptions options = {}) {
  const bool there = co_await files.exists(path);
  if (!there) throw Error(Code::corrupt, "{} is missing", path);
  std::unique_ptr<runtime::File> file = co_await files.open(path, options);
  const std::uint64_t found = co_await file->size();
  if (found != size) {
    throw Error(Code::corrupt, "{} has {} bytes, expected {}", path, found, size);
  }
  co_return file;
}

}  // namespace

runtime::Task<void> BlockStore::format(runtime::Filesystem& files, std::string directory,
                                       std::uint64_t size, ReplicaState state) {
  if (size == 0 || size % kBlockSize != 0) {
    throw Error(Code::invalid_argument, "a volume of {} bytes: expected a multiple of {}", size,
                kBlockSize);
  }
  if (state.sessions.size() > kMaxSessionBytes) {
    throw Error(Code::too_large, "{} bytes of sessions, at most {}", state.sessions.size(),
                kMaxSessionBytes);
  }
  const std::string path = superblock_path(directory);
  const bool there = co_await files.exists(path);
  if (there) throw Error(Code::already_exists, "{} is there already", path);
  co_await files.make_directories(layer_path(directory));
  co_await make_sparse(files, data_path(directory), size);
  co_await make_sparse(files, table_path(directory), table_file_bytes(size / kBlockSize));
  co_await files.sync_directory(layer_path(directory));
  co_await files.sync_directory(layers_path(directory));
  Superblock first;
  first.size = size;
  first.state = std::move(state);
  // The superblock appears last, and whole: it is what makes the directory a store.
  co_await SuperblockFile::create(files, path + ".new", std::move(first));
  co_await files.rename(path + ".new", path);
  co_await files.sync_directory(directory);
}

runtime::Task<std::unique_ptr<BlockStore>> BlockStore::open(runtime::Filesystem& files,
                                                            runtime::Loop& loop,
                                                            std::string directory,
                                                            BlockStoreOptions options) {
  const std::string path = superblock_path(directory);
  const bool there = co_await files.exists(path);
  if (!there) throw Error(Code::not_found, "no block store in {}: no superblock", directory);
  std::unique_ptr<SuperblockFile> superblock = co_await SuperblockFile::open(files, path);
  const std::uint64_t size = superblock->current().size;
  runtime::OpenOptions past_the_page_cache{.direct = true};
  std::unique_ptr<runtime::File> data =
      co_await open_sized(files, data_path(directory), size, past_the_page_cache);
  std::unique_ptr<runtime::File> table =
      co_await open_sized(files, table_path(directory), table_file_bytes(size / kBlockSize));
  auto impl = std::make_unique<Impl>(loop, std::move(directory), std::move(superblock),
                                     std::move(data), std::move(table), options);
  co_return std::unique_ptr<BlockStore>(new BlockStore(std::move(impl)));
}

BlockStore::Impl::Impl(runtime::Loop& on, std::string where,
                       std::unique_ptr<SuperblockFile> superblock_file,
                       std::unique_ptr<runtime::File> data_file,
                       std::unique_ptr<runtime::File> table_file, BlockStoreOptions options)
    : loop(on),
      directory(std::move(where)),
      superblock(std::move(superblock_file)),
      data(std::move(data_file)),
      table(on, std::move(table_file), superblock->current().size / kBlockSize,
            options.table_cache_bytes),
      guard(on),
      cached(options.cache),
      superblock_writes(on),
      idle(on) {
  const Superblock& found = superblock->current();
  applied = found.checkpoint;
  copying = !found.state.base_complete;
  known = !copying && found.checkpoint == found.horizon;
  fingerprint.set(found.fingerprint);
  blocks_used = found.blocks_used;
  note_fingerprint();
}

BlockStore::Impl::~Impl() {
  DATOM_CHECK(under_way == 0);
}

BlockStore::Impl::UnderWay::UnderWay(Impl& impl) : impl_(impl) {
  if (impl.closed) throw Error(Code::closed, "block store {} is closed", impl.directory);
  impl.check_usable();
  ++impl_.under_way;
}

BlockStore::Impl::UnderWay::~UnderWay() {
  if (--impl_.under_way == 0) impl_.idle.wake_all();
}

BlockStore::Impl::Only::Only(bool& flag) : flag_(flag) {
  DATOM_CHECK(!flag);
  flag_ = true;
}

BlockStore::Impl::Only::~Only() {
  flag_ = false;
}

void BlockStore::Impl::check_usable() const {
  if (failure.empty()) return;
  throw Error(Code::closed, "block store {} has stopped: {}", directory, failure);
}

runtime::Task<void> BlockStore::Impl::or_stop(runtime::Task<void> work) {
  try {
    co_await std::move(work);
  } catch (const std::exception& error) {
    if (failure.empty()) failure = error.what();
    throw;
  }
}

BlockRange BlockStore::Impl::checked_range(std::uint64_t offset, std::uint64_t length) const {
  if (offset % kBlockSize != 0 || length % kBlockSize != 0 || offset > size() ||
      length > size() - offset) {
    throw Error(Code::invalid_argument, "range {}+{}: expected multiples of {} within {} bytes",
                offset, length, kBlockSize, size());
  }
  return {offset / kBlockSize, (offset + length) / kBlockSize};
}

runtime::Task<void> BlockStore::Impl::close() {
  closed = true;
  while (under_way > 0) co_await idle.wait();
}

BlockStore::BlockStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BlockStore::~BlockStore() = default;

std::uint64_t BlockStore::size() const {
  return impl_->size();
}
const ReplicaState& BlockStore::state() const {
  return impl_->superblock->current().state;
}
Op BlockStore::checkpoint_op() const {
  return impl_->superblock->current().checkpoint;
}
Op BlockStore::applied_op() const {
  return impl_->applied;
}
std::uint64_t BlockStore::bytes_used() const {
  return impl_->blocks_used * kBlockSize;
}
std::uint64_t BlockStore::bytes_from_disk() const {
  return impl_->bytes_from_disk;
}
std::size_t BlockStore::dirty_bytes() const {
  return impl_->table.dirty_bytes();
}
std::uint64_t BlockStore::fingerprint() const {
  return impl_->fingerprint.value();
}
bool BlockStore::fingerprint_known() const {
  return impl_->known;
}

std::optional<std::uint64_t> BlockStore::fingerprint_at(Op op) const {
  return impl_->fingerprint_at(op);
}

void BlockStore::cache_writes(bool whether) {
  impl_->cache_writes = whether;
}
runtime::Task<void> BlockStore::apply(std::vector<protocol::Entry> entries) {
  return impl_->apply(std::move(entries));
}
runtime::Task<Buffer> BlockStore::read(std::uint64_t offset, std::uint64_t length) {
  return impl_->read(offset, length);
}
runtime::Task<CheckResult> BlockStore::check(BlockNumber from, BlockNumber end, std::size_t most) {
  return impl_->check(from, end, most);
}
runtime::Task<std::vector<BlockNumber>> BlockStore::damaged_entries(std::uint64_t offset,
                                                                    std::uint64_t length,
                                                                    std::size_t most) {
  return impl_->damaged_entries(offset, length, most);
}
runtime::Task<void> BlockStore::repair(BlockVersion version, Buffer content) {
  return impl_->repair(version, std::move(content));
}
runtime::Task<void> BlockStore::replace_damaged(BlockVersion version, Buffer content) {
  return impl_->replace_damaged(version, std::move(content));
}
runtime::Task<bool> BlockStore::recount() {
  return impl_->recount();
}
runtime::Task<std::vector<std::uint64_t>> BlockStore::digests(std::uint64_t page,
                                                              std::size_t pages) {
  return impl_->digests(page, pages);
}
runtime::Task<std::vector<Extent>> BlockStore::extents(std::uint64_t offset, std::uint64_t length,
                                                       std::size_t max_extents) {
  return impl_->extents(offset, length, max_extents);
}
runtime::Task<void> BlockStore::checkpoint(ReplicaState state) {
  return impl_->checkpoint(std::move(state));
}
runtime::Task<void> BlockStore::save(ReplicaState state) {
  return impl_->save(std::move(state));
}
runtime::Task<void> BlockStore::promise(Term term) {
  return impl_->promise(term);
}
runtime::Task<std::vector<BlockVersion>> BlockStore::newer_blocks(BlockNumber from, Op newer_than,
                                                                  std::size_t limit,
                                                                  BlockNumber end) {
  return impl_->newer_blocks(from, newer_than, limit, end);
}
runtime::Task<BlockVersion> BlockStore::version(BlockNumber block) {
  return impl_->version(block);
}
runtime::Task<void> BlockStore::install(std::vector<PeerBlock> blocks) {
  return impl_->install(std::move(blocks));
}
runtime::Task<void> BlockStore::finish_copy(Op op) {
  return impl_->finish_copy(op);
}
void BlockStore::begin_copy(Op op, Op newest) {
  impl_->begin_copy(op, newest);
}
runtime::Task<void> BlockStore::close() {
  return impl_->close();
}

}  // namespace datom::block_store

#include "runtime/memory_files.h"

#include <cerrno>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/error.h"
#include "runtime/direct.h"
#include "runtime/memory_inode.h"
#include "runtime/memory_tree.h"

namespace datom::runtime {
namespace {

// What an unlimited disk says of its size.
constexpr std::uint64_t kUnlimitedSize = std::uint64_t{1} << 40;
constexpr std::uint64_t kMaxFileSize = std::uint64_t{1} << 60;

[[noreturn]] void fail(int error, const char* operation, const std::string& path) {
  throw_errno(error, std::string(operation) + " " + path);
}

}  // namespace

struct MemoryDisk::Impl {
  MemoryTree tree;
  std::optional<std::uint64_t> limit;
  bool fail_sync = false;
  std::uint64_t crashes = 0;

  std::uint64_t used() const {
    std::uint64_t bytes = 0;
    for (const auto& [path, inode] : tree.names()) bytes += inode->allocated();
    return bytes;
  }
  std::uint64_t total() const { return limit.value_or(kUnlimitedSize); }
  bool has_space_for(std::uint64_t growth) const {
    return !limit || growth == 0 || used() + growth <= *limit;
  }
};

MemoryDisk::MemoryDisk() : impl_(std::make_unique<Impl>()) {}
MemoryDisk::~MemoryDisk() = default;

void MemoryDisk::crash(Random& random) {
  ++impl_->crashes;
  impl_->tree.crash(random);
}

void MemoryDisk::limit(std::uint64_t bytes) {
  impl_->limit = bytes;
}

void MemoryDisk::flip_bit(const std::string& path, std::uint64_t byte, int bit) {
  const MemoryTree::Inode inode = impl_->tree.find(MemoryTree::normal_path(path));
  DATOM_CHECK(inode != nullptr);
  inode->flip_bit(byte, bit);
}

void MemoryDisk::fail_next_sync() {
  impl_->fail_sync = true;
}

namespace {

// The life of one process on the disk: it ends with the next crash.
class Mount {
 public:
  Mount(Loop& loop, MemoryDisk::Impl& disk) : loop_(loop), disk_(disk), crashes_(disk.crashes) {}

  MemoryDisk::Impl& disk() const { return disk_; }
  auto turn() const { return switch_to(loop_); }
  void check_alive(const std::string& path) const {
    if (disk_.crashes == crashes_) return;
    throw Error(Code::io_error, "{}: the disk crashed since it was opened", path);
  }

 private:
  Loop& loop_;
  MemoryDisk::Impl& disk_;
  std::uint64_t crashes_;
};

class MemoryFile final : public File {
 public:
  MemoryFile(Mount mount, MemoryTree::Inode inode, std::string path, OpenOptions options)
      : mount_(mount), inode_(std::move(inode)), path_(std::move(path)), options_(options) {}

  std::size_t memory_alignment() const override { return 512; }  // as usual disks have it
  Task<std::size_t> read(std::uint64_t offset, MutableBytes into) override;
  Task<void> write(std::uint64_t offset, ByteView from) override;
  Task<void> sync() override;
  Task<std::uint64_t> size() override;
  Task<void> resize(std::uint64_t size) override;
  Task<void> allocate(std::uint64_t offset, std::uint64_t length) override;
  Task<void> punch_hole(std::uint64_t offset, std::uint64_t length) override;

 private:
  // Every operation: begin, take effect, end.
  Task<void> begin(const char* operation, bool changes);
  Task<void> end();
  void check_room(const char* operation, std::uint64_t offset, std::uint64_t length) const;
  void check_sync(const char* operation) const;

  Mount mount_;
  MemoryTree::Inode inode_;
  std::string path_;
  OpenOptions options_;
};

Task<void> MemoryFile::begin(const char* operation, bool changes) {
  if (changes && options_.read_only) fail(EBADF, operation, path_);
  co_await mount_.turn();
  mount_.check_alive(path_);
}

Task<void> MemoryFile::end() {
  co_await mount_.turn();
  mount_.check_alive(path_);
}

void MemoryFile::check_room(const char* operation, std::uint64_t offset,
                            std::uint64_t length) const {
  if (offset > kMaxFileSize || length > kMaxFileSize) fail(EFBIG, operation, path_);
  if (!mount_.disk().limit) return;
  if (!mount_.disk().has_space_for(inode_->growth(offset, length))) fail(ENOSPC, operation, path_);
}

void MemoryFile::check_sync(const char* operation) const {
  if (!std::exchange(mount_.disk().fail_sync, false)) return;
  inode_->fail_sync();
  fail(EIO, operation, path_);
}

Task<std::size_t> MemoryFile::read(std::uint64_t offset, MutableBytes into) {
  check_alignment(*this, options_, offset, into);
  co_await begin("read", false);
  co_await end();
  co_return inode_->read(offset, into);
}

Task<void> MemoryFile::write(std::uint64_t offset, ByteView from) {
  check_alignment(*this, options_, offset, from);
  co_await begin("write", true);
  check_room("write", offset, from.size());
  inode_->write(offset, from);
  co_await end();
  if (!options_.synchronous) co_return;
  check_sync("write");
  inode_->sync_range(offset, from.size());
}

Task<void> MemoryFile::sync() {
  co_await begin("sync", false);
  co_await end();
  check_sync("sync");
  inode_->sync();
}

Task<std::uint64_t> MemoryFile::size() {
  co_await begin("stat", false);
  co_await end();
  co_return inode_->size();
}

Task<void> MemoryFile::resize(std::uint64_t size) {
  co_await begin("resize", true);
  if (size > kMaxFileSize) fail(EFBIG, "resize", path_);
  inode_->resize(size);
  co_await end();
}

Task<void> MemoryFile::allocate(std::uint64_t offset, std::uint64_t length) {
  co_await begin("allocate", true);
  check_room("allocate", offset, length);
  if (length > 0) inode_->allocate(offset, length);
  co_await end();
}

Task<void> MemoryFile::punch_hole(std::uint64_t offset, std::uint64_t length) {
  co_await begin("punch hole in", true);
  inode_->punch_hole(offset, length);
  co_await end();
}

class MemoryFilesystem final : public Filesystem {
 public:
  MemoryFilesystem(Loop& loop, MemoryDisk& disk)
      : mount_(loop, disk.impl()), tree_(disk.impl().tree) {}

  Task<std::unique_ptr<File>> open(std::string path, OpenOptions options) override;
  Task<std::vector<std::string>> list(std::string directory) override;
  Task<bool> exists(std::string path) override;
  Task<void> make_directories(std::string path) override;
  Task<void> rename(std::string from, std::string to) override;
  Task<void> remove(std::string path) override;
  Task<void> remove_tree(std::string path) override;
  Task<void> sync_directory(std::string path) override;
  Task<SpaceInfo> space(std::string path) override;

 private:
  // Each operation takes effect in its first turn and completes in its second.
  Task<void> begin(std::string& path);
  Task<void> end(const std::string& path);
  MemoryTree::Inode find_or_create(const std::string& path, const OpenOptions& options);
  void move_names(const std::string& from, const std::string& to);

  Mount mount_;
  MemoryTree& tree_;
};

Task<void> MemoryFilesystem::begin(std::string& path) {
  path = MemoryTree::normal_path(path);
  co_await mount_.turn();
  mount_.check_alive(path);
}

Task<void> MemoryFilesystem::end(const std::string& path) {
  co_await mount_.turn();
  mount_.check_alive(path);
}

MemoryTree::Inode MemoryFilesystem::find_or_create(const std::string& path,
                                                   const OpenOptions& options) {
  MemoryTree::Inode inode = tree_.find(path);
  if (inode != nullptr) {
    if (options.create && options.exclusive) fail(EEXIST, "open", path);
    if (inode->directory()) fail(EISDIR, "open", path);
    return inode;
  }
  if (!options.create) fail(ENOENT, "open", path);
  const std::string parent = MemoryTree::parent_of(path);
  if (!tree_.is_directory(parent)) fail(tree_.find(parent) ? ENOTDIR : ENOENT, "open", path);
  inode = std::make_shared<MemoryInode>(false);
  tree_.change({{path, inode}});
  return inode;
}

Task<std::unique_ptr<File>> MemoryFilesystem::open(std::string path, OpenOptions options) {
  co_await begin(path);
  MemoryTree::Inode inode = find_or_create(path, options);
  co_await end(path);
  co_return std::make_unique<MemoryFile>(mount_, std::move(inode), path, options);
}

Task<std::vector<std::string>> MemoryFilesystem::list(std::string directory) {
  co_await begin(directory);
  co_await end(directory);
  if (tree_.find(directory) == nullptr) fail(ENOENT, "list", directory);
  if (!tree_.is_directory(directory)) fail(ENOTDIR, "list", directory);
  std::vector<std::string> names;
  for (const std::string& path : tree_.below(directory)) {
    if (MemoryTree::parent_of(path) != directory) continue;
    names.push_back(path.substr(path.rfind('/') + 1));
  }
  co_return names;
}

Task<bool> MemoryFilesystem::exists(std::string path) {
  co_await begin(path);
  co_await end(path);
  co_return tree_.find(path) != nullptr;
}

Task<void> MemoryFilesystem::make_directories(std::string path) {
  co_await begin(path);
  std::vector<std::string> missing;
  std::string next = path;
  while (tree_.find(next) == nullptr) {
    missing.push_back(next);
    next = MemoryTree::parent_of(next);
  }
  if (!tree_.is_directory(next)) fail(ENOTDIR, "make directory", path);
  for (auto made = missing.rbegin(); made != missing.rend(); ++made) {
    tree_.change({{*made, std::make_shared<MemoryInode>(true)}});
  }
  co_await end(path);
}

void MemoryFilesystem::move_names(const std::string& from, const std::string& to) {
  std::vector<std::pair<std::string, MemoryTree::Inode>> names = {{from, nullptr},
                                                                  {to, tree_.find(from)}};
  if (tree_.is_directory(from)) {
    for (const std::string& path : tree_.below(from)) {
      names.emplace_back(path, nullptr);
      names.emplace_back(to + path.substr(from.size()), tree_.find(path));
    }
  }
  tree_.change(std::move(names));
}

Task<void> MemoryFilesystem::rename(std::string from, std::string to) {
  co_await begin(from);
  to = MemoryTree::normal_path(to);
  const MemoryTree::Inode moved = tree_.find(from);
  const MemoryTree::Inode replaced = tree_.find(to);
  const std::string both = from + " to " + to;
  if (moved == nullptr) fail(ENOENT, "rename", both);
  if (!tree_.is_directory(MemoryTree::parent_of(to))) fail(ENOENT, "rename", both);
  if (moved->directory() && to.starts_with(from + "/")) fail(EINVAL, "rename", both);
  if (replaced != nullptr && replaced->directory() && !moved->directory()) {
    fail(EISDIR, "rename", both);
  }
  if (replaced != nullptr && !replaced->directory() && moved->directory()) {
    fail(ENOTDIR, "rename", both);
  }
  if (replaced != nullptr && replaced != moved && !tree_.below(to).empty()) {
    fail(ENOTEMPTY, "rename", both);
  }
  if (replaced != moved) move_names(from, to);
  co_await end(from);
}

Task<void> MemoryFilesystem::remove(std::string path) {
  co_await begin(path);
  if (tree_.find(path) == nullptr) fail(ENOENT, "remove", path);
  if (tree_.is_directory(path) && !tree_.below(path).empty()) fail(ENOTEMPTY, "remove", path);
  tree_.change({{path, nullptr}});
  co_await end(path);
}

Task<void> MemoryFilesystem::remove_tree(std::string path) {
  co_await begin(path);
  if (tree_.find(path) != nullptr) {
    std::vector<std::string> paths = tree_.below(path);
    for (auto inner = paths.rbegin(); inner != paths.rend(); ++inner) {
      tree_.change({{*inner, nullptr}});
    }
    tree_.change({{path, nullptr}});
  }
  co_await end(path);
}

Task<void> MemoryFilesystem::sync_directory(std::string path) {
  co_await begin(path);
  if (tree_.find(path) == nullptr) fail(ENOENT, "sync directory", path);
  if (!tree_.is_directory(path)) fail(ENOTDIR, "sync directory", path);
  co_await end(path);
  tree_.sync_directory(path);
}

Task<SpaceInfo> MemoryFilesystem::space(std::string path) {
  co_await begin(path);
  co_await end(path);
  const std::uint64_t total = mount_.disk().total();
  const std::uint64_t used = mount_.disk().used();
  co_return SpaceInfo{total, total > used ? total - used : 0};
}

}  // namespace

std::unique_ptr<Filesystem> make_memory_filesystem(Loop& loop, MemoryDisk& disk) {
  return std::make_unique<MemoryFilesystem>(loop, disk);
}

}  // namespace datom::runtime

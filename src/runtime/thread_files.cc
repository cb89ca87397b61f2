#include "runtime/thread_files.h"

#include <fcntl.h>

#include <utility>

#include "runtime/direct.h"
#include "runtime/posix_filesystem.h"
#include "runtime/uring_files.h"

namespace datom::runtime {
namespace {

// As many operations as one loop keeps a disk busy with where io_uring is refused.
constexpr std::size_t kThreads = 4;

class ThreadFile final : public File {
 public:
  ThreadFile(ThreadPool& pool, posix::OpenFile file) : pool_(pool), file_(std::move(file)) {}

  std::size_t memory_alignment() const override { return file_.memory_alignment; }
  Task<std::size_t> read(std::uint64_t offset, MutableBytes into) override {
    check_alignment(*this, file_.options, offset, into);
    co_return co_await pool_.run([&] { return posix::read(file_, offset, into); });
  }
  Task<void> write(std::uint64_t offset, ByteView from) override {
    check_alignment(*this, file_.options, offset, from);
    co_await pool_.run([&] { posix::write(file_, offset, from); });
  }
  Task<void> sync() override {
    co_await pool_.run([&] { posix::sync(file_); });
  }
  Task<std::uint64_t> size() override {
    co_return co_await pool_.run([&] { return posix::size(file_); });
  }
  Task<void> resize(std::uint64_t size) override {
    co_await pool_.run([&] { posix::resize(file_, size); });
  }
  Task<void> allocate(std::uint64_t offset, std::uint64_t length) override {
    if (length == 0) co_return;
    co_await pool_.run([&] { posix::allocate(file_, 0, offset, length); });
  }
  Task<void> punch_hole(std::uint64_t offset, std::uint64_t length) override {
    if (length == 0) co_return;
    constexpr int kMode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    co_await pool_.run([&] { posix::allocate(file_, kMode, offset, length); });
  }

 private:
  ThreadPool& pool_;
  posix::OpenFile file_;
};

class ThreadFilesystem final : public PosixFilesystem {
 public:
  using PosixFilesystem::PosixFilesystem;

 private:
  std::unique_ptr<File> make_file(posix::OpenFile file) override {
    return std::make_unique<ThreadFile>(pool(), std::move(file));
  }
};

}  // namespace

std::unique_ptr<Filesystem> make_thread_filesystem(EventLoop& loop, std::size_t threads) {
  return std::make_unique<ThreadFilesystem>(loop, threads);
}

std::unique_ptr<Filesystem> make_filesystem(EventLoop& loop, std::string* chosen) {
  std::string why;
  std::unique_ptr<Filesystem> files = make_uring_filesystem(loop, &why);
  *chosen = files != nullptr ? "io_uring" : "threads: " + why;
  return files != nullptr ? std::move(files) : make_thread_filesystem(loop, kThreads);
}

}  // namespace datom::runtime

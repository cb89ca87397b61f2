#include "runtime/uring_files.h"

#include <fcntl.h>
#include <liburing.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/error.h"
#include "runtime/direct.h"
#include "runtime/posix_filesystem.h"
#include "runtime/ring.h"

namespace datom::runtime {
namespace {

constexpr std::size_t kMaxPerOperation = std::size_t{1} << 30;
// Everything except reads, writes and syncs is rare: one thread.
constexpr std::size_t kThreads = 1;

io_uring_sqe prepared(int opcode, int descriptor, const void* memory, std::size_t length,
                      std::uint64_t offset) {
  io_uring_sqe what{};
  ::io_uring_prep_rw(opcode, &what, descriptor, memory, static_cast<unsigned>(length), offset);
  return what;
}

class UringFile final : public File {
 public:
  UringFile(Ring& ring, ThreadPool& pool, posix::OpenFile file)
      : ring_(ring), pool_(pool), file_(std::move(file)) {}

  std::size_t memory_alignment() const override { return file_.memory_alignment; }
  Task<std::size_t> read(std::uint64_t offset, MutableBytes into) override;
  Task<void> write(std::uint64_t offset, ByteView from) override;
  Task<void> write_pieces(std::span<const Piece> pieces) override;
  Task<void> sync() override;
  Task<std::uint64_t> size() override { co_return posix::size(file_); }
  Task<void> resize(std::uint64_t size) override {
    co_await pool_.run([&] { posix::resize(file_, size); });
  }
  Task<void> allocate(std::uint64_t offset, std::uint64_t length) override {
    co_await change_space(0, offset, length);
  }
  Task<void> punch_hole(std::uint64_t offset, std::uint64_t length) override {
    co_await change_space(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
  }

 private:
  Task<void> change_space(int mode, std::uint64_t offset, std::uint64_t length);
  [[noreturn]] void fail(int error, const char* operation) const {
    throw_errno(error, std::string(operation) + " " + file_.path);
  }

  Ring& ring_;
  ThreadPool& pool_;
  posix::OpenFile file_;
};

bool is_transient(int result) {
  return result == -EINTR || result == -EAGAIN;
}

Task<std::size_t> UringFile::read(std::uint64_t offset, MutableBytes into) {
  check_alignment(*this, file_.options, offset, into);
  std::size_t done = 0;
  while (done < into.size()) {
    const std::size_t wanted = std::min(into.size() - done, kMaxPerOperation);
    const io_uring_sqe what =
        prepared(IORING_OP_READ, file_.descriptor.get(), into.data() + done, wanted, offset + done);
    const int count = co_await ring_.perform(what);
    if (is_transient(count)) continue;
    if (count < 0) fail(-count, "read");
    done += static_cast<std::size_t>(count);
    if (posix::is_end(file_, static_cast<std::size_t>(count))) break;
  }
  co_return done;
}

Task<void> UringFile::write(std::uint64_t offset, ByteView from) {
  check_alignment(*this, file_.options, offset, from);
  std::size_t done = 0;
  while (done < from.size()) {
    const std::size_t wanted = std::min(from.size() - done, kMaxPerOperation);
    const io_uring_sqe what = prepared(IORING_OP_WRITE, file_.descriptor.get(), from.data() + done,
                                       wanted, offset + done);
    const int count = co_await ring_.perform(what);
    if (is_transient(count)) continue;
    if (count < 0) fail(-count, "write");
    if (count == 0) fail(EIO, "write");
    done += static_cast<std::size_t>(count);
  }
}

Task<void> UringFile::write_pieces(std::span<const Piece> pieces) {
  if (pieces.empty()) co_return;
  std::vector<Ring::Operation> operations(pieces.size());
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    check_alignment(*this, file_.options, pieces[i].offset, pieces[i].bytes);
    operations[i].what =
        prepared(IORING_OP_WRITE, file_.descriptor.get(), pieces[i].bytes.data(),
                 std::min(pieces[i].bytes.size(), kMaxPerOperation), pieces[i].offset);
  }
  co_await ring_.perform_all(operations);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const int result = operations[i].result;
    if (result < 0 && !is_transient(result)) fail(-result, "write");
    const std::size_t done = static_cast<std::size_t>(std::max(result, 0));
    if (done < pieces[i].bytes.size()) {
      co_await write(pieces[i].offset + done, pieces[i].bytes.subspan(done));
    }
  }
}

Task<void> UringFile::sync() {
  io_uring_sqe what{};
  ::io_uring_prep_fsync(&what, file_.descriptor.get(), IORING_FSYNC_DATASYNC);
  const int result = co_await ring_.perform(what);
  if (result < 0) fail(-result, "sync");
}

Task<void> UringFile::change_space(int mode, std::uint64_t offset, std::uint64_t length) {
  if (length == 0) co_return;
  io_uring_sqe what{};
  ::io_uring_prep_fallocate(&what, file_.descriptor.get(), mode, static_cast<off_t>(offset),
                            static_cast<off_t>(length));
  int result = -EINTR;
  while (is_transient(result)) result = co_await ring_.perform(what);
  if (result < 0) fail(-result, mode == 0 ? "allocate" : "punch hole in");
}

class UringFilesystem final : public PosixFilesystem {
 public:
  UringFilesystem(EventLoop& loop, Ring& ring) : PosixFilesystem(loop, kThreads), ring_(ring) {}

 private:
  std::unique_ptr<File> make_file(posix::OpenFile file) override {
    return std::make_unique<UringFile>(ring_, pool(), std::move(file));
  }

  Ring& ring_;
};

}  // namespace

std::unique_ptr<Filesystem> make_uring_filesystem(EventLoop& loop, std::string* why) {
  Ring* const ring = loop.ring(why);
  return ring == nullptr ? nullptr : std::make_unique<UringFilesystem>(loop, *ring);
}

}  // namespace datom::runtime

#include "runtime/uring_files.h"

#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <coroutine>
#include <cstring>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/error.h"
#include "runtime/direct.h"
#include "runtime/posix_filesystem.h"

namespace datom::runtime {
namespace {

namespace asio = boost::asio;

// Operations that the kernel holds at once; more wait here.
constexpr unsigned kInFlight = 256;
constexpr std::size_t kMaxPerOperation = std::size_t{1} << 30;
// Everything except reads, writes and syncs is rare: one thread.
constexpr std::size_t kThreads = 1;
constexpr std::array kOpcodes = {IORING_OP_READ, IORING_OP_WRITE, IORING_OP_FSYNC,
                                 IORING_OP_FALLOCATE};

// For Asio, which closes what it watches.
int duplicate(int descriptor) {
  const int copy = ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw_errno(errno, "duplicate the descriptor of an io_uring");
  return copy;
}

// One io_uring. Operations queued in one turn of the loop are submitted together.
class Ring {
 public:
  // Takes over an initialised ring.
  Ring(EventLoop& loop, const io_uring& ring)
      : loop_(loop), ring_(ring), ready_(loop.context(), duplicate(ring.ring_fd)) {}
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  struct Operation {
    io_uring_sqe what{};
    int result = 0;  // as the kernel gives it: negative errno
    std::coroutine_handle<> waiter;
    std::size_t* left = nullptr;  // of those that `waiter` waits for together
  };

  // co_await: queues the operation, gives its result.
  auto perform(const io_uring_sqe& what) {
    struct Awaiter {
      Ring& ring;
      Operation operation;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> waiter) {
        operation.waiter = waiter;
        ring.queue(operation);
      }
      int await_resume() const noexcept { return operation.result; }
    };
    return Awaiter{*this, {what, 0, {}, nullptr}};
  }

  // co_await: queues all of them, resumes once when all have their results. At least one.
  auto perform_all(std::span<Operation> operations) {
    struct Awaiter {
      Ring& ring;
      std::span<Operation> operations;
      std::size_t left;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> waiter) {
        for (Operation& operation : operations) {
          operation.waiter = waiter;
          operation.left = &left;
          ring.queue(operation);
        }
      }
      void await_resume() const noexcept {}
    };
    return Awaiter{*this, operations, operations.size()};
  }

 private:
  void queue(Operation& operation);
  void flush_soon();
  void flush();
  void fill_submissions();
  void submit();
  void reap();
  void await_completions();

  EventLoop& loop_;
  io_uring ring_;
  asio::posix::stream_descriptor ready_;  // readable while completions are there
  bool awaiting_ = false;
  bool flush_posted_ = false;  // then some operation has not been submitted: nobody destroys us
  std::deque<Operation*> waiting_;  // not given to the kernel yet; as many as tasks wait
  unsigned in_flight_ = 0;
};

Ring::~Ring() {
  DATOM_CHECK(in_flight_ == 0 && waiting_.empty());
  boost::system::error_code ignored;
  ready_.close(ignored);
  ::io_uring_queue_exit(&ring_);
}

void Ring::queue(Operation& operation) {
  waiting_.push_back(&operation);
  flush_soon();
}

void Ring::flush_soon() {
  if (!std::exchange(flush_posted_, true)) loop_.post([this] { flush(); });
}

void Ring::flush() {
  flush_posted_ = false;
  fill_submissions();
  submit();
  reap();
  await_completions();
}

void Ring::fill_submissions() {
  while (!waiting_.empty() && in_flight_ < kInFlight) {
    io_uring_sqe* slot = ::io_uring_get_sqe(&ring_);
    if (slot == nullptr) return;  // the kernel did not take the ones before yet
    *slot = waiting_.front()->what;
    ::io_uring_sqe_set_data(slot, waiting_.front());
    waiting_.pop_front();
    ++in_flight_;
  }
}

// What the kernel does not take for want of memory stays in the ring for the next time.
void Ring::submit() {
  const int result = ::io_uring_submit(&ring_);
  const bool later = result == -EAGAIN || result == -EBUSY || result == -EINTR;
  DATOM_CHECK(result >= 0 || later);
  if (later || ::io_uring_sq_ready(&ring_) > 0) flush_soon();
}

void Ring::reap() {
  io_uring_cqe* completion = nullptr;
  while (::io_uring_peek_cqe(&ring_, &completion) == 0 && completion != nullptr) {
    auto* operation = static_cast<Operation*>(::io_uring_cqe_get_data(completion));
    operation->result = completion->res;
    ::io_uring_cqe_seen(&ring_, completion);
    --in_flight_;
    if (operation->left != nullptr && --*operation->left > 0) continue;
    // Not from here: it may end the filesystem.
    loop_.post([waiter = operation->waiter] { waiter.resume(); });
  }
  if (!waiting_.empty()) flush_soon();
}

void Ring::await_completions() {
  if (in_flight_ == 0 || std::exchange(awaiting_, true)) return;
  ready_.async_wait(asio::posix::descriptor_base::wait_read,
                    [this](const boost::system::error_code& error) {
                      if (error == asio::error::operation_aborted) return;
                      awaiting_ = false;
                      reap();
                      await_completions();
                    });
}

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
  check_alignment(file_.options, offset, into);
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
  check_alignment(file_.options, offset, from);
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
    check_alignment(file_.options, pieces[i].offset, pieces[i].bytes);
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
  UringFilesystem(EventLoop& loop, const io_uring& ring)
      : PosixFilesystem(loop, kThreads), ring_(loop, ring) {}

 private:
  std::unique_ptr<File> make_file(posix::OpenFile file) override {
    return std::make_unique<UringFile>(ring_, pool(), std::move(file));
  }

  Ring ring_;
};

// What the kernel lacks, if anything.
std::optional<std::string> missing_support(io_uring& ring) {
  io_uring_probe* probe = ::io_uring_get_probe_ring(&ring);
  if (probe == nullptr) return "the kernel does not tell which operations its io_uring has";
  const bool all = std::ranges::all_of(
      kOpcodes, [probe](int opcode) { return ::io_uring_opcode_supported(probe, opcode) != 0; });
  ::io_uring_free_probe(probe);
  if (!all) return "the kernel's io_uring lacks reading, writing, syncing or allocating";
  if ((ring.features & IORING_FEAT_NODROP) == 0) return "the kernel's io_uring loses completions";
  return std::nullopt;
}

}  // namespace

std::unique_ptr<Filesystem> make_uring_filesystem(EventLoop& loop, std::string* why) {
  io_uring ring{};
  const int result = ::io_uring_queue_init(kInFlight, &ring, 0);
  if (result < 0) {
    *why = fmt::format("io_uring is refused: {}", std::strerror(-result));
    return nullptr;
  }
  if (std::optional<std::string> missing = missing_support(ring)) {
    *why = std::move(*missing);
    ::io_uring_queue_exit(&ring);
    return nullptr;
  }
  return std::make_unique<UringFilesystem>(loop, ring);
}

}  // namespace datom::runtime

#include "runtime/ring.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "common/check.h"
#include "common/error.h"

namespace datom::runtime {
namespace {

constexpr unsigned kSubmissions = 512;
constexpr unsigned kCompletions = 4096;  // more are kept by the kernel, at a price
// Operations on files that the kernel has at once.
constexpr std::size_t kFilesInFlight = 256;

constexpr std::array kOpcodes = {IORING_OP_READ,      IORING_OP_WRITE,       IORING_OP_FSYNC,
                                 IORING_OP_FALLOCATE, IORING_OP_RECV,        IORING_OP_SENDMSG,
                                 IORING_OP_POLL_ADD,  IORING_OP_ASYNC_CANCEL};

// What a completion belongs to. Both are aligned, so that there is a bit to tell them apart; a
// cancellation belongs to nothing.
constexpr std::uint64_t kSignalBit = 1;
constexpr std::uint64_t kNothing = 0;

// Completions wait until the loop asks for them, in place of interrupting it.
constexpr unsigned kOneThread = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL;
constexpr unsigned kCooperative =
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL;

// Not enabled before the thread that will submit is known.
int make_ring(io_uring* ring, unsigned flags) {
  io_uring_params parameters{};
  parameters.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED;
  parameters.cq_entries = kCompletions;
  return ::io_uring_queue_init_params(kSubmissions, ring, &parameters);
}

// What the kernel lacks, if anything.
std::optional<std::string> missing_support(io_uring& ring) {
  io_uring_probe* probe = ::io_uring_get_probe_ring(&ring);
  if (probe == nullptr) return "the kernel does not tell which operations its io_uring has";
  const bool all = std::ranges::all_of(
      kOpcodes, [probe](int opcode) { return ::io_uring_opcode_supported(probe, opcode) != 0; });
  ::io_uring_free_probe(probe);
  if (!all) return "the kernel's io_uring lacks an operation on files or sockets";
  if ((ring.features & IORING_FEAT_NODROP) == 0) return "the kernel's io_uring loses completions";
  // Of the same kernel: a poll that stays.
  if ((ring.features & IORING_FEAT_RSRC_TAGS) == 0) return "the kernel's io_uring is too old";
  return std::nullopt;
}

bool is_later(int result) {
  return result == -EAGAIN || result == -EBUSY || result == -EINTR;
}

}  // namespace

// The operations are in the socket: there is one of each kind.
class Ring::RingSocket final : public Socket {
 public:
  RingSocket(Ring& ring, int descriptor) : ring_(ring), descriptor_(descriptor) {}
  ~RingSocket() override {
    DATOM_CHECK(!reading_.waiter && !writing_.waiter);
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  RingSocket(const RingSocket&) = delete;
  RingSocket& operator=(const RingSocket&) = delete;

  bool receive(std::coroutine_handle<> task, MutableBytes into) override {
    // Whether more is there already was told with what came before.
    const bool wait_first =
        ring_.has_poll_first_ && (reading_.flags & IORING_CQE_F_SOCK_NONEMPTY) == 0;
    ::io_uring_prep_recv(&reading_.what, descriptor_, into.data(), into.size(), 0);
    if (wait_first) reading_.what.ioprio |= IORING_RECVSEND_POLL_FIRST;
    return begin(reading_, task);
  }
  bool send(std::coroutine_handle<> task, std::span<const iovec> from) override {
    message_ = {};
    message_.msg_iov = const_cast<iovec*>(from.data());
    message_.msg_iovlen = from.size();
    ::io_uring_prep_sendmsg(&writing_.what, descriptor_, &message_, MSG_NOSIGNAL | MSG_WAITALL);
    return begin(writing_, task);
  }
  bool wait_readable(std::coroutine_handle<> task) override {
    ::io_uring_prep_poll_add(&reading_.what, descriptor_, POLLIN);
    return begin(reading_, task);
  }
  bool wait_writable(std::coroutine_handle<> task) override {
    ::io_uring_prep_poll_add(&writing_.what, descriptor_, POLLOUT);
    return begin(writing_, task);
  }
  int read_result() const override { return reading_.result; }
  int write_result() const override { return writing_.result; }

  void close() override;
  bool is_open() const override { return open_; }
  int descriptor() const override { return descriptor_; }
  int release() override {
    open_ = false;
    return std::exchange(descriptor_, -1);
  }

 private:
  bool begin(Operation& operation, std::coroutine_handle<> task) {
    DATOM_CHECK(open_ && !operation.waiter);
    operation.waiter = task;
    ring_.queue(operation);
    return false;
  }

  Ring& ring_;
  int descriptor_;
  bool open_ = true;
  Operation reading_;
  Operation writing_;
  msghdr message_{};
};

// The kernel keeps what it has been given open until it is done with it; so the number, which
// others get next, must not be in the submission queue any more.
void Ring::RingSocket::close() {
  if (!std::exchange(open_, false)) return;
  if (reading_.waiter) ring_.queue_cancel(reading_);
  if (writing_.waiter) ring_.queue_cancel(writing_);
  if ((!reading_.waiter && !writing_.waiter) || ring_.submit_now()) {
    ::close(std::exchange(descriptor_, -1));
  } else {
    ::shutdown(descriptor_, SHUT_RDWR);
  }
}

std::unique_ptr<Ring> Ring::make(std::string* why) {
  io_uring ring{};
  bool is_new = true;
  int result = make_ring(&ring, kOneThread);
  if (result == -EINVAL) {
    is_new = false;
    result = make_ring(&ring, kCooperative);
  }
  if (result == -EINVAL) result = make_ring(&ring, 0);
  if (result < 0) {
    *why = fmt::format("io_uring is refused: {}", std::strerror(-result));
    return nullptr;
  }
  if (std::optional<std::string> missing = missing_support(ring)) {
    *why = std::move(*missing);
    ::io_uring_queue_exit(&ring);
    return nullptr;
  }
  return std::unique_ptr<Ring>(new Ring(ring, is_new));
}

Ring::~Ring() {
  DATOM_CHECK(files_in_flight_ == 0 && waiting_files_.empty());
  ::io_uring_queue_exit(&ring_);
}

// Of a stream that does not block the kernel says so, in place of waiting until it is ready.
std::unique_ptr<Socket> Ring::watch(int descriptor, Kind kind) {
  const int flags = ::fcntl(descriptor, F_GETFL);
  const int wanted = kind == Kind::stream ? flags & ~O_NONBLOCK : flags | O_NONBLOCK;
  if (flags < 0 || ::fcntl(descriptor, F_SETFL, wanted) != 0) throw_errno(errno, "fcntl");
  return std::make_unique<RingSocket>(*this, descriptor);
}

void Ring::on_readable(int descriptor, std::function<void()> callback) {
  signals_.push_back(std::make_unique<Signal>(Signal{descriptor, std::move(callback)}));
  queue(*signals_.back());
}

// --- submission

bool Ring::try_submission(const io_uring_sqe& what) {
  io_uring_sqe* const slot = ::io_uring_get_sqe(&ring_);
  if (slot == nullptr) return false;
  *slot = what;
  return true;
}

void Ring::queue(const io_uring_sqe& what) {
  if (!waiting_.empty() || !try_submission(what)) waiting_.push_back(what);
}

void Ring::queue(Operation& operation) {
  operation.what.user_data = reinterpret_cast<std::uint64_t>(&operation);
  queue(operation.what);
}

void Ring::queue_of_file(Operation& operation) {
  operation.of_file = true;
  waiting_files_.push_back(&operation);
  fill_submissions();
}

void Ring::queue(Signal& signal) {
  io_uring_sqe what{};
  ::io_uring_prep_poll_multishot(&what, signal.descriptor, POLLIN);
  what.user_data = reinterpret_cast<std::uint64_t>(&signal) | kSignalBit;
  queue(what);
}

void Ring::queue_cancel(Operation& operation) {
  io_uring_sqe what{};
  ::io_uring_prep_cancel(&what, &operation, 0);
  what.user_data = kNothing;
  queue(what);
}

void Ring::fill_submissions() {
  while (!waiting_.empty()) {
    if (!try_submission(waiting_.front())) return;
    waiting_.pop_front();
  }
  while (!waiting_files_.empty() && files_in_flight_ < kFilesInFlight) {
    Operation& operation = *waiting_files_.front();
    operation.what.user_data = reinterpret_cast<std::uint64_t>(&operation);
    if (!try_submission(operation.what)) return;
    waiting_files_.pop_front();
    ++files_in_flight_;
  }
}

bool Ring::submit_now() {
  if (runner_ != std::this_thread::get_id()) return false;
  fill_submissions();
  enter(false);
  return waiting_.empty() && ::io_uring_sq_ready(&ring_) == 0;
}

// What the kernel does not take for want of memory stays in the queue for the next time.
void Ring::enter(bool wait) {
  const int result =
      wait ? ::io_uring_submit_and_wait(&ring_, 1) : ::io_uring_submit_and_get_events(&ring_);
  DATOM_CHECK(result >= 0 || is_later(result));
}

// --- completion

bool Ring::kernel_has_news() const {
  const unsigned flags = __atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED);
  return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

void Ring::begin() {
  if ((ring_.flags & IORING_SETUP_R_DISABLED) != 0) {
    // As io_uring_enable_rings() would, which not every liburing exports.
    const long result =
        ::syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
    DATOM_CHECK(result == 0);
    ring_.flags &= ~IORING_SETUP_R_DISABLED;
  }
  runner_ = std::this_thread::get_id();
  registered_ = ::io_uring_register_ring_fd(&ring_) == 1;  // makes each system call cheaper
}

void Ring::end() {
  if (std::exchange(registered_, false)) ::io_uring_unregister_ring_fd(&ring_);
  runner_ = {};
}

void Ring::turn(bool wait, const std::atomic<bool>& stopping) {
  fill_submissions();
  if (wait && ::io_uring_cq_ready(&ring_) == 0) {
    enter(waiting_.empty());
  } else if (::io_uring_sq_ready(&ring_) > 0 || kernel_has_news()) {
    enter(false);
  }
  for (unsigned left = ::io_uring_cq_ready(&ring_); left > 0 && !stopping; --left) {
    io_uring_cqe* completion = nullptr;
    if (::io_uring_peek_cqe(&ring_, &completion) != 0) return;
    const std::uint64_t data = completion->user_data;
    const int result = completion->res;
    const unsigned flags = completion->flags;
    ::io_uring_cqe_seen(&ring_, completion);
    complete(data, result, flags);
  }
}

void Ring::complete(std::uint64_t data, int result, unsigned flags) {
  if (data == kNothing) return;
  if ((data & kSignalBit) != 0) {
    auto& signal = *reinterpret_cast<Signal*>(data & ~kSignalBit);
    if ((flags & IORING_CQE_F_MORE) == 0) queue(signal);
    signal.callback();
    return;
  }
  auto& operation = *reinterpret_cast<Operation*>(data);
  operation.result = result;
  operation.flags = flags;
  if (operation.of_file) --files_in_flight_;
  if (operation.left != nullptr && --*operation.left > 0) return;
  std::exchange(operation.waiter, nullptr).resume();
}

}  // namespace datom::runtime

#include "runtime/epoll_poller.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <deque>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/error.h"

namespace datom::runtime {
namespace {

constexpr int kEvents = 64;  // of one system call
// Operations that end at once in one turn; the tasks of more are resumed in the next, so that a
// peer that is always ready does not keep the others waiting.
constexpr int kAtOnce = 64;

// What an event belongs to.
class Watched {
 public:
  virtual ~Watched() = default;
  virtual void happened(std::uint32_t events) = 0;
};

class EpollPoller final : public Poller {
 public:
  EpollPoller();
  ~EpollPoller() override;
  EpollPoller(const EpollPoller&) = delete;
  EpollPoller& operator=(const EpollPoller&) = delete;

  std::unique_ptr<Socket> watch(int descriptor, Kind kind) override;
  void on_readable(int descriptor, std::function<void()> callback) override;
  void turn(bool wait, const std::atomic<bool>& stopping) override;

  void resume_soon(std::coroutine_handle<> task) { resumable_.push_back(task); }
  bool may_end_at_once() { return at_once_ > 0 && at_once_-- > 0; }

 private:
  class Signal;
  class EpollSocket;

  // Told of each change to readable or writable.
  void add(int descriptor, Watched& watched, std::uint32_t events);

  int epoll_;
  int at_once_ = kAtOnce;
  std::deque<std::coroutine_handle<>> resumable_;  // their operations have ended
  std::vector<std::unique_ptr<Signal>> signals_;
};

class EpollPoller::Signal final : public Watched {
 public:
  explicit Signal(std::function<void()> callback) : callback_(std::move(callback)) {}
  void happened(std::uint32_t) override { rung_ = true; }
  void call() {
    if (std::exchange(rung_, false)) callback_();
  }

 private:
  std::function<void()> callback_;
  bool rung_ = false;
};

class EpollPoller::EpollSocket final : public Socket, public Watched {
 public:
  EpollSocket(EpollPoller& poller, int descriptor) : poller_(poller), descriptor_(descriptor) {}
  ~EpollSocket() override {
    DATOM_CHECK(!reading_.task && !writing_.task);
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  EpollSocket(const EpollSocket&) = delete;
  EpollSocket& operator=(const EpollSocket&) = delete;

  bool receive(std::coroutine_handle<> task, MutableBytes into) override {
    into_ = into;
    return begin(reading_, Kind::transfer, task);
  }
  bool send(std::coroutine_handle<> task, std::span<const iovec> from) override {
    from_ = from;
    return begin(writing_, Kind::transfer, task);
  }
  bool wait_readable(std::coroutine_handle<> task) override {
    return begin(reading_, Kind::wait, task);
  }
  bool wait_writable(std::coroutine_handle<> task) override {
    return begin(writing_, Kind::wait, task);
  }
  int read_result() const override { return reading_.result; }
  int write_result() const override { return writing_.result; }

  void close() override;
  bool is_open() const override { return descriptor_ >= 0; }
  int descriptor() const override { return descriptor_; }
  int release() override {
    ::epoll_ctl(poller_.epoll_, EPOLL_CTL_DEL, descriptor_, nullptr);
    return std::exchange(descriptor_, -1);
  }

  void happened(std::uint32_t events) override {
    constexpr std::uint32_t kBroken = EPOLLHUP | EPOLLERR;
    if ((events & (EPOLLIN | EPOLLRDHUP | kBroken)) != 0) attempt_again(reading_);
    if ((events & (EPOLLOUT | kBroken)) != 0) attempt_again(writing_);
  }

 private:
  enum class Kind { transfer, wait };
  struct Operation {
    Kind kind = Kind::transfer;
    std::coroutine_handle<> task;
    int result = 0;
  };

  bool begin(Operation& operation, Kind kind, std::coroutine_handle<> task);
  // Whether it has ended.
  bool attempt(Operation& operation);
  void attempt_again(Operation& operation);
  void end_soon(Operation& operation) {
    poller_.resume_soon(std::exchange(operation.task, nullptr));
  }
  ssize_t receive_now() { return ::recv(descriptor_, into_.data(), into_.size(), MSG_DONTWAIT); }
  ssize_t send_now() {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(from_.data());
    message.msg_iovlen = from_.size();
    return ::sendmsg(descriptor_, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  bool is_ready(const Operation& operation) const {
    pollfd state{descriptor_, static_cast<short>(&operation == &reading_ ? POLLIN : POLLOUT), 0};
    return ::poll(&state, 1, 0) > 0;
  }

  EpollPoller& poller_;
  int descriptor_;
  Operation reading_;
  Operation writing_;
  MutableBytes into_;
  std::span<const iovec> from_;
};

bool EpollPoller::EpollSocket::attempt(Operation& operation) {
  if (operation.kind == Kind::wait) {
    operation.result = 0;
    return is_ready(operation);
  }
  ssize_t result = -1;
  do {
    result = &operation == &reading_ ? receive_now() : send_now();
  } while (result < 0 && errno == EINTR);
  if (result < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
  operation.result = result < 0 ? -errno : static_cast<int>(result);
  return true;
}

bool EpollPoller::EpollSocket::begin(Operation& operation, Kind kind,
                                     std::coroutine_handle<> task) {
  DATOM_CHECK(is_open() && !operation.task);
  operation.kind = kind;
  const bool ended = attempt(operation);
  if (ended && poller_.may_end_at_once()) return true;
  operation.task = task;
  if (ended) end_soon(operation);
  return false;
}

void EpollPoller::EpollSocket::attempt_again(Operation& operation) {
  if (operation.task && attempt(operation)) end_soon(operation);
}

void EpollPoller::EpollSocket::close() {
  if (!is_open()) return;
  ::close(std::exchange(descriptor_, -1));
  for (Operation* operation : {&reading_, &writing_}) {
    operation->result = -ECANCELED;
    if (operation->task) end_soon(*operation);
  }
}

EpollPoller::EpollPoller() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (epoll_ < 0) throw_errno(errno, "epoll_create1");
}

EpollPoller::~EpollPoller() {
  ::close(epoll_);
}

void EpollPoller::add(int descriptor, Watched& watched, std::uint32_t events) {
  epoll_event event{};
  event.events = events | EPOLLET;
  event.data.ptr = &watched;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event) != 0) throw_errno(errno, "epoll_ctl");
}

std::unique_ptr<Socket> EpollPoller::watch(int descriptor, Kind) {
  const int flags = ::fcntl(descriptor, F_GETFL);
  if (flags < 0 || ::fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) != 0) {
    throw_errno(errno, "fcntl");
  }
  auto socket = std::make_unique<EpollSocket>(*this, descriptor);
  add(descriptor, *socket, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
  return socket;
}

void EpollPoller::on_readable(int descriptor, std::function<void()> callback) {
  signals_.push_back(std::make_unique<Signal>(std::move(callback)));
  add(descriptor, *signals_.back(), EPOLLIN);
}

// Nothing else runs between the system call and the last event: what they belong to is there.
void EpollPoller::turn(bool wait, const std::atomic<bool>& stopping) {
  at_once_ = kAtOnce;
  std::array<epoll_event, kEvents> events;
  const int timeout = wait && resumable_.empty() ? -1 : 0;
  const int count = ::epoll_wait(epoll_, events.data(), kEvents, timeout);
  DATOM_CHECK(count >= 0 || errno == EINTR);
  for (int i = 0; i < count; ++i) {
    static_cast<Watched*>(events[static_cast<std::size_t>(i)].data.ptr)
        ->happened(events[static_cast<std::size_t>(i)].events);
  }
  for (const auto& signal : signals_) signal->call();
  for (std::size_t left = resumable_.size(); left > 0 && !stopping; --left) {
    const std::coroutine_handle<> task = resumable_.front();
    resumable_.pop_front();
    task.resume();
  }
}

}  // namespace

std::unique_ptr<Poller> make_epoll_poller() {
  return std::make_unique<EpollPoller>();
}

}  // namespace datom::runtime

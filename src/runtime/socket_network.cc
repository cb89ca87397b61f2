#include "runtime/socket_network.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/error.h"
#include "runtime/poller.h"
#include "runtime/wait.h"

namespace datom::runtime {
namespace {

constexpr int kBacklog = 1024;
constexpr std::size_t kPiecesPerCall = 256;
constexpr Duration kDescriptorsRetry = std::chrono::milliseconds(100);

// What a task awaits of a Socket: each gives the result of its operation.
struct Receive {
  Socket& socket;
  MutableBytes into;
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> task) { return !socket.receive(task, into); }
  int await_resume() const { return socket.read_result(); }
};

struct Send {
  Socket& socket;
  std::span<const iovec> from;
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> task) { return !socket.send(task, from); }
  int await_resume() const { return socket.write_result(); }
};

struct WaitReadable {
  Socket& socket;
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> task) { return !socket.wait_readable(task); }
  void await_resume() const noexcept {}
};

struct WaitWritable {
  Socket& socket;
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> task) { return !socket.wait_writable(task); }
  void await_resume() const noexcept {}
};

bool is_transient(int result) {
  return result == -EINTR || result == -EAGAIN;
}

// A socket address as the system calls take it.
struct Endpoint {
  sockaddr_storage storage{};
  socklen_t length = sizeof(sockaddr_storage);

  sockaddr* address() { return reinterpret_cast<sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
};

template <typename Raw>
Endpoint endpoint_of(const Raw& raw) {
  Endpoint endpoint;
  std::memcpy(&endpoint.storage, &raw, sizeof raw);
  endpoint.length = sizeof raw;
  return endpoint;
}

Endpoint to_endpoint(const Address& address) {
  if (!address.unix_path.empty()) {
    sockaddr_un raw{};
    raw.sun_family = AF_UNIX;
    if (address.unix_path.size() >= sizeof raw.sun_path) {
      throw Error(Code::invalid_argument, "{}: the path is longer than a socket address can hold",
                  address.to_string());
    }
    address.unix_path.copy(raw.sun_path, sizeof raw.sun_path - 1);
    return endpoint_of(raw);
  }
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(address.port);
  if (::inet_pton(AF_INET, address.host.c_str(), &v4.sin_addr) == 1) return endpoint_of(v4);
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(address.port);
  if (::inet_pton(AF_INET6, address.host.c_str(), &v6.sin6_addr) == 1) return endpoint_of(v6);
  throw Error(Code::invalid_argument, "\"{}\" is not an IP address", address.host);
}

std::string describe(const Endpoint& endpoint) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (endpoint.family() == AF_INET) {
    sockaddr_in raw{};
    std::memcpy(&raw, &endpoint.storage, sizeof raw);
    ::inet_ntop(AF_INET, &raw.sin_addr, text.data(), text.size());
    return fmt::format("{}:{}", text.data(), ntohs(raw.sin_port));
  }
  if (endpoint.family() == AF_INET6) {
    sockaddr_in6 raw{};
    std::memcpy(&raw, &endpoint.storage, sizeof raw);
    ::inet_ntop(AF_INET6, &raw.sin6_addr, text.data(), text.size());
    return fmt::format("[{}]:{}", text.data(), ntohs(raw.sin6_port));
  }
  return "unix";
}

Endpoint local_endpoint(int descriptor) {
  Endpoint endpoint;
  if (::getsockname(descriptor, endpoint.address(), &endpoint.length) != 0) {
    throw_errno(errno, "getsockname");
  }
  return endpoint;
}

// A peer that is gone already has no name any more.
std::string peer_name(int descriptor) {
  Endpoint endpoint;
  if (::getpeername(descriptor, endpoint.address(), &endpoint.length) != 0) return "unknown peer";
  return describe(endpoint);
}

NativeSocket open_socket(int family) {
  const int descriptor = ::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor < 0) throw_errno(errno, "socket");
  return NativeSocket(descriptor);
}

std::unique_ptr<Socket> watch(EventLoop& loop, NativeSocket native, Poller::Kind kind) {
  const int descriptor = native.release();
  NativeSocket owner(descriptor);
  std::unique_ptr<Socket> socket = loop.poller().watch(descriptor, kind);
  owner.release();
  return socket;
}

[[noreturn]] void cannot_connect(const Address& to, int error) {
  throw Error(Code::unavailable, "cannot connect to {}: {}", to.to_string(), std::strerror(error));
}

class SocketStream final : public Stream {
 public:
  explicit SocketStream(std::unique_ptr<Socket> socket)
      : socket_(std::move(socket)), peer_(peer_name(socket_->descriptor())) {
    // Refused, and not needed, on Unix sockets. A peer whose machine died without a word is noticed
    // within half a minute; one that is only stopped is not, since its kernel still answers.
    set_option(IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(IPPROTO_TCP, TCP_KEEPIDLE, 10);  // seconds
    set_option(IPPROTO_TCP, TCP_KEEPINTVL, 5);
    set_option(IPPROTO_TCP, TCP_KEEPCNT, 4);
  }

  Task<std::size_t> read_some(MutableBytes into) override;
  Task<void> write(std::span<const ByteView> pieces) override;
  void close() override { socket_->close(); }
  std::string peer() const override { return peer_; }
  NativeSocket release() override;

 private:
  void set_option(int level, int option, int value) {
    ::setsockopt(socket_->descriptor(), level, option, &value, sizeof value);
  }
  void check_open() const;
  [[noreturn]] void broken(int error) const;

  std::unique_ptr<Socket> socket_;
  std::string peer_;
  std::vector<iovec> vectors_;  // of the system call under way
};

void SocketStream::check_open() const {
  if (!socket_->is_open()) throw Error(Code::closed, "the connection to {} is closed", peer_);
}

void SocketStream::broken(int error) const {
  throw Error(Code::closed, "the connection to {} broke: {}", peer_, std::strerror(error));
}

Task<std::size_t> SocketStream::read_some(MutableBytes into) {
  DATOM_CHECK(!into.empty());
  for (;;) {
    check_open();
    const int result = co_await Receive{*socket_, into};
    check_open();
    if (result >= 0) co_return static_cast<std::size_t>(result);
    if (!is_transient(result)) broken(-result);
  }
}

// What of a gathered write has not been sent yet.
class Unsent {
 public:
  explicit Unsent(std::span<const ByteView> pieces) : pieces_(pieces) { advance(0); }

  bool empty() const { return pieces_.empty(); }

  // For one system call.
  void fill(std::vector<iovec>& vectors) const {
    vectors.clear();
    for (const ByteView whole : pieces_.first(std::min(pieces_.size(), kPiecesPerCall))) {
      const ByteView piece = vectors.empty() ? whole.subspan(sent_of_first_) : whole;
      vectors.push_back({const_cast<std::byte*>(piece.data()), piece.size()});
    }
  }

  void advance(std::size_t sent) {
    sent_of_first_ += sent;
    while (!pieces_.empty() && sent_of_first_ >= pieces_.front().size()) {
      sent_of_first_ -= pieces_.front().size();
      pieces_ = pieces_.subspan(1);
    }
  }

 private:
  std::span<const ByteView> pieces_;
  std::size_t sent_of_first_ = 0;
};

Task<void> SocketStream::write(std::span<const ByteView> pieces) {
  Unsent unsent(pieces);
  while (!unsent.empty()) {
    check_open();
    unsent.fill(vectors_);
    const int result = co_await Send{*socket_, vectors_};
    if (result >= 0) {
      unsent.advance(static_cast<std::size_t>(result));
      continue;
    }
    check_open();
    if (result != -EAGAIN && result != -EINTR) broken(-result);
    if (result == -EAGAIN) co_await WaitWritable{*socket_};
  }
}

NativeSocket SocketStream::release() {
  check_open();
  return NativeSocket(socket_->release());
}

std::unique_ptr<Stream> make_stream(EventLoop& loop, NativeSocket native) {
  return std::make_unique<SocketStream>(watch(loop, std::move(native), Poller::Kind::stream));
}

// Removes the file of a Unix socket that nobody listens on any more.
void remove_stale_socket(const std::string& path, Endpoint endpoint) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode)) return;
  NativeSocket probe = open_socket(AF_UNIX);
  const int descriptor = probe.release();
  const int result = ::connect(descriptor, endpoint.address(), endpoint.length);
  const bool stale = result != 0 && errno == ECONNREFUSED;
  ::close(descriptor);
  if (stale) ::unlink(path.c_str());
}

// The file that a bound Unix socket made; removes it at the end unless it is another's by now.
class SocketFile {
 public:
  explicit SocketFile(std::string path) : path_(std::move(path)) {
    if (!path_.empty() && ::lstat(path_.c_str(), &status_) != 0) path_.clear();
  }
  void remove() {
    struct stat now{};
    const std::string path = std::exchange(path_, {});
    if (path.empty() || ::lstat(path.c_str(), &now) != 0) return;
    if (now.st_dev == status_.st_dev && now.st_ino == status_.st_ino) ::unlink(path.c_str());
  }

 private:
  std::string path_;
  struct stat status_{};
};

class SocketListener final : public Listener {
 public:
  SocketListener(EventLoop& loop, std::unique_ptr<Socket> socket, Address address)
      : loop_(loop),
        socket_(std::move(socket)),
        address_(std::move(address)),
        file_(address_.unix_path),
        retry_(loop) {}
  ~SocketListener() override { close(); }

  Task<std::unique_ptr<Stream>> accept() override;
  void close() override;
  Address address() const override { return address_; }

 private:
  EventLoop& loop_;
  std::unique_ptr<Socket> socket_;
  Address address_;
  SocketFile file_;
  Timer retry_;
};

Task<std::unique_ptr<Stream>> SocketListener::accept() {
  for (;;) {
    if (!socket_->is_open()) {
      throw Error(Code::closed, "the listener at {} is closed", address_.to_string());
    }
    const int descriptor =
        ::accept4(socket_->descriptor(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (descriptor >= 0) co_return make_stream(loop_, NativeSocket(descriptor));
    switch (errno) {
      case EAGAIN:
        co_await WaitReadable{*socket_};
        break;
      case EMFILE:
      case ENFILE:
      case ENOBUFS:
      case ENOMEM:
        co_await retry_.sleep_for(kDescriptorsRetry);
        break;
      case EBADF:
      case EINVAL:
      case ENOTSOCK:
      case EOPNOTSUPP:
        throw_errno(errno, "accept at " + address_.to_string());
      default:
        break;  // that connection is gone already; the next one
    }
  }
}

void SocketListener::close() {
  if (!socket_->is_open()) return;
  file_.remove();
  socket_->close();
  retry_.cancel();
}

class SocketNetwork final : public Network {
 public:
  explicit SocketNetwork(EventLoop& loop) : loop_(loop) {}

  Task<std::unique_ptr<Stream>> connect(Address to, Duration timeout) override;
  std::unique_ptr<Listener> listen(const Address& at) override;
  std::unique_ptr<Stream> adopt(NativeSocket native) override;

 private:
  EventLoop& loop_;
};

// Error{unavailable} as connect(); the attempt may go on where it would block.
NativeSocket begin_connecting(const Address& to) {
  Endpoint endpoint = to_endpoint(to);
  const int descriptor = open_socket(endpoint.family()).release();
  NativeSocket socket(descriptor);
  int result = 0;
  do {
    result = ::connect(descriptor, endpoint.address(), endpoint.length);
  } while (result != 0 && errno == EINTR);
  if (result != 0 && errno != EINPROGRESS) cannot_connect(to, errno);
  return socket;
}

Task<std::unique_ptr<Stream>> SocketNetwork::connect(Address to, Duration timeout) {
  std::unique_ptr<Socket> socket = watch(loop_, begin_connecting(to), Poller::Kind::stream);
  bool timed_out = false;
  const Loop::TimerId timer = loop_.start_timer(loop_.now() + timeout, [&socket, &timed_out] {
    timed_out = true;
    socket->close();
  });
  co_await WaitWritable{*socket};
  loop_.cancel_timer(timer);
  if (timed_out) throw Error(Code::timeout, "no connection to {} in time", to.to_string());
  int error = 0;
  socklen_t length = sizeof error;
  if (::getsockopt(socket->descriptor(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
  if (error != 0) cannot_connect(to, error);
  co_return std::make_unique<SocketStream>(std::move(socket));
}

int bind_again_if_stale(int descriptor, const Address& at, Endpoint endpoint) {
  if (::bind(descriptor, endpoint.address(), endpoint.length) == 0) return 0;
  if (errno != EADDRINUSE || at.unix_path.empty()) return errno;
  remove_stale_socket(at.unix_path, endpoint);
  return ::bind(descriptor, endpoint.address(), endpoint.length) == 0 ? 0 : errno;
}

std::unique_ptr<Listener> SocketNetwork::listen(const Address& at) {
  const Endpoint endpoint = to_endpoint(at);
  const int descriptor = open_socket(endpoint.family()).release();
  NativeSocket owner(descriptor);
  if (at.unix_path.empty()) {
    const int on = 1;
    ::setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  }
  int error = bind_again_if_stale(descriptor, at, endpoint);
  if (error == 0 && ::listen(descriptor, kBacklog) != 0) error = errno;
  if (error == EADDRINUSE) {
    throw Error(Code::already_exists, "{} is in use by another process", at.to_string());
  }
  if (error != 0) throw_errno(error, "cannot listen at " + at.to_string());
  Address address = at;
  if (at.unix_path.empty()) address = Address::parse(describe(local_endpoint(descriptor)));
  return std::make_unique<SocketListener>(
      loop_, watch(loop_, std::move(owner), Poller::Kind::listener), std::move(address));
}

std::unique_ptr<Stream> SocketNetwork::adopt(NativeSocket native) {
  return make_stream(loop_, std::move(native));
}

}  // namespace

std::unique_ptr<Network> make_network(EventLoop& loop) {
  return std::make_unique<SocketNetwork>(loop);
}

}  // namespace datom::runtime

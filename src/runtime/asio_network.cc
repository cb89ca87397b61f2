#include "runtime/asio_network.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/check.h"
#include "common/error.h"
#include "runtime/wait.h"

namespace datom::runtime {
namespace {

namespace asio = boost::asio;
using Protocol = asio::generic::stream_protocol;

constexpr int kBacklog = 1024;
constexpr std::size_t kPiecesPerCall = 64;
// After so many writes that did not have to wait, others get their turn.
constexpr int kWritesPerTurn = 64;
constexpr Duration kDescriptorsRetry = std::chrono::milliseconds(100);

// Where an Asio operation leaves its result, and who waits for it.
struct Completion {
  std::coroutine_handle<> waiter;
  boost::system::error_code error;
  std::size_t count = 0;
};

struct Resume {
  Completion* completion;
  void operator()(const boost::system::error_code& error, std::size_t count = 0) const {
    completion->error = error;
    completion->count = count;
    completion->waiter.resume();
  }
};

// co_await completed(start): `start(handler)` begins the operation; gives its Completion.
template <typename Start>
auto completed(Start start) {
  struct Awaiter {
    Start start;
    Completion completion;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) {
      completion.waiter = waiter;
      start(Resume{&completion});
    }
    Completion await_resume() const noexcept { return completion; }
  };
  return Awaiter{std::move(start), {}};
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

Protocol protocol_of(int family) {
  return Protocol(family, 0);
}

class AsioStream final : public Stream {
 public:
  AsioStream(Loop& loop, Protocol::socket socket)
      : loop_(loop), socket_(std::move(socket)), peer_(peer_name(socket_.native_handle())) {
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
  void close() override;
  std::string peer() const override { return peer_; }
  NativeSocket release() override;

 private:
  void set_option(int level, int option, int value) {
    ::setsockopt(socket_.native_handle(), level, option, &value, sizeof value);
  }
  void check_open() const;
  [[noreturn]] void broken(const std::string& why);

  Loop& loop_;
  Protocol::socket socket_;
  std::string peer_;
  int writes_this_turn_ = 0;
};

void AsioStream::check_open() const {
  if (!socket_.is_open()) throw Error(Code::closed, "the connection to {} is closed", peer_);
}

void AsioStream::broken(const std::string& why) {
  throw Error(Code::closed, "the connection to {} broke: {}", peer_, why);
}

Task<std::size_t> AsioStream::read_some(MutableBytes into) {
  DATOM_CHECK(!into.empty());
  check_open();
  // Asio tries to read first, unless the read before left nothing, and waits if nothing is there.
  const auto start = [this, into](Resume resume) {
    socket_.async_read_some(asio::buffer(into.data(), into.size()), resume);
  };
  const Completion read = co_await completed(start);
  check_open();
  if (read.error == asio::error::eof) co_return 0;
  if (read.error) broken(read.error.message());
  co_return read.count;
}

// What of a gathered write has not been sent yet.
class Unsent {
 public:
  explicit Unsent(std::span<const ByteView> pieces) : pieces_(pieces) { advance(0); }

  bool empty() const { return pieces_.empty(); }

  // One system call. Gives what it gave.
  ssize_t send(int descriptor) const {
    std::array<iovec, kPiecesPerCall> vectors;
    const std::size_t count = std::min(pieces_.size(), vectors.size());
    for (std::size_t i = 0; i < count; ++i) {
      const ByteView piece = i == 0 ? pieces_[i].subspan(sent_of_first_) : pieces_[i];
      vectors[i] = {const_cast<std::byte*>(piece.data()), piece.size()};
    }
    msghdr message{};
    message.msg_iov = vectors.data();
    message.msg_iovlen = count;
    return ::sendmsg(descriptor, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
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

Task<void> AsioStream::write(std::span<const ByteView> pieces) {
  Unsent unsent(pieces);
  while (!unsent.empty()) {
    check_open();
    const ssize_t sent = unsent.send(socket_.native_handle());
    if (sent >= 0) {
      unsent.advance(static_cast<std::size_t>(sent));
      if (++writes_this_turn_ < kWritesPerTurn) continue;
      writes_this_turn_ = 0;
      co_await switch_to(loop_);
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) broken(std::strerror(errno));
    const auto start = [this](Resume resume) {
      socket_.async_wait(Protocol::socket::wait_write, resume);
    };
    co_await completed(start);
    writes_this_turn_ = 0;
  }
}

void AsioStream::close() {
  boost::system::error_code ignored;
  socket_.close(ignored);
}

NativeSocket AsioStream::release() {
  check_open();
  return NativeSocket(socket_.release());
}

std::unique_ptr<Stream> make_stream(EventLoop& loop, NativeSocket native) {
  const int descriptor = native.release();
  NativeSocket owner(descriptor);
  const Protocol protocol = protocol_of(local_endpoint(descriptor).family());
  Protocol::socket socket(loop.context());
  socket.assign(protocol, owner.release());
  return std::make_unique<AsioStream>(loop, std::move(socket));
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

class AsioListener final : public Listener {
 public:
  AsioListener(EventLoop& loop, int descriptor, Address address)
      : loop_(loop),
        descriptor_(loop.context(), descriptor),
        address_(std::move(address)),
        file_(address_.unix_path),
        retry_(loop) {}
  ~AsioListener() override { close(); }

  Task<std::unique_ptr<Stream>> accept() override;
  void close() override;
  Address address() const override { return address_; }

 private:
  Task<void> wait_for_connection();

  EventLoop& loop_;
  asio::posix::stream_descriptor descriptor_;
  Address address_;
  SocketFile file_;
  Timer retry_;
};

Task<void> AsioListener::wait_for_connection() {
  const auto start = [this](Resume resume) {
    descriptor_.async_wait(asio::posix::descriptor_base::wait_read, resume);
  };
  co_await completed(start);
}

Task<std::unique_ptr<Stream>> AsioListener::accept() {
  for (;;) {
    if (!descriptor_.is_open()) {
      throw Error(Code::closed, "the listener at {} is closed", address_.to_string());
    }
    const int descriptor =
        ::accept4(descriptor_.native_handle(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (descriptor >= 0) co_return make_stream(loop_, NativeSocket(descriptor));
    switch (errno) {
      case EAGAIN:
        co_await wait_for_connection();
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

void AsioListener::close() {
  if (!descriptor_.is_open()) return;
  file_.remove();
  boost::system::error_code ignored;
  descriptor_.close(ignored);
  retry_.cancel();
}

class AsioNetwork final : public Network {
 public:
  explicit AsioNetwork(EventLoop& loop) : loop_(loop) {}

  Task<std::unique_ptr<Stream>> connect(Address to, Duration timeout) override;
  std::unique_ptr<Listener> listen(const Address& at) override;
  std::unique_ptr<Stream> adopt(NativeSocket native) override;

 private:
  EventLoop& loop_;
};

Task<std::unique_ptr<Stream>> AsioNetwork::connect(Address to, Duration timeout) {
  const Endpoint endpoint = to_endpoint(to);
  Protocol::socket socket(loop_.context(), protocol_of(endpoint.family()));
  bool timed_out = false;
  const Loop::TimerId timer = loop_.start_timer(loop_.now() + timeout, [&socket, &timed_out] {
    timed_out = true;
    boost::system::error_code ignored;
    socket.cancel(ignored);
  });
  const Protocol::endpoint target(&endpoint.storage, endpoint.length);
  const auto start = [&socket, &target](Resume resume) { socket.async_connect(target, resume); };
  const Completion connected = co_await completed(start);
  loop_.cancel_timer(timer);
  if (!connected.error) co_return std::make_unique<AsioStream>(loop_, std::move(socket));
  if (timed_out) throw Error(Code::timeout, "no connection to {} in time", to.to_string());
  throw Error(Code::unavailable, "cannot connect to {}: {}", to.to_string(),
              connected.error.message());
}

int bind_again_if_stale(int descriptor, const Address& at, Endpoint endpoint) {
  if (::bind(descriptor, endpoint.address(), endpoint.length) == 0) return 0;
  if (errno != EADDRINUSE || at.unix_path.empty()) return errno;
  remove_stale_socket(at.unix_path, endpoint);
  return ::bind(descriptor, endpoint.address(), endpoint.length) == 0 ? 0 : errno;
}

std::unique_ptr<Listener> AsioNetwork::listen(const Address& at) {
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
  return std::make_unique<AsioListener>(loop_, owner.release(), std::move(address));
}

std::unique_ptr<Stream> AsioNetwork::adopt(NativeSocket native) {
  return make_stream(loop_, std::move(native));
}

}  // namespace

std::unique_ptr<Network> make_network(EventLoop& loop) {
  return std::make_unique<AsioNetwork>(loop);
}

}  // namespace datom::runtime

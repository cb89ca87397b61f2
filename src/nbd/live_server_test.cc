// The server across two event loops: connections that move, and a stop in the midst of it.
#include "nbd/testing/live_server.h"

#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "nbd/wire.h"

namespace datom::nbd::testing {
namespace {

// A client on a blocking socket; every call gives false once the connection has ended.
class BlockingClient {
 public:
  explicit BlockingClient(const runtime::Address& address) {
    socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(address.port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0;
  }
  ~BlockingClient() { ::close(socket_); }
  BlockingClient(const BlockingClient&) = delete;
  BlockingClient& operator=(const BlockingClient&) = delete;

  bool send(const Encoder& message) {
    return connected_ && ::send(socket_, message.view().data(), message.size(), MSG_NOSIGNAL) ==
                             static_cast<ssize_t>(message.size());
  }
  bool receive(std::size_t size) {
    std::array<char, 8192> bytes;
    while (connected_ && size > 0) {
      const ssize_t got = ::recv(socket_, bytes.data(), std::min(size, bytes.size()), 0);
      if (got <= 0) connected_ = false;
      if (connected_) size -= static_cast<std::size_t>(got);
    }
    return connected_;
  }

  // The kernel may drop a connection of which the listener closes in the midst of the handshake,
  // without a word to the client. One that has not been greeted therefore ends with `ended` as
  // well.
  bool greeted(const std::atomic<bool>& ended) {
    const timeval look_up{0, 20'000};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &look_up, sizeof look_up);
    char first;
    ssize_t got = -1;
    do {
      got = connected_ ? ::recv(socket_, &first, 1, MSG_PEEK) : 0;
    } while (got < 0 && (errno == EAGAIN || errno == EINTR) && !ended);
    const timeval never{0, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof never);
    if (got <= 0) connected_ = false;
    return connected_;
  }

  bool attach(const std::string& name) {
    Encoder hello;
    hello.u32(kFixedNewstyle | kNoZeroes).u64(kOptionMagic).u32(1);
    hello.u32(static_cast<std::uint32_t>(name.size())).text(name);
    return receive(kGreetingBytes) && send(hello) && receive(10);
  }
  bool read(std::uint64_t cookie, std::uint32_t length) {
    Encoder request;
    request.u32(kRequestMagic).u16(0).u16(0).u64(cookie).u64(0).u32(length);
    return send(request) && receive(kSimpleReplyBytes + length);
  }
  bool write(std::uint64_t cookie, const std::string& data) {
    Encoder request;
    request.u32(kRequestMagic).u16(0).u16(1).u64(cookie).u64(4096 * cookie);
    request.u32(static_cast<std::uint32_t>(data.size())).text(data);
    return send(request) && receive(kSimpleReplyBytes);
  }

 private:
  int socket_ = -1;
  bool connected_ = false;
};

TEST(LiveServerTest, ServesManyClientsOnBothLoopsAtOnce) {
  LiveServer server;
  std::atomic<int> failures = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&, i] {
      for (int round = 0; round < 10; ++round) {
        BlockingClient client(server.address());
        bool fine = client.attach(i % 2 == 0 ? "disk" : "near");
        for (int n = 0; n < 20; ++n) {
          fine = fine && client.write(n, std::string(5000, 'x')) && client.read(n, 5000);
        }
        if (!fine) ++failures;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(failures, 0);
}

// Clients come, work and go without pause while the server stops.
TEST(LiveServerTest, StopsInTheMidstOfAnything) {
  for (int round = 0; round < 20; ++round) {
    LiveServer server;
    std::atomic<bool> stopped = false;
    std::atomic<int> served = 0;
    std::vector<std::thread> clients;
    for (int i = 0; i < 6; ++i) {
      clients.emplace_back([&, i] {
        while (!stopped) {
          BlockingClient client(server.address());
          if (!client.greeted(stopped) || !client.attach(i % 3 == 0 ? "near" : "disk")) continue;
          const int requests = i == 5 ? 1000000 : i;
          for (int n = 0; n < requests && client.write(n % 100, "data"); ++n) ++served;
        }
      });
    }
    while (served < 10 + 10 * round) std::this_thread::yield();
    server.stop();
    stopped = true;
    for (std::thread& client : clients) client.join();
  }
}

}  // namespace
}  // namespace datom::nbd::testing

// A TCP proxy on 127.0.0.1 that can be cut, or lose what the server answers. One thread.
#pragma once

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coordination/zookeeper/test_server.h"

namespace datom::coordination {

class TestProxy {
 public:
  enum class Mode { forward, lose_answers, cut };

  explicit TestProxy(std::uint16_t server_port)
      : server_port_(server_port),
        listener_(listen_on_loopback()),
        wake_(::eventfd(0, EFD_CLOEXEC)),
        thread_([this] { run(); }) {}
  ~TestProxy() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    wake();
    thread_.join();
    for (const Pair& pair : pairs_) close_pair(pair);
    ::close(listener_);
    ::close(wake_);
  }
  TestProxy(const TestProxy&) = delete;
  TestProxy& operator=(const TestProxy&) = delete;

  std::uint16_t port() const { return port_of(listener_); }

  // In force when it returns.
  void set_mode(Mode mode) {
    std::unique_lock lock(mutex_);
    wanted_ = mode;
    wake();
    changed_.wait(lock, [&] { return mode_ == wanted_; });
  }

 private:
  struct Pair {
    int client;
    int server;
  };

  void wake() {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof one);
  }

  void run() {
    for (;;) {
      std::vector<pollfd> polled = {{wake_, POLLIN, 0}, {listener_, POLLIN, 0}};
      for (const Pair& pair : pairs_) {
        polled.push_back({pair.client, POLLIN, 0});
        polled.push_back({pair.server, POLLIN, 0});
      }
      ::poll(polled.data(), polled.size(), -1);
      const std::lock_guard lock(mutex_);
      if (ending_) return;
      if (polled[0].revents != 0) take_wake();
      serve_pairs(polled);
      if (polled[1].revents != 0) accept();
      mode_ = wanted_;
      changed_.notify_all();
    }
  }

  void take_wake() {
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t size = ::read(wake_, &count, sizeof count);
  }

  void serve_pairs(const std::vector<pollfd>& polled) {
    std::vector<Pair> open;
    for (std::size_t i = 0; i < pairs_.size(); ++i) {
      const Pair& pair = pairs_[i];
      bool ok = wanted_ != Mode::cut;
      if (ok && polled[2 * i + 2].revents != 0) ok = pass(pair.client, pair.server, false);
      if (ok && polled[2 * i + 3].revents != 0) {
        ok = pass(pair.server, pair.client, wanted_ == Mode::lose_answers);
      }
      if (ok) {
        open.push_back(pair);
      } else {
        close_pair(pair);
      }
    }
    pairs_ = std::move(open);
  }

  void accept() {
    const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) return;
    const int server = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(server_port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const Pair pair{client, server};
    if (wanted_ == Mode::cut ||
        ::connect(server, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      close_pair(pair);
    } else {
      pairs_.push_back(pair);
    }
  }

  static bool pass(int from, int to, bool lose) {
    std::array<char, 65536> buffer;
    const ssize_t size = ::recv(from, buffer.data(), buffer.size(), 0);
    if (size <= 0) return false;
    if (lose) return true;
    for (ssize_t sent = 0; sent < size;) {
      const ssize_t now =
          ::send(to, buffer.data() + sent, static_cast<std::size_t>(size - sent), MSG_NOSIGNAL);
      if (now <= 0) return false;
      sent += now;
    }
    return true;
  }

  static void close_pair(const Pair& pair) {
    ::close(pair.client);
    ::close(pair.server);
  }

  const std::uint16_t server_port_;
  const int listener_;
  const int wake_;
  std::vector<Pair> pairs_;  // the thread's
  std::mutex mutex_;
  std::condition_variable changed_;
  Mode wanted_ = Mode::forward;
  Mode mode_ = Mode::forward;  // in force
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace datom::coordination

// A real ZooKeeper server for tests: one process, a temporary directory, a free port on 127.0.0.1.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "common/check.h"
#include "common/error.h"

namespace datom::coordination {

// A listening socket on 127.0.0.1; port 0: any that is free.
inline int listen_on_loopback(std::uint16_t port = 0) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener, 16) != 0) {
    throw_errno(errno, "listen on 127.0.0.1");
  }
  return listener;
}

inline std::uint16_t port_of(int listener) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

class ZooKeeperServer {
 public:
  ZooKeeperServer() {
    std::string name = (std::filesystem::temp_directory_path() / "zookeeper-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw_errno(errno, name);
    directory_ = name;
    const int listener = listen_on_loopback();
    port_ = port_of(listener);
    ::close(listener);
    start();
  }
  ~ZooKeeperServer() {
    if (process_ > 0) kill();
    std::filesystem::remove_all(directory_);
  }
  ZooKeeperServer(const ZooKeeperServer&) = delete;
  ZooKeeperServer& operator=(const ZooKeeperServer&) = delete;

  std::uint16_t port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // Does not wait until it answers: that is for the session that connects to it.
  void start() {
    DATOM_CHECK(process_ == 0);
    const std::string port = std::to_string(port_);
    process_ = ::fork();
    if (process_ < 0) throw_errno(errno, "fork");
    if (process_ > 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that crashes leaves no server behind
    ::execl(DATOM_ZOOKEEPER_TOOL, DATOM_ZOOKEEPER_TOOL, directory_.c_str(), port.c_str(), nullptr);
    ::_exit(127);
  }
  // As by kill -9. What it acknowledged is there after the next start().
  void kill() {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
    process_ = 0;
  }
  // It stays silent, its connections stay open.
  void pause() { ::kill(process_, SIGSTOP); }
  void resume() { ::kill(process_, SIGCONT); }

 private:
  std::string directory_;
  std::uint16_t port_ = 0;
  pid_t process_ = 0;
};

}  // namespace datom::coordination

// A server on real sockets: the handshakes on one event loop, the volumes on another, each with a
// thread of its own.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "common/check.h"
#include "nbd/memory_export.h"
#include "nbd/server.h"
#include "runtime/event_loop.h"
#include "runtime/socket_network.h"
#include "runtime/wait.h"
#include "telemetry/log.h"

namespace datom::nbd::testing {

// A directory of its own, removed at the end.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string path = std::filesystem::temp_directory_path() / "nbd_test.XXXXXX";
    DATOM_CHECK(::mkdtemp(path.data()) != nullptr);
    path_ = path;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  std::string operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// Serves "disk" (on the other loop), "near" (on the loop of the handshakes) and "frozen"
// (read-only), on a free port of 127.0.0.1 and on a Unix socket.
class LiveServer {
 public:
  static constexpr std::uint64_t kSize = 64 << 20;

  LiveServer() {
    exports_.add(
        {.name = "disk", .size = kSize, .description = "a disk in memory", .multi_conn = true},
        {&away_, away_network_.get()});
    exports_.add({.name = "near", .size = kSize, .description = ""}, {&home_, network_.get()});
    exports_.add({.name = "frozen", .size = kSize, .description = "", .read_only = true},
                 {&away_, away_network_.get()});
    away_thread_ = std::thread([this] { away_.run(); });
    home_thread_ = std::thread([this] { home_.run(serve()); });
    address_ = started_.get_future().get();
  }
  ~LiveServer() { stop(); }

  void stop() {
    if (!home_thread_.joinable()) return;
    home_.post([this] { quit_.set(); });
    home_thread_.join();
    away_.stop();
    away_thread_.join();
  }

  std::string tcp(const std::string& name) const { return "nbd://" + address_ + "/" + name; }
  std::string unix(const std::string& name) const {
    return "nbd+unix:///" + name + "?socket=" + socket_;
  }
  const runtime::Address address() const { return runtime::Address::parse(address_); }
  const TemporaryDirectory& directory() const { return directory_; }

 private:
  runtime::Task<void> serve() {
    Server server(home_, *network_, exports_, {}, telemetry::Log::silent());
    auto listener = network_->listen(runtime::Address::parse("127.0.0.1:0"));
    const std::string address = listener->address().to_string();
    server.serve(std::move(listener));
    server.serve(network_->listen(runtime::Address::parse("unix:" + socket_)));
    started_.set_value(address);
    co_await quit_.wait();
    co_await server.stop();
  }

  TemporaryDirectory directory_;
  const std::string socket_ = directory_ / "socket";
  runtime::EventLoop home_;
  runtime::EventLoop away_;
  std::unique_ptr<runtime::Network> network_ = runtime::make_network(home_);
  std::unique_ptr<runtime::Network> away_network_ = runtime::make_network(away_);
  MemoryExports exports_;
  runtime::Event quit_{home_};
  std::promise<std::string> started_;
  std::string address_;
  std::thread home_thread_;
  std::thread away_thread_;
};

}  // namespace datom::nbd::testing

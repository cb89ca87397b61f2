// The NBD server (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md), fixed
// newstyle, on TCP and Unix sockets.
#pragma once

#include <memory>
#include <vector>

#include "nbd/export.h"
#include "runtime/network.h"
#include "telemetry/log.h"

namespace datom::nbd {

inline constexpr std::uint32_t kMaxRequestBytes = 32 << 20;

struct ServerOptions {
  std::size_t max_connections = 1024;
  std::size_t max_in_flight_requests = 1024;    // a connection; then it is not read
  std::size_t max_in_flight_bytes = 128 << 20;  // a connection: payload of reads and writes
  runtime::Duration handshake_timeout = std::chrono::seconds(30);
  // How long a connection that ends waits for requests under way and for its client to take the
  // replies.
  runtime::Duration stop_timeout = std::chrono::seconds(10);
};

class Server {
 public:
  // Everything must outlive it and belong to `loop`, the loop of the handshakes; an attached
  // connection moves to the loop of its export.
  Server(runtime::Loop& loop, runtime::Network& network, Exports& exports, ServerOptions options,
         telemetry::Log log);
  // stop() must have returned.
  ~Server();

  // Serves a listener of `loop` until stop(). Any number of them.
  void serve(std::unique_ptr<runtime::Listener> listener);
  // Accepts no more; lets requests under way end (each client gets its replies), then closes every
  // connection. On `loop`.
  runtime::Task<void> stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace datom::nbd

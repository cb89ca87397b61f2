// Accepts datom's port: RPC connections are served by a Router, HTTP connections (told apart by
// their first bytes) are handed on.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "rpc/rpc.h"
#include "runtime/network.h"
#include "telemetry/log.h"

namespace datom::rpc {

// One loop that may serve connections.
struct ServingLoop {
  runtime::Loop* loop = nullptr;
  runtime::Network* network = nullptr;  // of that loop
  const Router* router = nullptr;       // used on that loop only
};

struct ServerOptions {
  std::string domain;  // a hello that names another domain is refused, saying which is which
  std::string self;    // a hello meant for another service is refused: its address has been reused
  std::size_t max_connections = 4096;
  // A connection with more than this is read no further until it has less: requests whose handlers
  // run, and bytes of such requests and of replies not yet on the socket.
  std::size_t max_in_flight = 4096;
  std::size_t max_queued_bytes = 64 << 20;
  runtime::Duration hello_timeout = std::chrono::seconds(5);
  telemetry::Log log = telemetry::Log::silent();
};

class Server {
 public:
  // An HTTP connection and the bytes read from it so far. On the listener's loop; the server waits
  // for the task at stop(), having closed the stream.
  using OnHttp =
      std::function<runtime::Task<void>(std::unique_ptr<runtime::Stream> stream, std::string read)>;

  // `loops[0]` accepts; a connection is served on loops[shard % loops.size()], shard being what its
  // hello asks for. All must outlive the server. Garbage closes the connection, with a line in the
  // log, and nothing else.
  Server(std::vector<ServingLoop> loops, std::unique_ptr<runtime::Listener> listener,
         ServerOptions options, OnHttp on_http);
  // stop() must have returned.
  ~Server();

  void start();
  // Accepts no more, closes every connection, waits for handlers. On loops[0]; all loops must go on
  // running until it has returned.
  runtime::Task<void> stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace datom::rpc

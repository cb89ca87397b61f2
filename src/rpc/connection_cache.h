// The real Caller: connections by service name, found through coordination and kept.
#pragma once

#include <memory>
#include <string>

#include "coordination/client.h"
#include "rpc/rpc.h"
#include "runtime/network.h"
#include "telemetry/log.h"

namespace datom::rpc {

struct ConnectionCacheOptions {
  std::string domain;       // looked up under /datom/domains/DOMAIN/services/S/instance
  std::string self;         // this service's name, told to peers; "" for a command
  std::uint32_t shard = 0;  // which loop of the peer should serve these connections
  runtime::Duration connect_timeout = std::chrono::seconds(2);
  std::size_t max_queued_bytes = 64 << 20;  // a peer: queued to be sent and not yet on the socket
  std::size_t max_in_flight = 4096;         // a peer: requests without a reply
  telemetry::Log log = telemetry::Log::silent();
};

// get_connection(service): first from the cache, else looked up, connected, and watched. When
// coordination reports another address, requests move there; when it reports a departure, waiting
// requests fail with unavailable (not sent) or outcome_unknown (sent).
//
// Names of the form "@HOST:PORT" are addresses, not looked up: the config service is reached so
// before any service of a domain is known.
class ConnectionCache final : public Caller {
 public:
  // All must outlive it and belong to `loop`.
  ConnectionCache(runtime::Loop& loop, runtime::Network& network,
                  coordination::Client& coordination, ConnectionCacheOptions options);
  // stop() must have returned.
  ~ConnectionCache() override;

  runtime::Task<Message> call(std::string service, Method method, Message request,
                              runtime::Duration timeout) override;
  void send(const std::string& service, Method method, Message message) override;
  std::unique_ptr<Subscription> watch_peers(OnPeer on_up, OnPeer on_down) override;

  // Closes all connections; requests under way fail with closed.
  runtime::Task<void> stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What a service publishes in /datom/domains/D/services/S/instance (ephemeral), as JSON:
// {"address": "192.0.2.7:7400", "nbd_address": "192.0.2.7:10809", "epoch": "UUID", "pid": 4711}.
struct Instance {
  std::string address;
  std::string nbd_address;  // "" where the service has no NBD port
  std::string epoch;        // a new uuid at each start
  std::int64_t pid = 0;

  std::string to_json() const;
  // Throws Error{corrupt} naming what is wrong.
  static Instance from_json(const std::string& text);
};

}  // namespace datom::rpc

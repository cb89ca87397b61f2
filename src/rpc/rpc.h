// RPC between datom processes: requests to a service by its name in the domain, each with a small
// header (an encoded protobuf message) and a payload (blocks) beside it, never copied into it.
//
// The seam is Caller (what sends) and Router (what receives). The real Caller is ConnectionCache
// (connection_cache.h); a simulated network implements the same two.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "common/bytes.h"
#include "common/error.h"
#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::rpc {

// Which request this is. The numbers cross the wire (protocol/methods.h); append only.
using Method = std::uint16_t;

inline constexpr std::size_t kMaxHeaderBytes = 1 << 20;
inline constexpr std::size_t kMaxPayloadBytes = 4 << 20;

struct Message {
  std::string header;  // at most kMaxHeaderBytes
  Buffer payload;      // at most kMaxPayloadBytes; 4 KiB aligned where it was received
  // The payload holds checksums of its own, which whoever takes it verifies: the frame's does not
  // cover it.
  bool payload_sealed = false;
};

// Who sent a request: what the other side said of itself in its hello.
struct Peer {
  std::string service;  // "" for a command
  std::string address;  // "192.0.2.7:50122"
};

// Sends to services. Belongs to one loop.
class Caller {
 public:
  virtual ~Caller() = default;

  // Looks the service up, connects if need be, sends, and waits for the reply, `timeout` in all.
  // Throws what the handler threw (same code and message), or
  //   not_found / unavailable   the service is not registered, not up, or cannot be reached: the
  //                             request was certainly not executed
  //   outcome_unknown           the connection broke after it was sent
  //   timeout                   sent, no reply in time
  //   too_large                 over the bounds above, or too much in flight for that peer
  virtual runtime::Task<Message> call(std::string service, Method method, Message request,
                                      runtime::Duration timeout) = 0;

  // Sends without expecting a reply, best effort: messages to one service arrive in the order they
  // were sent, or are lost (no connection, connection broken, peer too slow: over the bound of
  // queued bytes). If there is no connection one is being made; messages wait for it within the
  // bound. Throws Error{too_large} over the bounds of a message, {invalid_argument} for what cannot
  // be a service.
  virtual void send(const std::string& service, Method method, Message message) = 0;

  // `on_down` hears that the connection to a service broke, was refused, or that coordination
  // reported its departure, perhaps more than once; `on_up` that a connection was made. On the
  // loop, until the handle is destroyed. Handles must be destroyed before the Caller.
  class Subscription {
   public:
    virtual ~Subscription() = default;
  };
  using OnPeer = std::function<void(const std::string& service)>;
  virtual std::unique_ptr<Subscription> watch_peers(OnPeer on_up, OnPeer on_down) = 0;
};

// What answers: one handler a method, registered before serving and unchanged afterwards. Handlers
// run on the loop of the connection that the request came on.
class Router {
 public:
  using Handler = std::function<runtime::Task<Message>(Peer, Message)>;
  using MessageHandler = std::function<void(const Peer&, Message)>;

  // REQUIRES: not registered before.
  void on_call(Method method, Handler handler);
  void on_message(Method method, MessageHandler handler);

  // nullptr where the method is unknown.
  const Handler* find_call(Method method) const;
  const MessageHandler* find_message(Method method) const;

 private:
  std::map<Method, Handler> calls_;
  std::map<Method, MessageHandler> messages_;
};

}  // namespace datom::rpc

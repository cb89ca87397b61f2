// What a ConnectionCache knows and keeps of one service: where it is, the connection to it, what
// waits to be sent, and the calls without a reply.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "rpc/client_connection.h"
#include "rpc/connection_cache.h"
#include "rpc/instance_watch.h"
#include "rpc/peer_watchers.h"
#include "rpc/pending_calls.h"
#include "rpc/send_queue.h"
#include "runtime/task_group.h"

namespace datom::rpc {

// What the links of a cache share. All outlives them and belongs to `loop`.
struct LinkContext {
  runtime::Loop& loop;
  runtime::Network& network;
  coordination::Client& coordination;
  const ConnectionCacheOptions& options;
  runtime::TaskGroup& tasks;
  PeerWatchers& watchers;
};

// A connection is made when there is something to send, and only then. Frames wait in one queue
// whether there is a connection or not, so that they keep their order.
class ServiceLink {
 public:
  // "@HOST:PORT" is an address, everything else a service to look up. Throws
  // Error{invalid_argument} if it is neither.
  ServiceLink(LinkContext context, std::string service);
  // stop() was called and context.tasks closed.
  ~ServiceLink();
  ServiceLink(const ServiceLink&) = delete;
  ServiceLink& operator=(const ServiceLink&) = delete;

  // As Caller.
  runtime::Task<Message> call(Method method, Message request, runtime::Duration timeout);
  void send(Method method, Message message);

  // Coordination can be asked again.
  void coordination_is_back();
  // Everything under way fails with closed; nothing begins any more.
  void stop();

 private:
  // kWaiting: until the next attempt is due. An attempt looks up, connects and greets.
  enum class State { kIdle, kWaiting, kAttempting, kConnected };

  bool has_room(const Frame& frame) const;
  void want_connection();
  void begin_attempt();
  runtime::Task<void> attempt(std::uint64_t generation);
  runtime::Task<runtime::Address> locate();
  runtime::Task<void> connect(std::uint64_t generation,
                              std::unique_ptr<ClientConnection>& connection);
  Hello hello() const;

  void connected();
  void attempt_failed(const Error& error);
  void broken(const Error& reason);
  void coordination_has_news();
  void departed();
  void moved();

  // Ends the attempt or connection there is: what it still does concerns nobody.
  void supersede();
  void fail_all(const Error& sent, const Error& not_sent);

  const LinkContext context_;
  const std::string service_;
  std::optional<runtime::Address> fixed_;
  std::unique_ptr<InstanceWatch> instance_;  // nullptr with a fixed address

  SendQueue queue_;
  PendingCalls calls_;
  bool dropping_ = false;  // messages, since the queue was full

  State state_ = State::kIdle;
  std::uint64_t generation_ = 0;                // of the attempt or connection
  ClientConnection* connection_ = nullptr;      // being greeted, or connected
  std::optional<InstanceWatch::Known> target_;  // what the last attempt aimed at
  int failures_ = 0;                            // attempts in a row
  runtime::Time not_before_{};                  // the next attempt
  std::optional<runtime::Loop::TimerId> due_;
  bool stopped_ = false;
};

}  // namespace datom::rpc

// One greeted connection of a peer, as the server sees it: reads requests, runs their handlers, and
// writes the replies in the order in which they are ready.
#pragma once

#include <exception>
#include <memory>

#include "rpc/frame_reader.h"
#include "rpc/send_queue.h"
#include "rpc/server.h"
#include "runtime/task_group.h"

namespace datom::rpc {

// Belongs to the loop of its stream.
class ServerConnection {
 public:
  // All references must outlive it.
  ServerConnection(runtime::Loop& loop, std::unique_ptr<runtime::Stream> stream,
                   const Router& router, const ServerOptions& options, Peer peer);

  // Sends `first`, then serves until the peer closes, sends what it may not, or close() is called;
  // and until the handlers have ended. Why it ended goes to the log; throws nothing.
  runtime::Task<void> run(Frame first);
  // Serves no more. Idempotent.
  void close();

 private:
  runtime::Task<void> read();
  runtime::Task<void> write();
  void dropped(const std::exception& why) const;
  void receive(Frame frame);
  void receive_message(Frame frame);
  runtime::Task<void> serve(Frame request);
  // Too much to do for this peer: it reads no more until that has changed.
  bool busy() const;

  std::unique_ptr<runtime::Stream> stream_;
  const Router& router_;
  const ServerOptions& options_;
  const Peer peer_;

  FrameReader reader_;
  SendQueue queue_;
  FrameWriter writer_;
  runtime::TaskGroup tasks_;
  runtime::Event changed_;           // busy() or closed_ may be another
  std::size_t in_flight_ = 0;        // requests whose handlers run
  std::size_t in_flight_bytes_ = 0;  // of those requests
  bool closed_ = false;
};

}  // namespace datom::rpc

// One connection to a service, as the caller's side sees it.
#pragma once

#include <memory>
#include <optional>

#include "rpc/frame_reader.h"
#include "rpc/hello.h"
#include "rpc/pending_calls.h"
#include "rpc/send_queue.h"

namespace datom::rpc {

// Belongs to the loop of its stream. greet() once, then run() once.
class ClientConnection {
 public:
  // `loop` must outlive it. Frames are taken from `queue`, replies given to `calls`; both must
  // outlive it, and are touched between the begin of run() and close() only.
  ClientConnection(runtime::Loop& loop, std::unique_ptr<runtime::Stream> stream, SendQueue& queue,
                   PendingCalls& calls);

  // Says `hello` and waits for the reply, `timeout` in all. Throws what the service refuses it
  // with, Error{timeout}, {closed}, or {corrupt} if that is no datom service.
  runtime::Task<void> greet(Hello hello, runtime::Duration timeout);
  // Until the connection breaks or close() is called: gives the reason. Throws nothing.
  runtime::Task<Error> run();
  // Takes no more frames and gives no more replies. Idempotent.
  void close();

 private:
  runtime::Task<void> exchange_hellos(Hello hello);
  runtime::Task<void> read();
  runtime::Task<void> write();
  void receive(Frame frame);

  runtime::Loop& loop_;
  std::unique_ptr<runtime::Stream> stream_;
  PendingCalls& calls_;
  FrameReader reader_;
  FrameWriter writer_;
  bool closed_ = false;
};

}  // namespace datom::rpc

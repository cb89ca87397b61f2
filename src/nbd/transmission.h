// The transmission phase of one connection: requests in, replies out, many under way at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "nbd/export.h"
#include "nbd/inbox.h"
#include "nbd/request.h"
#include "nbd/server.h"
#include "nbd/wire.h"
#include "runtime/loop.h"
#include "runtime/network.h"
#include "runtime/task.h"
#include "runtime/task_group.h"
#include "runtime/wait.h"
#include "telemetry/log.h"

namespace datom::nbd {

// Belongs to `loop`. Everything must outlive it.
class Transmission {
 public:
  Transmission(runtime::Loop& loop, runtime::Stream& stream, Export& volume, Session session,
               const ServerOptions& options, telemetry::Log log);

  // Serves until the client disconnects, breaks the protocol or vanishes, or stop() is called. Then
  // the stream and the export are closed and nothing is under way. At most once.
  runtime::Task<void> run();

  // Takes no further requests; run() returns once those under way are answered, after
  // ServerOptions::stop_timeout at the latest.
  void stop();

 private:
  struct Pending {
    Reply reply;
    std::size_t bytes = 0;  // reserved by admit()
  };

  runtime::Task<void> read_requests();
  runtime::Task<void> take_requests();
  runtime::Task<void> reject(Request request, Refusal refusal);
  // Whether `bytes` of payload and one more request fit the bounds.
  bool fits(std::size_t bytes) const;
  // Waits until they do; false when ending.
  runtime::Task<bool> wait_for_room(std::size_t bytes);
  void admit(std::size_t bytes);
  void release(std::size_t requests, std::size_t bytes);

  runtime::Task<void> serve(Request request, Buffer data, std::size_t bytes);
  runtime::Task<void> change(Request request, Buffer data);
  runtime::Task<Reply> block_status(Request request);
  Reply data_of(const Request& request, Buffer data) const;
  Reply success(const Request& request) const;
  Reply failure(const Request& request, Errno error, std::string_view message) const;

  void push(Pending pending);
  runtime::Task<void> write_replies();
  runtime::Task<bool> write_batch(std::span<const Pending> batch);

  void end();      // takes no further requests
  void hang_up();  // and there is nobody to reply to

  runtime::Loop& loop_;
  runtime::Stream& stream_;
  Export& export_;
  const Session session_;
  const ServerOptions& options_;
  telemetry::Log log_;

  Inbox inbox_;
  std::vector<Pending> outbox_;
  std::vector<ByteView> pieces_;  // of the batch on its way
  std::size_t in_flight_ = 0;     // admitted, reply not yet sent
  std::size_t in_flight_bytes_ = 0;
  std::size_t receiving_ = 0;  // of these, the one whose payload is still being read

  bool ending_ = false;
  bool gone_ = false;
  bool finished_ = false;    // write_replies() returns when the outbox is empty
  runtime::Event room_;      // for admit()
  runtime::Event replies_;   // for write_replies()
  runtime::Event progress_;  // for run(), once ending
  runtime::TaskGroup tasks_;
};

}  // namespace datom::nbd

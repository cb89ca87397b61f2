// Frames on their way to a socket, and the task that writes them: all that is queued in one turn of
// the loop leaves in one gathered write, headers and payloads where they are.
#pragma once

#include <deque>
#include <functional>
#include <vector>

#include "rpc/frame.h"
#include "runtime/network.h"
#include "runtime/wait.h"

namespace datom::rpc {

// First in, first out. Belongs to one loop. Its owner bounds it: see bytes().
class SendQueue {
 public:
  explicit SendQueue(runtime::Loop& loop) : pushed_(loop) {}

  void push(Frame frame);
  // What was pushed and is not on a socket yet.
  std::size_t bytes() const { return bytes_; }
  bool empty() const { return frames_.empty(); }
  // Forgets what no write has begun with.
  void clear();

 private:
  friend class FrameWriter;

  std::deque<Frame> frames_;
  std::size_t bytes_ = 0;
  runtime::Event pushed_;
};

// Writes the frames of a queue to one stream. Frames that were not begun with when it ends stay in
// the queue.
class FrameWriter {
 public:
  // Asked before a frame is written: false drops it instead. May be empty.
  using OnSend = std::function<bool(const Frame& frame)>;
  // Some frames are on the socket; there is room in the queue. May be empty.
  using OnWritten = std::function<void()>;

  // `queue` and `stream` must outlive it. One writer at a time runs for a queue.
  FrameWriter(SendQueue& queue, runtime::Stream& stream, OnSend on_send = {},
              OnWritten on_written = {});

  // Until finish() or stop(). Throws as Stream::write.
  runtime::Task<void> run();
  // run() returns after the write under way, if any.
  void stop();
  // run() returns once the queue is empty.
  void finish();

 private:
  struct Batch;
  Batch take();

  SendQueue& queue_;
  runtime::Stream& stream_;
  OnSend on_send_;
  OnWritten on_written_;
  bool stopped_ = false;
  bool finishing_ = false;
};

}  // namespace datom::rpc

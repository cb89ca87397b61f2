#include "rpc/send_queue.h"

#include <utility>

namespace datom::rpc {
namespace {

// A gathered write has at most this many frames, and stops taking more at this many bytes.
constexpr std::size_t kMaxFramesPerWrite = 256;
constexpr std::size_t kMaxBytesPerWrite = 4 << 20;

}  // namespace

void SendQueue::push(Frame frame) {
  bytes_ += frame.wire_bytes();
  frames_.push_back(std::move(frame));
  if (frames_.size() == 1) pushed_.wake_all();
}

void SendQueue::clear() {
  for (const Frame& frame : frames_) bytes_ -= frame.wire_bytes();
  frames_.clear();
}

// Frames of one write. Their bytes stay where they are until the batch goes.
struct FrameWriter::Batch {
  std::vector<Frame> frames;
  std::vector<EncodedFrameHeader> frame_headers;
  std::size_t bytes = 0;

  std::vector<ByteView> pieces() const {
    std::vector<ByteView> all;
    all.reserve(3 * frames.size());
    for (std::size_t i = 0; i < frames.size(); ++i) {
      const Message& message = frames[i].message;
      all.emplace_back(frame_headers[i]);
      if (!message.header.empty()) all.push_back(as_bytes(message.header));
      if (!message.payload.empty()) all.push_back(message.payload.view());
    }
    return all;
  }
};

FrameWriter::FrameWriter(SendQueue& queue, runtime::Stream& stream, OnSend on_send,
                         OnWritten on_written)
    : queue_(queue),
      stream_(stream),
      on_send_(std::move(on_send)),
      on_written_(std::move(on_written)) {}

FrameWriter::Batch FrameWriter::take() {
  Batch batch;
  while (!queue_.frames_.empty() && batch.frames.size() < kMaxFramesPerWrite &&
         batch.bytes < kMaxBytesPerWrite) {
    Frame frame = std::move(queue_.frames_.front());
    queue_.frames_.pop_front();
    const std::size_t bytes = frame.wire_bytes();
    if (on_send_ && !on_send_(frame)) {
      queue_.bytes_ -= bytes;
      continue;
    }
    batch.bytes += bytes;
    batch.frame_headers.push_back(encode_frame_header(frame));
    batch.frames.push_back(std::move(frame));
  }
  return batch;
}

runtime::Task<void> FrameWriter::run() {
  while (!stopped_) {
    if (queue_.frames_.empty()) {
      if (finishing_) co_return;
      co_await queue_.pushed_.wait();
      continue;
    }
    const Batch batch = take();
    if (batch.frames.empty()) continue;
    // Whether they get there or not, they have left the queue.
    struct Written {
      SendQueue& queue;
      std::size_t bytes;
      ~Written() { queue.bytes_ -= bytes; }
    };
    {
      const Written written{queue_, batch.bytes};
      const std::vector<ByteView> pieces = batch.pieces();
      co_await stream_.write(pieces);
    }
    if (on_written_) on_written_();
  }
}

void FrameWriter::stop() {
  stopped_ = true;
  queue_.pushed_.wake_all();
}

void FrameWriter::finish() {
  finishing_ = true;
  queue_.pushed_.wake_all();
}

}  // namespace datom::rpc

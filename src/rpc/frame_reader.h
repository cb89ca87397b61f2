// Reads frames from a stream: one read serves many small frames, and a large payload is read
// straight into its own memory.
#pragma once

#include <optional>
#include <string_view>

#include "rpc/frame.h"
#include "runtime/network.h"

namespace datom::rpc {

// Belongs to the stream's loop.
class FrameReader {
 public:
  // `stream` must outlive it. `read` are bytes that were read from it already, at most 4 KiB.
  FrameReader(runtime::Stream& stream, FrameBounds bounds, ByteView read = {});

  // For the frames that have not begun yet.
  void set_bounds(FrameBounds bounds) { bounds_ = bounds; }

  // The next frame, verified, if all of it was read. Throws Error{corrupt} or Error{too_large}: the
  // stream is of no use any more.
  std::optional<Frame> try_next();
  // Reads once more. False when the peer has closed its side between two frames; throws
  // Error{closed} in the middle of one, or as Stream::read_some.
  runtime::Task<bool> read_more();
  // Both: the next frame, nullopt at the end.
  runtime::Task<std::optional<Frame>> next();

  // Nothing was read beyond the frames given out.
  bool is_drained() const { return !in_frame(); }

 private:
  bool in_frame() const { return header_.has_value() || begin_ != end_; }
  bool try_begin();
  void take_content();
  // What is missing of the message's header, then of its payload.
  MutableBytes missing();
  MutableBytes free_space();

  runtime::Stream& stream_;
  FrameBounds bounds_;

  Buffer buffer_;  // bytes [begin_, end_) were read and not taken yet
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t window_;  // what one read into the buffer brings at most

  std::optional<FrameHeader> header_;  // of the frame that has begun
  Message message_;
  std::size_t taken_ = 0;  // of the message's bytes, header first
};

}  // namespace datom::rpc

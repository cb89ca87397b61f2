// Buffered reading of a stream: one read_some serves many small messages, while large payloads go
// straight into their memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/bytes.h"
#include "runtime/network.h"
#include "runtime/task.h"

namespace datom::nbd {

// One operation at a time; belongs to the loop of `stream`, which must outlive it.
class Inbox {
 public:
  // REQUIRES: capacity holds the largest message that fill() is asked for.
  Inbox(runtime::Stream& stream, std::size_t capacity);

  // Waits until peek() holds at least `size` bytes. False when the stream ends before the first of
  // them, Error{closed} when it ends between.
  runtime::Task<bool> fill(std::size_t size);
  ByteView peek() const { return buffer_.view().subspan(begin_, end_ - begin_); }
  // REQUIRES: peek() holds that many.
  void consume(std::size_t size) { begin_ += size; }

  // The next into.size() bytes, if all of them are there: false, and nothing taken, if not.
  bool try_read(MutableBytes into);
  // The next into.size() bytes. Error{closed} when the stream ends first.
  runtime::Task<void> read(MutableBytes into);
  // Drops the next `size` bytes. Error{closed} when the stream ends first.
  runtime::Task<void> skip(std::uint64_t size);

 private:
  // Reads what comes into the free part of the buffer; false at the end of the stream.
  runtime::Task<bool> read_more();

  runtime::Stream& stream_;
  Buffer buffer_;
  std::size_t begin_ = 0;  // buffer_[begin_, end_) is read but not consumed
  std::size_t end_ = 0;
  std::size_t window_;  // what one read into the buffer brings at most
};

}  // namespace datom::nbd

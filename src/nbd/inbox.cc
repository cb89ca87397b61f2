#include "nbd/inbox.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "common/error.h"

namespace datom::nbd {
namespace {

[[noreturn]] void throw_ended() {
  throw Error(Code::closed, "the peer closed the connection in the middle of a message");
}

}  // namespace

Inbox::Inbox(runtime::Stream& stream, std::size_t capacity) : stream_(stream), buffer_(capacity) {}

runtime::Task<bool> Inbox::fill(std::size_t size) {
  DATOM_CHECK(size <= buffer_.size());
  while (end_ - begin_ < size) {
    const bool more = co_await read_more();
    if (more) continue;
    if (end_ == begin_) co_return false;
    throw_ended();
  }
  co_return true;
}

runtime::Task<void> Inbox::read(MutableBytes into) {
  while (!into.empty()) {
    if (begin_ < end_) {
      const std::size_t size = std::min(into.size(), end_ - begin_);
      std::memcpy(into.data(), buffer_.data() + begin_, size);
      consume(size);
      into = into.subspan(size);
    } else if (into.size() >= buffer_.size() / 4) {
      const std::size_t size = co_await stream_.read_some(into);
      if (size == 0) throw_ended();
      into = into.subspan(size);
    } else {
      // The rest is small: take what follows it along.
      const bool more = co_await read_more();
      if (!more) throw_ended();
    }
  }
}

runtime::Task<void> Inbox::skip(std::uint64_t size) {
  while (true) {
    const std::uint64_t there = std::min<std::uint64_t>(size, end_ - begin_);
    consume(there);
    size -= there;
    if (size == 0) co_return;
    const bool more = co_await read_more();
    if (!more) throw_ended();
  }
}

runtime::Task<bool> Inbox::read_more() {
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  const std::size_t size = co_await stream_.read_some(MutableBytes(buffer_).subspan(end_));
  end_ += size;
  co_return size > 0;
}

}  // namespace datom::nbd

#include "nbd/inbox.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "common/error.h"

namespace datom::nbd {
namespace {

// From this much on, what is missing of a payload is read straight into its memory.
constexpr std::size_t kDirectRead = 32 << 10;
// What one read into the buffer may bring: as much as there is while messages are small, little
// after a large payload, since another would be copied out of the buffer.
constexpr std::size_t kFirstWindow = 64 << 10;
constexpr std::size_t kWindowAfterLarge = 4 << 10;
constexpr std::size_t kWindowGrowth = 4;

[[noreturn]] void throw_ended() {
  throw Error(Code::closed, "the peer closed the connection in the middle of a message");
}

}  // namespace

Inbox::Inbox(runtime::Stream& stream, std::size_t capacity)
    : stream_(stream),
      buffer_(Buffer::allocate(capacity)),
      window_(std::min(capacity, kFirstWindow)) {}

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

bool Inbox::try_read(MutableBytes into) {
  if (end_ - begin_ < into.size()) return false;
  std::memcpy(into.data(), buffer_.data() + begin_, into.size());
  consume(into.size());
  return true;
}

runtime::Task<void> Inbox::read(MutableBytes into) {
  while (!into.empty()) {
    if (begin_ < end_) {
      const std::size_t size = std::min(into.size(), end_ - begin_);
      std::memcpy(into.data(), buffer_.data() + begin_, size);
      consume(size);
      into = into.subspan(size);
    } else if (into.size() >= kDirectRead) {
      const std::size_t size = co_await stream_.read_some(into);
      if (size == 0) throw_ended();
      window_ = kWindowAfterLarge;
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
    std::memmove(buffer_.mutable_data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  const std::size_t most = std::min(window_, buffer_.size() - end_);
  const std::size_t size = co_await stream_.read_some(buffer_.mutable_view().subspan(end_, most));
  if (size == window_) window_ = std::min(window_ * kWindowGrowth, buffer_.size());
  end_ += size;
  co_return size > 0;
}

}  // namespace datom::nbd

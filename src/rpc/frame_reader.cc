#include "rpc/frame_reader.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace datom::rpc {
namespace {

constexpr std::size_t kReadBufferBytes = 256 << 10;
// From this much on, what is missing of a message is read straight into its memory.
constexpr std::size_t kDirectRead = 32 << 10;
// What one read into the buffer may bring: as much as there is while frames are small, little after
// a large payload, since another would be copied out of the buffer.
constexpr std::size_t kFirstWindow = 64 << 10;
constexpr std::size_t kWindowAfterLarge = 4 << 10;
constexpr std::size_t kWindowGrowth = 4;

MutableBytes writable(std::string& text) {
  return std::as_writable_bytes(std::span(text.data(), text.size()));
}

}  // namespace

FrameReader::FrameReader(runtime::Stream& stream, FrameBounds bounds, ByteView read)
    : stream_(stream),
      bounds_(bounds),
      buffer_(Buffer::allocate(kReadBufferBytes)),
      window_(kFirstWindow) {
  DATOM_CHECK(read.size() <= kBlockSize);
  std::ranges::copy(read, buffer_.mutable_data());
  end_ = read.size();
}

bool FrameReader::try_begin() {
  if (end_ - begin_ < kFrameHeaderBytes) return false;
  header_ = decode_frame_header(buffer_.view().subspan(begin_, kFrameHeaderBytes), bounds_);
  begin_ += kFrameHeaderBytes;
  taken_ = 0;
  message_.payload_sealed = header_->payload_sealed;
  message_.header.resize(header_->header_bytes);
  message_.payload =
      header_->payload_bytes == 0 ? Buffer() : Buffer::allocate(header_->payload_bytes);
  return true;
}

MutableBytes FrameReader::missing() {
  const std::size_t header_bytes = message_.header.size();
  if (taken_ < header_bytes) return writable(message_.header).subspan(taken_);
  return message_.payload.mutable_view().subspan(taken_ - header_bytes);
}

void FrameReader::take_content() {
  for (;;) {
    const MutableBytes into = missing();
    const std::size_t count = std::min(into.size(), end_ - begin_);
    if (count == 0) return;
    std::memcpy(into.data(), buffer_.data() + begin_, count);
    begin_ += count;
    taken_ += count;
  }
}

std::optional<Frame> FrameReader::try_next() {
  if (!header_ && !try_begin()) return std::nullopt;
  take_content();
  if (!missing().empty()) return std::nullopt;
  if (content_checksum(message_) != header_->content_checksum) {
    throw Error(Code::corrupt,
                "frame of method {} with a header of {} bytes and a payload of {} "
                "bytes fails its checksum",
                header_->method, header_->header_bytes, header_->payload_bytes);
  }
  Frame frame{header_->kind, header_->method, header_->request_id,
              std::exchange(message_, Message{})};
  header_.reset();
  return frame;
}

MutableBytes FrameReader::free_space() {
  if (begin_ > 0) {
    std::memmove(buffer_.mutable_data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= std::exchange(begin_, 0);
  }
  return buffer_.mutable_view().subspan(end_, std::min(window_, buffer_.size() - end_));
}

runtime::Task<bool> FrameReader::read_more() {
  const bool direct = header_ && begin_ == end_ && missing().size() >= kDirectRead;
  const MutableBytes into = direct ? missing() : free_space();
  const std::size_t count = co_await stream_.read_some(into);
  if (count == 0 && in_frame()) {
    throw Error(Code::closed, "{} closed the connection in the middle of a frame", stream_.peer());
  }
  if (direct) {
    window_ = kWindowAfterLarge;
  } else if (count == window_) {
    window_ = std::min(window_ * kWindowGrowth, buffer_.size());
  }
  (direct ? taken_ : end_) += count;
  co_return count > 0;
}

runtime::Task<std::optional<Frame>> FrameReader::next() {
  for (;;) {
    std::optional<Frame> frame = try_next();
    if (frame) co_return frame;
    const bool more = co_await read_more();
    if (!more) co_return std::nullopt;
  }
}

}  // namespace datom::rpc

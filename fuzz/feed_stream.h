// A connection whose peer sends the input, in pieces, and takes whatever it is sent.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>

#include "common/check.h"
#include "common/error.h"
#include "runtime/network.h"
#include "runtime/task.h"

namespace datom::fuzz {

class FeedStream final : public runtime::Stream {
 public:
  // `piece`: bytes that arrive at once; 0: all that fit.
  FeedStream(runtime::Loop& loop, ByteView input, std::size_t piece)
      : loop_(loop), left_(input), piece_(piece) {}

  runtime::Task<std::size_t> read_some(MutableBytes into) override {
    co_await runtime::switch_to(loop_);
    if (closed_) throw Error(Code::closed, "closed");
    const std::size_t most = std::min(into.size(), left_.size());
    const std::size_t count = piece_ == 0 ? most : std::min(most, piece_);
    std::memcpy(into.data(), left_.data(), count);
    left_ = left_.subspan(count);
    co_return count;
  }
  runtime::Task<void> write(std::span<const ByteView> pieces) override {
    co_await runtime::switch_to(loop_);
    if (closed_) throw Error(Code::closed, "closed");
    // Every byte is looked at: one that was never written is found.
    for (const ByteView piece : pieces) {
      for (const std::byte each : piece) sum_ += static_cast<unsigned>(each);
    }
  }
  void close() override { closed_ = true; }
  std::string peer() const override { return "192.0.2.1:1"; }
  runtime::NativeSocket release() override {
    DATOM_CHECK(false);
    return runtime::NativeSocket();
  }

 private:
  runtime::Loop& loop_;
  ByteView left_;
  const std::size_t piece_;
  bool closed_ = false;
  unsigned sum_ = 0;
};

}  // namespace datom::fuzz

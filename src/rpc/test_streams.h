// Byte streams in memory, for tests of this room: they work on a VirtualLoop and can be broken.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/error.h"
#include "runtime/network.h"
#include "runtime/wait.h"

namespace datom::rpc::test {

// One direction of a connection: holds at most `capacity` bytes.
struct Pipe {
  explicit Pipe(runtime::Loop& loop) : changed(loop) {}

  std::string bytes;
  std::size_t capacity = 1 << 20;
  bool ended = false;   // the writer has closed its side
  bool broken = false;  // a reader is gone, or the connection was broken
  runtime::Event changed;
};

class MemoryStream final : public runtime::Stream {
 public:
  MemoryStream(std::shared_ptr<Pipe> in, std::shared_ptr<Pipe> out, std::string peer)
      : in_(std::move(in)), out_(std::move(out)), peer_(std::move(peer)) {}
  ~MemoryStream() override { close(); }

  runtime::Task<std::size_t> read_some(MutableBytes into) override {
    const std::shared_ptr<Pipe> in = in_;
    while (in->bytes.empty() && !in->ended && !in->broken && !closed_) {
      co_await in->changed.wait();
    }
    if (closed_ || in->broken) throw Error(Code::closed, "connection to {} is closed", peer_);
    const std::size_t count = std::min(into.size(), in->bytes.size());
    std::memcpy(into.data(), in->bytes.data(), count);
    in->bytes.erase(0, count);
    in->changed.wake_all();
    co_return count;
  }

  runtime::Task<void> write(std::span<const ByteView> pieces) override {
    const std::shared_ptr<Pipe> out = out_;
    for (ByteView piece : pieces) {
      while (!piece.empty()) {
        while (out->bytes.size() >= out->capacity && !out->broken && !closed_) {
          co_await out->changed.wait();
        }
        if (closed_ || out->broken) throw Error(Code::closed, "connection to {} broke", peer_);
        const std::size_t count = std::min(piece.size(), out->capacity - out->bytes.size());
        out->bytes += as_text(piece.first(count));
        out->changed.wake_all();
        piece = piece.subspan(count);
      }
    }
  }

  void close() override {
    if (std::exchange(closed_, true)) return;
    out_->ended = true;
    in_->broken = true;
    in_->changed.wake_all();
    out_->changed.wake_all();
  }
  std::string peer() const override { return peer_; }
  runtime::NativeSocket release() override {
    DATOM_CHECK(false);
    return runtime::NativeSocket();
  }

 private:
  std::shared_ptr<Pipe> in_;
  std::shared_ptr<Pipe> out_;
  std::string peer_;
  bool closed_ = false;
};

// Two ends of one connection.
inline std::pair<std::unique_ptr<MemoryStream>, std::unique_ptr<MemoryStream>> stream_pair(
    runtime::Loop& loop, std::size_t capacity = 1 << 20) {
  auto there = std::make_shared<Pipe>(loop);
  auto back = std::make_shared<Pipe>(loop);
  there->capacity = back->capacity = capacity;
  return {std::make_unique<MemoryStream>(back, there, "192.0.2.1:1"),
          std::make_unique<MemoryStream>(there, back, "192.0.2.2:2")};
}

// A network of one loop whose addresses are whatever somebody listens at.
class MemoryStreams final : public runtime::Network {
 public:
  explicit MemoryStreams(runtime::Loop& loop) : loop_(loop) {}

  // Connections to such an address hang until their timeout.
  std::set<std::string> black_holes;
  int connects = 0;

  // As if a switch had lost power: both ends of every connection to `address` are broken.
  void break_connections(const std::string& address) {
    for (const std::shared_ptr<Pipe>& pipe : pipes_[address]) {
      pipe->broken = true;
      pipe->changed.wake_all();
    }
    pipes_[address].clear();
  }

  runtime::Task<std::unique_ptr<runtime::Stream>> connect(runtime::Address to,
                                                          runtime::Duration timeout) override {
    ++connects;
    const std::string address = to.to_string();
    runtime::Timer timer(loop_);
    const bool hangs = black_holes.contains(address);
    co_await timer.sleep_for(hangs ? timeout : std::chrono::microseconds(50));
    if (hangs) throw Error(Code::timeout, "no connection to {}", address);
    const auto found = listeners_.find(address);
    if (found == listeners_.end()) throw Error(Code::unavailable, "{} refused", address);
    auto [near, far] = stream_pair(loop_, 1 << 20, pipes_[address]);
    found->second->arrived.push_back(std::move(far));
    found->second->changed.wake_all();
    co_return std::move(near);
  }

  std::unique_ptr<runtime::Listener> listen(const runtime::Address& at) override {
    auto backlog = std::make_shared<Backlog>(loop_);
    listeners_[at.to_string()] = backlog;
    return std::make_unique<MemoryListener>(*this, backlog, at);
  }
  std::unique_ptr<runtime::Stream> adopt(runtime::NativeSocket) override {
    DATOM_CHECK(false);
    return nullptr;
  }

 private:
  struct Backlog {
    explicit Backlog(runtime::Loop& loop) : changed(loop) {}
    std::deque<std::unique_ptr<runtime::Stream>> arrived;
    bool closed = false;
    runtime::Event changed;
  };

  class MemoryListener final : public runtime::Listener {
   public:
    MemoryListener(MemoryStreams& network, std::shared_ptr<Backlog> backlog,
                   runtime::Address address)
        : network_(network), backlog_(std::move(backlog)), address_(std::move(address)) {}
    ~MemoryListener() override { close(); }

    runtime::Task<std::unique_ptr<runtime::Stream>> accept() override {
      const std::shared_ptr<Backlog> backlog = backlog_;
      while (backlog->arrived.empty() && !backlog->closed) co_await backlog->changed.wait();
      if (backlog->closed) throw Error(Code::closed, "listener is closed");
      std::unique_ptr<runtime::Stream> stream = std::move(backlog->arrived.front());
      backlog->arrived.pop_front();
      co_return stream;
    }
    void close() override {
      if (std::exchange(backlog_->closed, true)) return;
      backlog_->arrived.clear();
      backlog_->changed.wake_all();
      const auto found = network_.listeners_.find(address_.to_string());
      if (found != network_.listeners_.end() && found->second == backlog_) {
        network_.listeners_.erase(found);
      }
    }
    runtime::Address address() const override { return address_; }

   private:
    MemoryStreams& network_;
    std::shared_ptr<Backlog> backlog_;
    runtime::Address address_;
  };

  static std::pair<std::unique_ptr<MemoryStream>, std::unique_ptr<MemoryStream>> stream_pair(
      runtime::Loop& loop, std::size_t capacity, std::vector<std::shared_ptr<Pipe>>& pipes) {
    auto there = std::make_shared<Pipe>(loop);
    auto back = std::make_shared<Pipe>(loop);
    there->capacity = back->capacity = capacity;
    pipes.push_back(there);
    pipes.push_back(back);
    return {std::make_unique<MemoryStream>(back, there, "192.0.2.1:1"),
            std::make_unique<MemoryStream>(there, back, "192.0.2.2:2")};
  }

  runtime::Loop& loop_;
  std::map<std::string, std::shared_ptr<Backlog>> listeners_;
  std::map<std::string, std::vector<std::shared_ptr<Pipe>>> pipes_;
};

}  // namespace datom::rpc::test

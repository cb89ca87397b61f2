// The client's side of a connection in memory: what the server reads is fed by hand, what it writes
// is collected. With a VirtualLoop every interleaving can be played.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <deque>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "runtime/network.h"
#include "runtime/wait.h"

namespace datom::nbd::testing {

// Shared by the test and the stream that the server holds. Belongs to one loop.
struct Peer {
  explicit Peer(runtime::Loop& loop) : changed(loop) {}

  // What the client sends.
  void send(ByteView bytes) {
    to_server += as_text(bytes);
    changed.wake_all();
  }
  // The client closes its side.
  void finish() {
    finished = true;
    changed.wake_all();
  }
  // The connection breaks.
  void reset() {
    closed = true;
    changed.wake_all();
  }
  // The server cannot write more than `bytes` from now on.
  void limit_writes(std::size_t bytes) {
    window = bytes;
    changed.wake_all();
  }
  // What the server has written since the last call.
  std::string take() { return std::exchange(from_server, {}); }

  std::string to_server;
  std::string from_server;
  std::size_t window = std::numeric_limits<std::size_t>::max();
  std::size_t writes = 0;  // calls of write()
  bool finished = false;
  bool closed = false;  // by either side
  runtime::Event changed;
};

class PeerStream final : public runtime::Stream {
 public:
  explicit PeerStream(std::shared_ptr<Peer> peer) : peer_(std::move(peer)) {}
  ~PeerStream() override { PeerStream::close(); }

  runtime::Task<std::size_t> read_some(MutableBytes into) override {
    Peer& peer = *peer_;
    while (!peer.closed && !peer.finished && peer.to_server.empty()) co_await peer.changed.wait();
    check_open();
    const std::size_t size = std::min(into.size(), peer.to_server.size());
    std::memcpy(into.data(), peer.to_server.data(), size);
    peer.to_server.erase(0, size);
    co_return size;
  }

  runtime::Task<void> write(std::span<const ByteView> pieces) override {
    Peer& peer = *peer_;
    ++peer.writes;
    for (ByteView piece : pieces) {
      while (!piece.empty()) {
        while (!peer.closed && peer.window == 0) co_await peer.changed.wait();
        check_open();
        const std::size_t size = std::min(piece.size(), peer.window);
        peer.from_server += as_text(piece.first(size));
        peer.window -= size;
        piece = piece.subspan(size);
      }
    }
  }

  void close() override { peer_->reset(); }
  std::string peer() const override { return "test client"; }
  runtime::NativeSocket release() override { return runtime::NativeSocket(); }

 private:
  void check_open() const {
    if (peer_->closed) throw Error(Code::closed, "the connection is closed");
  }

  std::shared_ptr<Peer> peer_;
};

// Hands out the connections that a test makes.
class PeerListener final : public runtime::Listener {
 public:
  PeerListener(runtime::Loop& loop, std::deque<std::shared_ptr<Peer>>& arrivals)
      : arrivals_(arrivals), changed_(loop) {}

  runtime::Task<std::unique_ptr<runtime::Stream>> accept() override {
    while (!closed_ && arrivals_.empty()) co_await changed_.wait();
    if (closed_) throw Error(Code::closed, "the listener is closed");
    auto stream = std::make_unique<PeerStream>(std::move(arrivals_.front()));
    arrivals_.pop_front();
    co_return stream;
  }
  void close() override {
    closed_ = true;
    changed_.wake_all();
  }
  runtime::Address address() const override { return {}; }
  void arrived() { changed_.wake_all(); }

 private:
  std::deque<std::shared_ptr<Peer>>& arrivals_;
  bool closed_ = false;
  runtime::Event changed_;
};

}  // namespace datom::nbd::testing

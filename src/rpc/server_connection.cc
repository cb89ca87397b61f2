#include "rpc/server_connection.h"

#include <exception>
#include <utility>

#include "common/check.h"
#include "rpc/dispatch.h"

namespace datom::rpc {

using runtime::Task;

ServerConnection::ServerConnection(runtime::Loop& loop, std::unique_ptr<runtime::Stream> stream,
                                   const Router& router, const ServerOptions& options, Peer peer)
    : stream_(std::move(stream)),
      router_(router),
      options_(options),
      peer_(std::move(peer)),
      reader_(*stream_, FrameBounds{}),
      queue_(loop),
      writer_(queue_, *stream_, {}, [this] { changed_.wake_all(); }),
      tasks_(loop, [](std::exception_ptr) { DATOM_CHECK(false); }),
      changed_(loop) {}

Task<void> ServerConnection::run(Frame first) {
  queue_.push(std::move(first));
  tasks_.spawn(write());
  try {
    co_await read();
  } catch (const Error& error) {
    if (error.code() != Code::closed) dropped(error);
  } catch (const std::exception& error) {  // no memory for what it wants to send
    dropped(error);
  }
  close();
  co_await tasks_.close();
}

void ServerConnection::dropped(const std::exception& why) const {
  options_.log.warn("rpc.connection_dropped", {{"peer", peer_.address}, {"service", peer_.service}},
                    why.what());
}

void ServerConnection::close() {
  closed_ = true;
  stream_->close();
  writer_.stop();
  changed_.wake_all();
}

Task<void> ServerConnection::write() {
  try {
    co_await writer_.run();
  } catch (const Error&) {  // broken: nobody is left to be told
  }
  close();
}

Task<void> ServerConnection::read() {
  while (!closed_) {
    std::optional<Frame> frame = reader_.try_next();
    if (frame) {
      receive(std::move(*frame));
      while (busy() && !closed_) co_await changed_.wait();
      continue;
    }
    const bool more = co_await reader_.read_more();
    if (!more) co_return;
  }
}

bool ServerConnection::busy() const {
  return in_flight_ >= options_.max_in_flight ||
         in_flight_bytes_ + queue_.bytes() > options_.max_queued_bytes;
}

void ServerConnection::receive(Frame frame) {
  switch (frame.kind) {
    case FrameKind::request:
      tasks_.spawn(serve(std::move(frame)));
      return;
    case FrameKind::message:
      receive_message(std::move(frame));
      return;
    default:
      throw Error(Code::corrupt, "frame of kind {}, expected a request or a message",
                  static_cast<int>(frame.kind));
  }
}

void ServerConnection::receive_message(Frame frame) {
  try {
    hand_over(router_, options_.self, frame.method, peer_, std::move(frame.message));
  } catch (const std::exception& error) {
    options_.log.warn(
        "rpc.message_refused",
        {{"peer", peer_.address}, {"service", peer_.service}, {"method", frame.method}},
        error.what());
  }
}

Task<void> ServerConnection::serve(Frame request) {
  const std::size_t request_bytes = request.wire_bytes();
  ++in_flight_;
  in_flight_bytes_ += request_bytes;
  Answer answered =
      co_await answer(router_, options_.self, request.method, peer_, std::move(request.message));
  --in_flight_;
  in_flight_bytes_ -= request_bytes;
  if (closed_) co_return;
  Frame frame{FrameKind::reply, request.method, request.request_id, {}};
  if (const auto* error = std::get_if<Error>(&answered)) {
    frame.kind = FrameKind::error;
    frame.message.header = encode_error(*error);
  } else {
    frame.message = std::get<Message>(std::move(answered));
  }
  queue_.push(std::move(frame));
  changed_.wake_all();
}

}  // namespace datom::rpc

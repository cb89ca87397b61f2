#include "rpc/client_connection.h"

#include <exception>
#include <utility>

#include "common/check.h"
#include "runtime/task_group.h"

namespace datom::rpc {

using runtime::Task;

ClientConnection::ClientConnection(runtime::Loop& loop, std::unique_ptr<runtime::Stream> stream,
                                   SendQueue& queue, PendingCalls& calls)
    : loop_(loop),
      stream_(std::move(stream)),
      calls_(calls),
      reader_(*stream_, kHelloBounds),
      writer_(queue, *stream_, [this](const Frame& frame) {
        if (frame.kind != FrameKind::request) return true;
        calls_.mark_sent(frame.request_id);
        return calls_.waits(frame.request_id);  // else it gave up before it was sent
      }) {}

Task<void> ClientConnection::greet(Hello hello, runtime::Duration timeout) {
  bool expired = false;
  const runtime::Loop::TimerId timer = loop_.start_timer(loop_.now() + timeout, [this, &expired] {
    expired = true;
    stream_->close();
  });
  std::exception_ptr failure;
  try {
    co_await exchange_hellos(std::move(hello));
  } catch (...) {
    failure = std::current_exception();
  }
  loop_.cancel_timer(timer);
  if (expired) throw Error(Code::timeout, "{} does not answer the hello", stream_->peer());
  if (failure) std::rethrow_exception(failure);
  reader_.set_bounds(FrameBounds{});
}

Task<void> ClientConnection::exchange_hellos(Hello hello) {
  const Frame frame{FrameKind::hello, 0, 0, Message{hello.encode(), {}}};
  const EncodedFrameHeader frame_header = encode_frame_header(frame);
  const ByteView pieces[] = {frame_header, as_bytes(frame.message.header)};
  co_await stream_->write(pieces);
  std::optional<Frame> reply = co_await reader_.next();
  if (!reply) throw Error(Code::closed, "{} closed the connection", stream_->peer());
  if (reply->kind == FrameKind::error) throw decode_error(reply->message.header);
  if (reply->kind != FrameKind::hello_reply) {
    throw Error(Code::corrupt, "{} answers the hello with a frame of kind {}", stream_->peer(),
                static_cast<int>(reply->kind));
  }
  const Hello theirs = Hello::decode(reply->message.header);
  check_hello(theirs, hello.domain, hello.sender);
  if (!hello.meant.empty() && theirs.sender != hello.meant) {
    throw Error(Code::corrupt, "{} says that it is service \"{}\", expected \"{}\"",
                stream_->peer(), theirs.sender, hello.meant);
  }
}

Task<Error> ClientConnection::run() {
  runtime::TaskGroup writing(loop_, [](std::exception_ptr) { DATOM_CHECK(false); });
  writing.spawn(write());
  Error reason(Code::closed, "{} closed the connection", stream_->peer());
  try {
    co_await read();
  } catch (const Error& error) {
    reason = error;
  } catch (const std::exception& error) {  // no memory for what it wants to send
    reason = Error(Code::internal, "{}", error.what());
  }
  close();
  co_await writing.close();
  co_return reason;
}

void ClientConnection::close() {
  closed_ = true;
  writer_.stop();
  stream_->close();
}

Task<void> ClientConnection::write() {
  try {
    co_await writer_.run();
  } catch (const Error&) {  // broken: the reader says so
  }
  close();
}

Task<void> ClientConnection::read() {
  while (!closed_) {
    std::optional<Frame> frame = reader_.try_next();
    if (frame) {
      receive(std::move(*frame));
      continue;
    }
    const bool more = co_await reader_.read_more();
    if (!more) co_return;
  }
}

void ClientConnection::receive(Frame frame) {
  switch (frame.kind) {
    case FrameKind::reply:
      calls_.resolve(frame.request_id, std::move(frame.message));
      return;
    case FrameKind::error:
      calls_.reject(frame.request_id, decode_error(frame.message.header));
      return;
    default:
      throw Error(Code::corrupt, "{} sent a frame of kind {}, expected a reply", stream_->peer(),
                  static_cast<int>(frame.kind));
  }
}

}  // namespace datom::rpc

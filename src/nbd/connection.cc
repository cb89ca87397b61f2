#include "nbd/connection.h"

#include <exception>
#include <memory>
#include <utility>

namespace datom::nbd {

using runtime::Stream;
using runtime::Task;

namespace {

// Closes the stream at the deadline of the handshake. Lives within one stay on one loop.
class Timeout {
 public:
  Timeout(runtime::Loop& loop, runtime::Time deadline, Stream& stream) : loop_(loop) {
    timer_ = loop.start_timer(deadline, [&stream] { stream.close(); });
  }
  ~Timeout() { loop_.cancel_timer(timer_); }
  Timeout(const Timeout&) = delete;
  Timeout& operator=(const Timeout&) = delete;

 private:
  runtime::Loop& loop_;
  runtime::Loop::TimerId timer_;
};

}  // namespace

// What stop() reaches while the connection serves an export. Belongs to the loop of the export; the
// message that stops it may arrive when the connection has left.
struct Connection::Attachment {
  runtime::Loop& loop;
  bool stopping = false;
  Stream* stream = nullptr;
  Transmission* transmission = nullptr;

  void stop() {
    stopping = true;
    if (transmission != nullptr) {
      transmission->stop();
    } else if (stream != nullptr) {
      stream->close();
    }
  }
};

Connection::Connection(ServerContext& context, std::unique_ptr<Stream> stream)
    : context_(context),
      peer_(stream->peer()),
      deadline_(context.loop.now() + context.options.handshake_timeout),
      handshake_(context.exports),
      here_(&context.loop),
      stream_(std::move(stream)) {}

Task<void> Connection::run() {
  context_.log.debug("nbd.connection_opened", {{"peer", peer_}});
  try {
    co_await converse();
  } catch (const Error& error) {
    log_failure(error);
  } catch (const std::exception& error) {
    context_.log.error("nbd.connection_failed", {{"peer", peer_}}, error.what());
  }
  stream_.reset();
  if (here_ != &context_.loop) co_await move_to({&context_.loop, &context_.network});
  context_.log.debug("nbd.connection_closed", {{"peer", peer_}});
}

void Connection::log_failure(const Error& error) const {
  switch (error.code()) {
    case Code::closed:
      context_.log.debug("nbd.client_vanished", {{"peer", peer_}}, error.what());
      break;
    case Code::corrupt:
    case Code::invalid_argument:
      context_.log.warn("nbd.protocol_violation", {{"peer", peer_}}, error.what());
      break;
    default:
      context_.log.info("nbd.refused", {{"peer", peer_}}, error.what());
  }
}

Task<void> Connection::converse() {
  {
    const Timeout timeout(*here_, deadline_, *stream_);
    co_await handshake_.greet(*stream_);
  }
  while (true) {
    std::optional<Choice> choice = co_await haggle();
    if (!choice || stopping_) co_return;
    const bool done = co_await attach(std::move(*choice));
    if (done) co_return;
  }
}

Task<std::optional<Choice>> Connection::haggle() {
  const Timeout timeout(*here_, deadline_, *stream_);
  std::optional<Choice> choice = co_await handshake_.haggle(*stream_);
  co_return choice;
}

Task<bool> Connection::attach(Choice choice) {
  refusal_.reset();
  co_await visit_export(choice);
  if (!refusal_ || stopping_) co_return true;

  const Timeout timeout(*here_, deadline_, *stream_);
  const bool told = co_await handshake_.refuse(*stream_, choice, *refusal_);
  if (!told) context_.log.info("nbd.refused", {{"peer", peer_}}, refusal_->what());
  co_return !told;
}

// To the loop of the export and back.
Task<void> Connection::visit_export(Choice choice) {
  ExportPlace place;
  try {
    place = context_.exports.place(choice.request.export_name);
  } catch (const Error& error) {
    refusal_ = error;
    co_return;
  }
  attachment_ = std::make_shared<Attachment>(Attachment{*place.loop});
  std::shared_ptr<Attachment> attachment = attachment_;
  if (place.loop != here_) co_await move_to(place);
  co_await open_and_serve(std::move(choice), std::move(attachment));
  if (here_ != &context_.loop) co_await move_to({&context_.loop, &context_.network});
  attachment_.reset();
}

Task<void> Connection::open_and_serve(Choice choice, std::shared_ptr<Attachment> attachment) {
  std::unique_ptr<Export> volume;
  try {
    volume = co_await context_.exports.open(choice.request.export_name);
  } catch (const Error& error) {
    refusal_ = error;
  }
  if (!volume) co_return;
  bool closed = false;
  std::exception_ptr failure;
  try {
    if (!attachment->stopping) closed = co_await transmit(std::move(choice), *volume, attachment);
  } catch (...) {
    failure = std::current_exception();
  }
  attachment->stream = nullptr;
  if (!closed) co_await volume->close();
  if (failure) std::rethrow_exception(failure);
}

Task<bool> Connection::transmit(Choice choice, Export& volume,
                                std::shared_ptr<Attachment> attachment) {
  attachment->stream = stream_.get();
  Session session;
  {
    const Timeout timeout(*here_, deadline_, *stream_);
    session = co_await handshake_.accept(*stream_, std::move(choice), volume.info());
  }
  if (attachment->stopping) co_return false;
  Transmission transmission(*here_, *stream_, volume, session, context_.options, context_.log);
  attachment->transmission = &transmission;
  co_await transmission.run();
  attachment->transmission = nullptr;
  co_return true;
}

// The stream, if there still is one, comes along.
Task<void> Connection::move_to(ExportPlace place) {
  const bool connected = stream_ != nullptr;
  runtime::NativeSocket socket;
  if (connected) socket = stream_->release();
  stream_.reset();
  co_await runtime::switch_to(*place.loop);
  here_ = place.loop;
  if (connected) stream_ = place.network->adopt(std::move(socket));
}

void Connection::stop() {
  stopping_ = true;
  if (attachment_) {
    attachment_->loop.post([attachment = attachment_] { attachment->stop(); });
  } else if (stream_) {
    stream_->close();
  }
}

}  // namespace datom::nbd

#include "nbd/transmission.h"

#include <exception>
#include <new>
#include <utility>

#include "common/error.h"

namespace datom::nbd {
namespace {

constexpr std::size_t kInboxBytes = 256 << 10;
// The payload of a refused write is read and dropped up to this size; above it, hanging up is
// cheaper for everyone.
constexpr std::uint32_t kMaxDroppedBytes = 64 << 20;
constexpr std::size_t kMaxExtents = 2048;  // of one block status reply

runtime::Task<void> nothing() {
  co_return;
}

}  // namespace

Transmission::Transmission(runtime::Loop& loop, runtime::Stream& stream, Export& volume,
                           Session session, const ServerOptions& options, telemetry::Log log)
    : loop_(loop),
      stream_(stream),
      export_(volume),
      session_(session),
      options_(options),
      log_(std::move(log)),
      inbox_(stream, kInboxBytes),
      room_(loop),
      replies_(loop),
      progress_(loop),
      tasks_(loop, [this](std::exception_ptr error) {
        try {
          std::rethrow_exception(error);
        } catch (const std::exception& failure) {
          log_.error("nbd.connection_failed", {{"peer", stream_.peer()}}, failure.what());
        }
        hang_up();
      }) {}

runtime::Task<void> Transmission::run() {
  tasks_.spawn(read_requests());
  tasks_.spawn(write_replies());
  while (!ending_) co_await progress_.wait();

  const auto timer = loop_.start_timer(loop_.now() + options_.stop_timeout, [this] { hang_up(); });
  while (!gone_ && in_flight_ > receiving_) co_await progress_.wait();
  loop_.cancel_timer(timer);

  end();
  finished_ = true;
  replies_.wake_all();
  stream_.close();
  co_await export_.close();
  co_await tasks_.close();
}

void Transmission::stop() {
  end();
}

void Transmission::end() {
  ending_ = true;
  room_.wake_all();
  progress_.wake_all();
}

void Transmission::hang_up() {
  gone_ = true;
  end();
}

// --- requests

runtime::Task<void> Transmission::read_requests() {
  try {
    co_await take_requests();
  } catch (const Error& error) {
    if (error.code() == Code::closed) {
      if (!ending_) log_.debug("nbd.client_vanished", {{"peer", stream_.peer()}}, error.what());
      hang_up();
    } else {
      log_.warn("nbd.protocol_violation", {{"peer", stream_.peer()}}, error.what());
      end();
    }
  }
}

// Waits only for what is not there yet: all requests that one read brought are begun in one go.
runtime::Task<void> Transmission::take_requests() {
  for (;;) {
    bool there = true;
    if (inbox_.peek().size() < kRequestBytes) there = co_await inbox_.fill(kRequestBytes);
    if (ending_) co_return;
    if (!there) {
      hang_up();
      co_return;
    }
    const Request request = parse_request(inbox_.peek().first<kRequestBytes>());
    inbox_.consume(kRequestBytes);
    if (request.command == Command::disconnect) {
      end();
      co_return;
    }
    std::optional<Refusal> refusal = refuse(request, session_);
    if (refusal) {
      co_await reject(request, std::move(*refusal));
      if (ending_) co_return;
      continue;
    }

    const std::size_t payload = payload_size(request);
    const std::size_t bytes = request.command == Command::read ? request.length : payload;
    bool room = fits(bytes);
    if (!room) room = co_await wait_for_room(bytes);
    if (!room) co_return;
    admit(bytes);
    Buffer data;
    if (payload > 0) {
      data = Buffer::allocate(payload);
      if (!inbox_.try_read(data.mutable_view())) {
        receiving_ = 1;
        co_await inbox_.read(data.mutable_view());
        receiving_ = 0;
      }
      if (ending_) {
        release(1, bytes);
        co_return;
      }
    }
    tasks_.spawn(serve(request, std::move(data), bytes));
    if (ending_) co_return;
  }
}

runtime::Task<void> Transmission::reject(Request request, Refusal refusal) {
  if (payload_size(request) > kMaxDroppedBytes) {
    throw Error(Code::corrupt, "a refused write brings {} bytes: {}", payload_size(request),
                refusal.message);
  }
  co_await inbox_.skip(payload_size(request));
  const bool room = co_await wait_for_room(0);
  if (!room) co_return;
  admit(0);
  push({failure(request, refusal.error, refusal.message), 0});
}

bool Transmission::fits(std::size_t bytes) const {
  return in_flight_ == 0 || (in_flight_ < options_.max_in_flight_requests &&
                             in_flight_bytes_ + bytes <= options_.max_in_flight_bytes);
}

runtime::Task<bool> Transmission::wait_for_room(std::size_t bytes) {
  while (!ending_ && !fits(bytes)) co_await room_.wait();
  co_return !ending_;
}

void Transmission::admit(std::size_t bytes) {
  ++in_flight_;
  in_flight_bytes_ += bytes;
}

void Transmission::release(std::size_t requests, std::size_t bytes) {
  in_flight_ -= requests;
  in_flight_bytes_ -= bytes;
  room_.wake_all();
  if (ending_) progress_.wake_all();
}

runtime::Task<void> Transmission::serve(Request request, Buffer data, std::size_t bytes) {
  Reply reply;
  try {
    if (request.command == Command::read && request.length > 0) {
      Buffer found = co_await export_.read(request.offset, request.length);
      reply = data_of(request, std::move(found));
    } else if (request.command == Command::block_status) {
      reply = co_await block_status(request);
    } else {
      co_await change(request, std::move(data));
      reply = success(request);
    }
  } catch (const Error& error) {
    reply = failure(request, errno_of(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    reply = failure(request, Errno::enomem, "out of memory");
  } catch (const std::exception& error) {
    log_.error("nbd.request_failed", {{"peer", stream_.peer()}}, error.what());
    reply = failure(request, Errno::eio, error.what());
  }
  push({std::move(reply), bytes});
}

// Every write of an Export is durable before it returns, so kFua asks for nothing more. Changes of
// nothing have been made.
runtime::Task<void> Transmission::change(Request request, Buffer data) {
  if (request.command == Command::flush) return export_.flush();
  if (request.length == 0) return nothing();
  switch (request.command) {
    case Command::write:
      return export_.write(request.offset, std::move(data));
    case Command::trim:
      return export_.trim(request.offset, request.length);
    case Command::write_zeroes:
      return export_.write_zeroes(request.offset, request.length, (request.flags & kNoHole) != 0);
    default:
      return nothing();
  }
}

Reply Transmission::data_of(const Request& request, Buffer data) const {
  if (data.size() != request.length) {
    throw Error(Code::internal, "a read of {} bytes at {} gave {}", request.length, request.offset,
                data.size());
  }
  if (session_.structured) return data_reply(request.cookie, request.offset, std::move(data));
  return simple_reply(request.cookie, Errno::none, std::move(data));
}

runtime::Task<Reply> Transmission::block_status(Request request) {
  const std::size_t max_extents = (request.flags & kRequestOne) != 0 ? 1 : kMaxExtents;
  const std::vector<StatusExtent> extents =
      co_await export_.block_status(request.offset, request.length, max_extents);
  co_return block_status_reply(request.cookie, request.length, max_extents, extents);
}

Reply Transmission::success(const Request& request) const {
  // With structured replies a read must not be answered by a simple one.
  if (session_.structured && request.command == Command::read) return empty_reply(request.cookie);
  return simple_reply(request.cookie, Errno::none);
}

Reply Transmission::failure(const Request& request, Errno error, std::string_view message) const {
  if (session_.structured) return error_reply(request.cookie, error, message);
  return simple_reply(request.cookie, error);
}

// --- replies

void Transmission::push(Pending pending) {
  if (finished_) {
    release(1, pending.bytes);
    return;
  }
  outbox_.push_back(std::move(pending));
  replies_.wake_all();
}

// Woken through the loop's queue, so that the replies of one turn leave together.
runtime::Task<void> Transmission::write_replies() {
  while (true) {
    while (outbox_.empty() && !finished_) co_await replies_.wait();
    if (outbox_.empty()) co_return;
    const std::vector<Pending> batch = std::exchange(outbox_, {});
    bool sent = false;
    if (!gone_) sent = co_await write_batch(batch);
    std::size_t bytes = 0;
    for (const Pending& pending : batch) bytes += pending.bytes;
    release(batch.size(), bytes);
    if (!sent) hang_up();
  }
}

runtime::Task<bool> Transmission::write_batch(std::span<const Pending> batch) {
  pieces_.clear();
  for (const Pending& pending : batch) {
    pieces_.push_back(pending.reply.head_view());
    if (!pending.reply.body.empty()) pieces_.push_back(pending.reply.body.view());
  }
  try {
    co_await stream_.write(pieces_);
  } catch (const Error&) {
    co_return false;  // read_requests() learns it too, and says so
  }
  co_return true;
}

}  // namespace datom::nbd

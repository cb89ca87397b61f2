#include "rpc/server.h"

#include <exception>
#include <optional>
#include <set>
#include <utility>

#include "common/check.h"
#include "rpc/first_bytes.h"
#include "rpc/hello.h"
#include "rpc/server_connection.h"
#include "runtime/task_group.h"

namespace datom::rpc {
namespace {

using runtime::Loop;
using runtime::Stream;
using runtime::Task;

// In a set for as long as it lives.
template <typename Item>
class Registered {
 public:
  Registered(std::set<Item*>& items, Item* item) : items_(items), item_(item) {
    items_.insert(item);
  }
  ~Registered() { items_.erase(item_); }
  Registered(const Registered&) = delete;
  Registered& operator=(const Registered&) = delete;

 private:
  std::set<Item*>& items_;
  Item* item_;
};

// Closes a stream whose peer takes too long to say who it is.
class HelloDeadline {
 public:
  HelloDeadline(Loop& loop, Stream& stream, runtime::Duration timeout)
      : loop_(loop), timer_(loop.start_timer(loop.now() + timeout, [this, &stream] {
          expired_ = true;
          stream.close();
        })) {}
  ~HelloDeadline() { loop_.cancel_timer(timer_); }
  HelloDeadline(const HelloDeadline&) = delete;
  HelloDeadline& operator=(const HelloDeadline&) = delete;

  bool expired() const { return expired_; }

 private:
  Loop& loop_;
  bool expired_ = false;
  Loop::TimerId timer_;
};

// An HTTP connection in other hands: known to the server until it is destroyed.
class HttpStream final : public Stream {
 public:
  HttpStream(std::unique_ptr<Stream> stream, std::set<Stream*>& streams)
      : stream_(std::move(stream)), registered_(streams, stream_.get()) {}

  Task<std::size_t> read_some(MutableBytes into) override { return stream_->read_some(into); }
  Task<void> write(std::span<const ByteView> pieces) override { return stream_->write(pieces); }
  void close() override { stream_->close(); }
  std::string peer() const override { return stream_->peer(); }
  runtime::NativeSocket release() override { return stream_->release(); }

 private:
  std::unique_ptr<Stream> stream_;
  Registered<Stream> registered_;
};

// What a new connection turned out to be.
struct Greeting {
  Speech speech = Speech::unknown;
  std::string read;  // the first bytes
  Hello hello;       // of an RPC connection
};

// What a stranger has said so far, at least kFirstBytes.
Task<std::string> read_first_bytes(Stream& stream) {
  std::string read(kBlockSize, '\0');
  std::size_t count = 0;
  while (count < kFirstBytes) {
    const MutableBytes space = std::as_writable_bytes(std::span(read)).subspan(count);
    const std::size_t more = co_await stream.read_some(space);
    if (more == 0 && count == 0) throw Error(Code::closed, "closed without a word");
    if (more == 0) throw Error(Code::corrupt, "closed after {} bytes", count);
    count += more;
  }
  read.resize(count);
  co_return read;
}

Task<Hello> read_hello(FrameReader& reader, const ServerOptions& options) {
  std::optional<Frame> frame = co_await reader.next();
  if (!frame) throw Error(Code::closed, "closed before its hello");
  if (frame->kind != FrameKind::hello) {
    throw Error(Code::corrupt, "first frame of kind {}, expected a hello",
                static_cast<int>(frame->kind));
  }
  if (!reader.is_drained()) throw Error(Code::corrupt, "more bytes behind the hello");
  Hello hello = Hello::decode(frame->message.header);
  check_hello(hello, options.domain, options.self);
  co_return hello;
}

Task<void> send_refusal(Loop& loop, Stream& stream, const Error& error) {
  SendQueue queue(loop);
  queue.push(Frame{FrameKind::error, 0, 0, Message{encode_error(error), {}}});
  FrameWriter writer(queue, stream);
  writer.finish();
  co_await writer.run();
}

}  // namespace

struct Server::Impl {
  // What belongs to one serving loop.
  struct Shard {
    ServingLoop serving;
    std::set<ServerConnection*> connections;
    bool stopping = false;
  };

  Impl(std::vector<ServingLoop> loops, std::unique_ptr<runtime::Listener> listener_,
       ServerOptions options_, OnHttp on_http_)
      : loop(*loops.front().loop),
        listener(std::move(listener_)),
        options(std::move(options_)),
        on_http(std::move(on_http_)),
        tasks(loop, [](std::exception_ptr) { DATOM_CHECK(false); }) {
    for (const ServingLoop& serving : loops) shards.push_back(Shard{serving, {}, false});
  }

  Task<void> accept();
  void take(std::unique_ptr<Stream> stream);
  Task<void> receive(std::unique_ptr<Stream> stream);
  Task<Greeting> greet(Stream& stream);
  Task<void> welcome(std::unique_ptr<Stream> stream);
  Task<void> serve(Shard& shard, std::unique_ptr<Stream> stream, Hello hello);
  Task<void> serve_elsewhere(Shard& shard, runtime::NativeSocket socket, Hello hello);
  Task<void> stop();

  Loop& loop;
  std::unique_ptr<runtime::Listener> listener;
  const ServerOptions options;
  const OnHttp on_http;
  std::vector<Shard> shards;    // each touched on its own loop only
  std::set<Stream*> streams;    // not greeted yet, or HTTP: they end when they are closed
  std::size_t connections = 0;  // of any kind
  bool full = false;
  bool stopping = false;
  runtime::TaskGroup tasks;
};

Task<void> Server::Impl::accept() {
  try {
    for (;;) {
      std::unique_ptr<Stream> stream = co_await listener->accept();
      take(std::move(stream));
    }
  } catch (const Error& error) {
    if (error.code() == Code::closed) co_return;
    options.log.error("rpc.accept_failed", {{"address", listener->address().to_string()}},
                      error.what());
  }
}

void Server::Impl::take(std::unique_ptr<Stream> stream) {
  if (stopping) return;
  if (connections < options.max_connections) {
    full = false;
    tasks.spawn(receive(std::move(stream)));
  } else if (!std::exchange(full, true)) {
    options.log.warn("rpc.too_many_connections",
                     {{"peer", stream->peer()}, {"limit", options.max_connections}},
                     "closing new connections until others end");
  }
}

Task<void> Server::Impl::receive(std::unique_ptr<Stream> stream) {
  ++connections;
  const std::string peer = stream->peer();
  try {
    co_await welcome(std::move(stream));
  } catch (const Error& error) {
    // Who hangs up, even at once, does nothing wrong.
    if (error.code() != Code::closed) {
      options.log.warn("rpc.connection_refused", {{"peer", peer}}, error.what());
    }
  } catch (const std::exception& error) {
    options.log.error("rpc.connection_failed", {{"peer", peer}}, error.what());
  }
  --connections;
}

// Reads first bytes and, of an RPC connection, the hello. Who is refused hears why.
Task<Greeting> Server::Impl::greet(Stream& stream) {
  const Registered<Stream> registered(streams, &stream);
  HelloDeadline deadline(loop, stream, options.hello_timeout);
  Greeting greeting;
  std::optional<Error> refusal;
  try {
    greeting.read = co_await read_first_bytes(stream);
    greeting.speech = speech_of(greeting.read);
    if (greeting.speech == Speech::rpc) {
      FrameReader reader(stream, kHelloBounds, as_bytes(greeting.read));
      greeting.hello = co_await read_hello(reader, options);
    }
  } catch (const Error& error) {
    refusal = error;
  }
  if (deadline.expired()) {
    throw Error(
        Code::timeout, "said too little in {} ms",
        std::chrono::duration_cast<std::chrono::milliseconds>(options.hello_timeout).count());
  }
  if (!refusal) co_return greeting;
  const bool listens = greeting.speech == Speech::rpc && refusal->code() != Code::closed;
  if (listens) co_await send_refusal(loop, stream, *refusal);
  throw *refusal;
}

Task<void> Server::Impl::welcome(std::unique_ptr<Stream> stream) {
  Greeting greeting = co_await greet(*stream);
  if (stopping) co_return;
  if (greeting.speech == Speech::unknown) {
    throw Error(Code::corrupt, "neither a datom frame nor an HTTP request");
  }
  if (greeting.speech == Speech::http) {
    if (!on_http) throw Error(Code::unsupported, "HTTP is not served here");
    auto handed_on = std::make_unique<HttpStream>(std::move(stream), streams);
    co_await on_http(std::move(handed_on), std::move(greeting.read));
    co_return;
  }
  Shard& shard = shards[greeting.hello.shard % shards.size()];
  if (shard.serving.loop == &loop) {
    co_await serve(shard, std::move(stream), std::move(greeting.hello));
  } else {
    runtime::NativeSocket socket = stream->release();
    stream.reset();
    co_await serve_elsewhere(shard, std::move(socket), std::move(greeting.hello));
  }
}

// On the shard's loop.
Task<void> Server::Impl::serve(Shard& shard, std::unique_ptr<Stream> stream, Hello hello) {
  if (shard.stopping) co_return;
  Peer peer{hello.sender, stream->peer()};
  ServerConnection connection(*shard.serving.loop, std::move(stream), *shard.serving.router,
                              options, std::move(peer));
  const Registered<ServerConnection> registered(shard.connections, &connection);
  Hello mine;
  mine.domain = options.domain;
  mine.sender = options.self;
  mine.meant = hello.sender;
  Frame reply{FrameKind::hello_reply, 0, 0, Message{mine.encode(), {}}};
  co_await connection.run(std::move(reply));
}

// Begins and ends on the listener's loop.
Task<void> Server::Impl::serve_elsewhere(Shard& shard, runtime::NativeSocket socket, Hello hello) {
  co_await switch_to(*shard.serving.loop);
  std::exception_ptr failure;
  try {
    std::unique_ptr<Stream> stream = shard.serving.network->adopt(std::move(socket));
    co_await serve(shard, std::move(stream), std::move(hello));
  } catch (...) {
    failure = std::current_exception();
  }
  co_await switch_to(loop);
  if (failure) std::rethrow_exception(failure);
}

Task<void> Server::Impl::stop() {
  stopping = true;
  listener->close();
  for (Stream* stream : streams) stream->close();
  for (Shard& shard : shards) {
    co_await switch_to(*shard.serving.loop);
    shard.stopping = true;
    for (ServerConnection* connection : shard.connections) connection->close();
  }
  co_await switch_to(loop);
  co_await tasks.close();
}

Server::Server(std::vector<ServingLoop> loops, std::unique_ptr<runtime::Listener> listener,
               ServerOptions options, OnHttp on_http)
    : impl_(std::make_unique<Impl>(std::move(loops), std::move(listener), std::move(options),
                                   std::move(on_http))) {}

Server::~Server() = default;

void Server::start() {
  impl_->tasks.spawn(impl_->accept());
}

Task<void> Server::stop() {
  return impl_->stop();
}

}  // namespace datom::rpc

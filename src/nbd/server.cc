#include "nbd/server.h"

#include <exception>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/error.h"
#include "nbd/connection.h"
#include "runtime/task_group.h"

namespace datom::nbd {

using runtime::Listener;
using runtime::Stream;
using runtime::Task;

struct Server::Impl {
  Impl(runtime::Loop& loop, runtime::Network& network, Exports& exports, ServerOptions options,
       telemetry::Log log)
      : context{loop, network, exports, options, std::move(log)},
        tasks(loop, [this](std::exception_ptr error) {
          try {
            std::rethrow_exception(error);
          } catch (const std::exception& failure) {
            context.log.error("nbd.task_failed", {}, failure.what());
          }
        }) {}

  Task<void> accept(Listener& listener);
  void welcome(std::unique_ptr<Stream> stream);
  Task<void> serve(std::unique_ptr<Connection> connection);

  ServerContext context;
  std::vector<std::unique_ptr<Listener>> listeners;
  std::set<Connection*> connections;
  bool full = false;  // the last client was turned away
  bool stopping = false;
  runtime::TaskGroup tasks;
};

Task<void> Server::Impl::accept(Listener& listener) {
  try {
    while (!stopping) {
      std::unique_ptr<Stream> stream = co_await listener.accept();
      if (!stopping) welcome(std::move(stream));
    }
  } catch (const Error& error) {
    if (stopping && error.code() == Code::closed) co_return;
    context.log.error("nbd.accept_failed", {{"address", listener.address().to_string()}},
                      error.what());
  }
}

void Server::Impl::welcome(std::unique_ptr<Stream> stream) {
  if (connections.size() >= context.options.max_connections) {
    if (!std::exchange(full, true)) {
      context.log.warn("nbd.too_many_connections",
                       {{"peer", stream->peer()}, {"limit", context.options.max_connections}},
                       "turned away");
    }
    return;
  }
  full = false;
  tasks.spawn(serve(std::make_unique<Connection>(context, std::move(stream))));
}

Task<void> Server::Impl::serve(std::unique_ptr<Connection> connection) {
  connections.insert(connection.get());
  co_await connection->run();
  connections.erase(connection.get());
}

Server::Server(runtime::Loop& loop, runtime::Network& network, Exports& exports,
               ServerOptions options, telemetry::Log log)
    : impl_(std::make_unique<Impl>(loop, network, exports, options, std::move(log))) {}

Server::~Server() = default;

void Server::serve(std::unique_ptr<Listener> listener) {
  DATOM_CHECK(!impl_->stopping);
  Listener& served = *listener;
  impl_->listeners.push_back(std::move(listener));
  impl_->tasks.spawn(impl_->accept(served));
}

Task<void> Server::stop() {
  impl_->stopping = true;
  for (const auto& listener : impl_->listeners) listener->close();
  for (Connection* connection : impl_->connections) connection->stop();
  co_await impl_->tasks.close();
}

}  // namespace datom::nbd

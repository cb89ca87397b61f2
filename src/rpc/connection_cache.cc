#include "rpc/connection_cache.h"

#include <map>
#include <utility>

#include "common/check.h"
#include "protocol/records.h"
#include "rpc/peer_watchers.h"
#include "rpc/service_link.h"
#include "runtime/task_group.h"

namespace datom::rpc {
namespace {

using runtime::Task;

constexpr std::size_t kMaxServices = 4096;

}  // namespace

struct ConnectionCache::Impl {
  Impl(runtime::Loop& loop_, runtime::Network& network, coordination::Client& coordination,
       ConnectionCacheOptions options_)
      : loop(loop_),
        options(std::move(options_)),
        watchers(loop),
        tasks(loop, [](std::exception_ptr) { DATOM_CHECK(false); }),
        context{loop, network, coordination, options, tasks, watchers} {
    DATOM_CHECK(options.domain.empty() || protocol::valid_name(options.domain));
    DATOM_CHECK(options.self.empty() || protocol::valid_name(options.self));
    session = coordination.watch_session([this](coordination::SessionState state) {
      if (state == coordination::SessionState::connected) coordination_is_back();
    });
  }

  ServiceLink& link(const std::string& service);
  void coordination_is_back();

  runtime::Loop& loop;
  const ConnectionCacheOptions options;
  PeerWatchers watchers;
  runtime::TaskGroup tasks;
  const LinkContext context;
  std::map<std::string, std::unique_ptr<ServiceLink>> links;
  coordination::WatchHandle session;
  bool stopped = false;
};

ServiceLink& ConnectionCache::Impl::link(const std::string& service) {
  const auto found = links.find(service);
  if (found != links.end()) return *found->second;
  if (stopped) throw Error(Code::closed, "connections are closed");
  if (links.size() >= kMaxServices) {
    throw Error(Code::too_large, "{} services were called, no more can be", links.size());
  }
  auto made = std::make_unique<ServiceLink>(context, service);
  return *links.emplace(service, std::move(made)).first->second;
}

// What changed while it was away may have been missed where a lookup failed meanwhile.
void ConnectionCache::Impl::coordination_is_back() {
  for (const auto& [service, link] : links) link->coordination_is_back();
}

ConnectionCache::ConnectionCache(runtime::Loop& loop, runtime::Network& network,
                                 coordination::Client& coordination, ConnectionCacheOptions options)
    : impl_(std::make_unique<Impl>(loop, network, coordination, std::move(options))) {}

ConnectionCache::~ConnectionCache() = default;

Task<Message> ConnectionCache::call(std::string service, Method method, Message request,
                                    runtime::Duration timeout) {
  ServiceLink& link = impl_->link(service);
  Message reply = co_await link.call(method, std::move(request), timeout);
  co_return reply;
}

void ConnectionCache::send(const std::string& service, Method method, Message message) {
  if (impl_->stopped) return;
  impl_->link(service).send(method, std::move(message));
}

std::unique_ptr<Caller::Subscription> ConnectionCache::watch_peers(OnPeer on_up, OnPeer on_down) {
  return impl_->watchers.add(std::move(on_up), std::move(on_down));
}

Task<void> ConnectionCache::stop() {
  impl_->stopped = true;
  impl_->session.reset();
  for (const auto& [service, link] : impl_->links) link->stop();
  co_await impl_->tasks.close();
  // The callers that were told go on before the cache may be gone.
  co_await switch_to(impl_->loop);
}

}  // namespace datom::rpc

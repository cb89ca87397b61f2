#include "cli/connection.h"

#include <netdb.h>

#include <array>
#include <optional>

#include "cli/node_root.h"
#include "common/error.h"
#include "coordination/memory/memory.h"
#include "coordination/zookeeper/zookeeper.h"
#include "protocol/records.h"
#include "rpc/connection_cache.h"
#include "runtime/event_loop.h"
#include "runtime/socket_network.h"
#include "service/node_file.h"

namespace datom::cli {
namespace {

using service::CoordinationUrl;

constexpr auto kConnectTimeout = std::chrono::seconds(10);
constexpr std::string_view kDefaultDomain = "default";

CoordinationUrl find_coordination(const GlobalOptions& options,
                                  const std::optional<service::NodeFile>& node) {
  if (!options.config_service.empty()) {
    return CoordinationUrl::parse("config://" + options.config_service);
  }
  if (!options.coordination.empty()) return CoordinationUrl::parse(options.coordination);
  if (node) return node->coordination;
  throw Error(Code::invalid_argument,
              "nothing says where the domain is: {} is missing; give --coordination "
              "zk://HOST:PORT, --config_service HOST:PORT, or the --root of a node",
              service::node_file_path(options.root));
}

}  // namespace

Target find_target(const GlobalOptions& options) {
  const std::optional<service::NodeFile> node = find_node_file(absolute_root(options));
  Target target{find_coordination(options, node), options.domain_name};
  if (target.domain.empty()) target.domain = node ? node->domain : kDefaultDomain;
  if (!protocol::valid_name(target.domain)) {
    throw Error(Code::invalid_argument,
                "domain '{}' is no name; expected 1 to 63 of a-z, 0-9, '.', '_', '-'",
                target.domain);
  }
  return target;
}

std::string resolve(const std::string& host_and_port) {
  const std::size_t colon = host_and_port.rfind(':');
  std::string host = host_and_port.substr(0, colon);
  const std::string port = host_and_port.substr(colon + 1);
  if (host.starts_with('[')) return host_and_port;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  if (error != 0) {
    throw Error(Code::unavailable, "cannot find the address of '{}': {}", host,
                gai_strerror(error));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  std::array<char, NI_MAXHOST> text{};
  getnameinfo(found->ai_addr, found->ai_addrlen, text.data(), text.size(), nullptr, 0,
              NI_NUMERICHOST);
  const std::string address = text.data();
  const bool ipv6 = address.find(':') != std::string::npos;
  return ipv6 ? "[" + address + "]:" + port : address + ":" + port;
}

struct Connection::Impl {
  explicit Impl(Target where) : target(std::move(where)) {}

  runtime::Task<void> connect();
  // "@HOST:PORT" of the active config service.
  runtime::Task<std::string> find_config_service();
  runtime::Task<void> call(std::uint16_t method, std::string request, runtime::Duration timeout,
                           std::string* answer);
  runtime::Task<void> look_up_active(bool* up);

  Target target;
  runtime::EventLoop loop;
  std::unique_ptr<runtime::Network> network = runtime::make_network(loop);
  std::shared_ptr<coordination::ZooKeeperSession> session;
  // Stands in where only a config service is known: the connection cache looks nothing up there.
  coordination::MemoryTree nothing;
  std::unique_ptr<coordination::Client> client;
  std::unique_ptr<rpc::ConnectionCache> cache;
};

runtime::Task<void> Connection::Impl::connect() {
  if (client) co_return;
  if (target.coordination.kind == CoordinationUrl::Kind::config_service) {
    client = nothing.open_session(loop);
  } else {
    session = coordination::ZooKeeperSession::open({.servers = target.coordination.target});
    co_await session->wait_connected(loop, kConnectTimeout);
    client = session->make_client(loop);
  }
  rpc::ConnectionCacheOptions options;
  options.domain = target.domain;
  cache = std::make_unique<rpc::ConnectionCache>(loop, *network, *client, options);
}

runtime::Task<std::string> Connection::Impl::find_config_service() {
  if (target.coordination.kind == CoordinationUrl::Kind::config_service) {
    co_return "@" + resolve(target.coordination.target);
  }
  const std::optional<coordination::Node> active =
      co_await client->get(std::string(protocol::paths::kActiveConfigService));
  if (active) co_return "@" + protocol::ActiveRecord::from_json(active->data).address;
  const std::optional<coordination::Node> instance =
      co_await client->get(std::string(protocol::paths::kConfigService));
  if (instance) {
    throw Error(Code::unavailable,
                "no config service is up in {}; start one on its node: datom startservice NAME",
                target.coordination.to_string());
  }
  throw Error(Code::unavailable, "{} holds no datom instance yet; make one: datom init",
              target.coordination.to_string());
}

runtime::Task<void> Connection::Impl::call(std::uint16_t method, std::string request,
                                           runtime::Duration timeout, std::string* answer) {
  co_await connect();
  const std::string address = co_await find_config_service();
  rpc::Message message;
  message.header = std::move(request);
  rpc::Message reply = co_await cache->call(address, method, std::move(message), timeout);
  *answer = std::move(reply.header);
}

runtime::Task<void> Connection::Impl::look_up_active(bool* up) {
  co_await connect();
  if (session == nullptr) co_return;  // there is nowhere to look it up: a request will tell
  const std::optional<coordination::Node> active =
      co_await client->get(std::string(protocol::paths::kActiveConfigService));
  *up = active.has_value();
}

Connection::Connection(Target target) : impl_(std::make_unique<Impl>(std::move(target))) {}

Connection::~Connection() {
  if (impl_->cache) impl_->loop.run(impl_->cache->stop());
  impl_->cache.reset();
  impl_->client.reset();
  if (impl_->session) impl_->session->close();
}

std::string Connection::ask(std::uint16_t method, std::string request, runtime::Duration timeout) {
  std::string answer;
  impl_->loop.run(impl_->call(method, std::move(request), timeout, &answer));
  return answer;
}

bool Connection::config_service_is_up() {
  bool up = true;
  impl_->loop.run(impl_->look_up_active(&up));
  return up;
}

coordination::Client& Connection::coordination() {
  impl_->loop.run(impl_->connect());
  if (impl_->session == nullptr) {
    throw Error(Code::unavailable,
                "{} is a config service, and this is done in coordination itself; give "
                "--coordination zk://HOST:PORT",
                impl_->target.coordination.to_string());
  }
  return *impl_->client;
}

void Connection::run(runtime::Task<void> task) {
  impl_->loop.run(std::move(task));
}

runtime::EventLoop& Connection::loop() {
  return impl_->loop;
}

const Target& Connection::target() const {
  return impl_->target;
}

}  // namespace datom::cli

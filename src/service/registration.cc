#include "service/registration.h"

#include "common/error.h"
#include "rpc/connection_cache.h"

namespace datom::service {
namespace {

using coordination::Client;
using coordination::Node;
using runtime::Task;

namespace paths = protocol::paths;

constexpr int kAttempts = 5;

Task<std::string> read(Client& client, std::string path, std::string what, std::string advice) {
  const std::optional<Node> node = co_await client.get(path);
  if (!node) throw Error(Code::not_found, "{} ({}); {}", what, path, advice);
  co_return node->data;
}

Task<void> replace(Client& client, std::string path, std::string data) {
  const std::optional<Node> old = co_await client.get(path);
  std::vector<coordination::Operation> steps;
  if (old) steps.emplace_back(coordination::Delete{path, old->stat.version});
  steps.emplace_back(coordination::Create{path, data, {.ephemeral = true}});
  co_await client.multi(std::move(steps));
}

// Whether the published instance is the one of `epoch`.
bool is_of(const Node& node, const std::string& epoch) {
  try {
    return rpc::Instance::from_json(node.data).epoch == epoch;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

Task<void> check_registered(Client& client, ServiceSettings settings) {
  const NodeFile& node = settings.node;
  co_await read(client, std::string(paths::kConfigService),
                "coordination holds no datom instance yet", "make one: datom init");
  co_await read(client, paths::domain(node.domain),
                fmt::format("the instance has no domain '{}'", node.domain),
                "is this another instance than the node was added to?");
  const std::string node_json = co_await read(
      client, paths::node(node.domain, node.node),
      fmt::format("domain '{}' has no node '{}'", node.domain, node.node), "run datom addnode");
  const protocol::NodeRecord node_record = protocol::NodeRecord::from_json(node_json);
  if (node_record.uuid != node.uuid) {
    throw Error(Code::conflict, "node '{}' of domain '{}' has uuid {}, found {} in node.json",
                node.node, node.domain, node_record.uuid.to_string(), node.uuid.to_string());
  }
  const std::string service_json = co_await read(
      client, paths::service(node.domain, settings.service.name),
      fmt::format("domain '{}' has no service '{}'", node.domain, settings.service.name),
      "run datom addnode again");
  const protocol::ServiceRecord record = protocol::ServiceRecord::from_json(service_json);
  if (record.node != node.node || record.type != settings.service.type) {
    throw Error(Code::conflict, "service '{}' is registered as {} of node '{}', found {} of '{}'",
                settings.service.name, name(record.type), record.node, name(settings.service.type),
                node.node);
  }
}

Task<void> announce(Client& client, ServiceSettings settings, Presence presence) {
  rpc::Instance instance;
  instance.address = presence.address;
  instance.nbd_address = presence.nbd_address;
  instance.epoch = presence.epoch;
  instance.pid = presence.pid;
  const std::string path = paths::service_instance(settings.node.domain, settings.service.name);
  for (int attempt = 1;; ++attempt) {
    std::optional<Error> failure;
    try {
      co_await replace(client, path, instance.to_json());
    } catch (const Error& error) {
      failure = error;
    }
    if (!failure) co_return;
    // Another session's node may vanish at any moment, and an answer may be lost: look again.
    const std::optional<Node> now = co_await client.get(path);
    if (now && is_of(*now, presence.epoch)) co_return;
    if (attempt == kAttempts) throw Error(*failure);
  }
}

Task<void> withdraw(Client& client, ServiceSettings settings, std::string epoch,
                    telemetry::Log log) {
  const std::string path = paths::service_instance(settings.node.domain, settings.service.name);
  try {
    const std::optional<Node> node = co_await client.get(path);
    if (node && is_of(*node, epoch)) co_await client.remove(path, node->stat.version);
  } catch (const Error& error) {
    log.warn("service.withdraw", {{"error", error.what()}}, "the node goes with the session");
  }
}

}  // namespace datom::service

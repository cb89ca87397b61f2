#include "config_service/node_registry.h"

#include <fmt/format.h>

#include <array>
#include <map>
#include <optional>
#include <set>

#include "common/error.h"
#include "protocol/config.pb.h"

namespace datom::config_service {
namespace {

using coordination::Operation;
using protocol::AddNodeRequest;
using protocol::NodeRecord;
using protocol::NodeState;
using protocol::ServiceRecord;
using protocol::ServiceType;
using runtime::Task;

namespace paths = protocol::paths;

constexpr int kMaxServices = 64;  // of a node
constexpr int kMaxDevices = 256;  // disks, links, or addresses of a link
constexpr std::size_t kMaxText = 255;
constexpr std::size_t kMaxNodes = 256;  // of a domain
constexpr int kMaxAttempts = 5;

template <typename... Rest>
[[noreturn]] void refuse(fmt::format_string<Rest...> format, Rest&&... rest) {
  throw Error(Code::invalid_argument, fmt::format(format, std::forward<Rest>(rest)...));
}

void check_text(std::string_view what, const std::string& text) {
  if (text.size() > kMaxText)
    refuse("{} has {} bytes, expected at most {}", what, text.size(), kMaxText);
}

void check_count(std::string_view what, int found, int most) {
  if (found > most) refuse("{} {}, expected at most {}", found, what, most);
}

Uuid node_uuid(const AddNodeRequest& request) {
  const std::optional<Uuid> uuid = Uuid::parse(request.uuid());
  if (!uuid || uuid->is_nil()) {
    refuse("node {}: uuid is '{}', expected a uuid", request.name(), request.uuid().substr(0, 80));
  }
  return *uuid;
}

protocol::HardwareRecord hardware_record(const protocol::Hardware& hardware) {
  check_text("the processor's name", hardware.processor());
  check_count("disks", hardware.disks_size(), kMaxDevices);
  check_count("links", hardware.links_size(), kMaxDevices);
  protocol::HardwareRecord record;
  record.processor = hardware.processor();
  record.cores = hardware.cores();
  record.threads = hardware.threads();
  record.memory_bytes = hardware.memory_bytes();
  for (const protocol::Disk& disk : hardware.disks()) {
    check_text("a disk's name", disk.name());
    check_text("a disk's model", disk.model());
    record.disks.push_back({disk.name(), disk.model(), disk.bytes(), disk.rotational()});
  }
  for (const protocol::Link& link : hardware.links()) {
    check_text("a link's name", link.name());
    check_count("addresses of a link", link.addresses_size(), kMaxDevices);
    for (const std::string& address : link.addresses()) check_text("a link's address", address);
    record.links.push_back({link.name(),
                            {link.addresses().begin(), link.addresses().end()},
                            link.megabits_per_second()});
  }
  return record;
}

ServiceType service_type(const AddNodeRequest::NewService& service) {
  constexpr std::array kTypes = {ServiceType::config_service, ServiceType::volume_server};
  for (const ServiceType type : kTypes) {
    if (protocol::name(type) == service.type()) return type;
  }
  refuse("service {}: type is '{}', expected configservice or volumeserver", service.name(),
         service.type().substr(0, 80));
}

std::uint16_t port_number(const std::string& service, std::string_view what, std::uint32_t port,
                          std::uint32_t least) {
  if (port < least || port > 65535) {
    refuse("service {}: {} is {}, expected {} to 65535", service, what, port, least);
  }
  return static_cast<std::uint16_t>(port);
}

ServiceRecord service_record(const std::string& node, const AddNodeRequest::NewService& service) {
  check_name("service", service.name());
  ServiceRecord record;
  record.type = service_type(service);
  record.node = node;
  record.port = port_number(service.name(), "port", service.port(), 1);
  record.nbd_port = port_number(service.name(), "nbd_port", service.nbd_port(), 0);
  if (record.type == ServiceType::config_service && record.nbd_port != 0) {
    refuse("service {}: nbd_port is {}, expected none: a config service serves no volumes",
           service.name(), record.nbd_port);
  }
  return record;
}

std::map<std::string, ServiceRecord> service_records(const AddNodeRequest& request) {
  check_count("services on one node", request.services_size(), kMaxServices);
  std::map<std::string, ServiceRecord> records;
  for (const auto& service : request.services()) {
    if (!records.emplace(service.name(), service_record(request.name(), service)).second) {
      refuse("service {} is named twice, expected distinct names", service.name());
    }
  }
  return records;
}

void check_not_taken(const AddNodeRequest& request, const Uuid& uuid, const Domain& domain) {
  const auto same_name = domain.nodes.find(request.name());
  if (same_name != domain.nodes.end() && same_name->second.record.uuid != uuid) {
    throw Error(Code::already_exists,
                "node name {} is taken by host {} (uuid {}), this is {} (uuid {}): choose another "
                "name, or remove that node first if it is gone",
                request.name(), same_name->second.record.host,
                same_name->second.record.uuid.to_string(), request.host(), uuid.to_string());
  }
  for (const auto& [name, node] : domain.nodes) {
    if (node.record.uuid == uuid && name != request.name()) {
      throw Error(Code::already_exists, "node {} is in the domain already, under the name {}",
                  uuid.to_string(), name);
    }
  }
}

void check_services(const std::map<std::string, ServiceRecord>& services, const Domain& domain) {
  for (const auto& [name, service] : services) {
    const auto found = domain.services.find(name);
    if (found == domain.services.end()) continue;
    const ServiceRecord& there = found->second.record;
    if (there.node != service.node || there.type != service.type) {
      throw Error(Code::already_exists,
                  "service name {} is taken by a {} on node {}: choose another name", name,
                  protocol::name(there.type), there.node);
    }
  }
}

// Every port of a node belongs to one service, those it runs already included.
void check_ports(const std::string& node, std::map<std::string, ServiceRecord> services,
                 const Domain& domain) {
  for (const auto& [name, service] : domain.services) {
    if (service.record.node == node) services.emplace(name, service.record);
  }
  std::map<std::uint16_t, std::string> taken;
  for (const auto& [name, service] : services) {
    for (const std::uint16_t port : {service.port, service.nbd_port}) {
      if (port == 0) continue;
      const auto [there, is_new] = taken.emplace(port, name);
      if (!is_new) {
        refuse("port {} of node {} is given to {} and {}, expected one service a port", port, node,
               there->second, name);
      }
    }
  }
}

template <typename Record>
void put(std::vector<Operation>& operations, std::string path, const Record& record,
         const Records<Record>& existing, const std::string& name) {
  const auto found = existing.find(name);
  if (found == existing.end()) {
    operations.push_back(coordination::Create{std::move(path), record.to_json()});
  } else {
    operations.push_back(
        coordination::Set{std::move(path), record.to_json(), found->second.version});
  }
}

std::vector<std::string> services_of(const Domain& domain, const std::string& node) {
  std::vector<std::string> names;
  for (const auto& [name, service] : domain.services) {
    if (service.record.node == node) names.push_back(name);
  }
  return names;
}

std::set<std::string> volumes_on(const Domain& domain, const std::string& node) {
  std::set<std::string> names;
  for (const auto& [name, volume] : domain.volumes) {
    for (const protocol::ReplicaRecord& replica : domain.replicas_of(volume.record)) {
      if (domain.node_of(replica.service) == node) names.insert(name);
    }
  }
  return names;
}

const Versioned<NodeRecord>& find_node(const Domain& domain, const std::string& node) {
  const auto found = domain.nodes.find(node);
  if (found == domain.nodes.end()) {
    throw Error(Code::not_found, "node {} is not in domain {}", node, domain.name);
  }
  return found->second;
}

// Throws where the node must stay.
std::vector<Operation> removal(const Domain& domain, const std::string& node) {
  const Versioned<NodeRecord>& found = find_node(domain, node);
  const std::set<std::string> volumes = volumes_on(domain, node);
  if (!volumes.empty()) {
    throw Error(Code::conflict,
                "node {} holds replicas of {} volumes ({}{}), expected none: datom node drain {}",
                node, volumes.size(), *volumes.begin(), volumes.size() > 1 ? ", ..." : "", node);
  }
  std::vector<Operation> operations;
  for (const std::string& service : services_of(domain, node)) {
    if (domain.instances.contains(service)) {
      throw Error(Code::conflict, "service {} of node {} is up: stop it first", service, node);
    }
    operations.push_back(coordination::Delete{paths::service(domain.name, service),
                                              domain.services.at(service).version});
  }
  operations.push_back(coordination::Delete{paths::node(domain.name, node), found.version});
  // No volume was placed there since it was looked at.
  operations.push_back(coordination::Check{paths::volumes(domain.name), domain.volumes_version});
  return operations;
}

[[noreturn]] void too_many_changes(const std::string& what) {
  throw Error(Code::unavailable, "{}: the tree keeps changing, try again", what);
}

}  // namespace

std::vector<Operation> registration(const AddNodeRequest& request, const Domain& domain) {
  check_name("node", request.name());
  const Uuid uuid = node_uuid(request);
  check_text("the host's name", request.host());
  const std::map<std::string, ServiceRecord> services = service_records(request);
  check_not_taken(request, uuid, domain);
  check_services(services, domain);
  check_ports(request.name(), services, domain);

  NodeRecord node;
  const auto there = domain.nodes.find(request.name());
  if (there != domain.nodes.end()) node = there->second.record;
  if (there == domain.nodes.end() && domain.nodes.size() >= kMaxNodes) {
    throw Error(Code::too_large, "domain {} has {} nodes, expected at most {}", domain.name,
                domain.nodes.size(), kMaxNodes);
  }
  node.uuid = uuid;
  node.host = request.host();
  node.hardware = hardware_record(request.hardware());
  std::vector<Operation> operations;
  put(operations, paths::node(domain.name, request.name()), node, domain.nodes, request.name());
  for (const auto& [name, service] : services) {
    put(operations, paths::service(domain.name, name), service, domain.services, name);
  }
  return operations;
}

NodeRegistry::NodeRegistry(runtime::Loop& loop, coordination::Client& client, std::string domain)
    : loop_(loop), client_(client), domain_(std::move(domain)) {}

Task<void> NodeRegistry::add(AddNodeRequest request) {
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    const Domain domain = co_await read_services(loop_, client_, domain_);
    std::vector<Operation> operations = registration(request, domain);
    const bool done = co_await commit(client_, std::move(operations));
    if (done) co_return;
  }
  too_many_changes(fmt::format("adding node {}", request.name()));
}

Task<void> NodeRegistry::remove(std::string name) {
  check_name("node", name);
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    const Domain domain = co_await read_domain(loop_, client_, domain_);
    std::vector<Operation> operations = removal(domain, name);
    const bool done = co_await commit(client_, std::move(operations));
    if (done) co_return;
  }
  too_many_changes(fmt::format("removing node {}", name));
}

Task<void> NodeRegistry::drain(std::string name, bool cancel) {
  check_name("node", name);
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    const Domain domain = co_await read_services(loop_, client_, domain_);
    const Versioned<NodeRecord>& found = find_node(domain, name);
    NodeRecord node = found.record;
    const bool in_service = node.state == NodeState::in_service;
    if (in_service == cancel) co_return;
    node.state = cancel ? NodeState::in_service : NodeState::draining;
    std::vector<Operation> operations;
    operations.push_back(
        coordination::Set{paths::node(domain_, name), node.to_json(), found.version});
    const bool done = co_await commit(client_, std::move(operations));
    if (done) co_return;
  }
  too_many_changes(fmt::format("draining node {}", name));
}

Task<bool> NodeRegistry::finish_drain(const Domain& domain, std::string name) {
  const Versioned<NodeRecord>& found = find_node(domain, name);
  NodeRecord node = found.record;
  node.state = NodeState::out;
  std::vector<Operation> operations;
  operations.push_back(
      coordination::Set{paths::node(domain_, name), node.to_json(), found.version});
  operations.push_back(coordination::Check{paths::volumes(domain_), domain.volumes_version});
  co_return co_await commit(client_, std::move(operations));
}

}  // namespace datom::config_service

#include "service/node_file.h"

#include <boost/json.hpp>
#include <set>

#include "common/error.h"
#include "protocol/json_fields.h"

namespace datom::service {
namespace {

using protocol::JsonFields;
using protocol::ServiceType;

constexpr std::uint64_t kMaxPort = 65535;

NodeService read_service(const JsonFields& fields) {
  NodeService service;
  service.name = fields.name("name");
  const std::string type = fields.string("type");
  if (type != name(ServiceType::volume_server) && type != name(ServiceType::config_service)) {
    fields.refuse("type", "'volumeserver' or 'configservice'");
  }
  service.type = parse_service_type(type);
  service.port = static_cast<std::uint16_t>(fields.number("port", 1, kMaxPort));
  if (service.type == ServiceType::volume_server) {
    service.nbd_port = static_cast<std::uint16_t>(fields.number("nbd_port", 1, kMaxPort));
  }
  return service;
}

// Two services of a node would fight over a name or a port.
void check_distinct(const std::string& path, const std::vector<NodeService>& services) {
  std::set<std::string> names;
  std::set<std::uint16_t> ports;
  for (const NodeService& each : services) {
    if (!names.insert(each.name).second) {
      throw Error(Code::corrupt, "{}: service '{}' is there twice, expected one of each name", path,
                  each.name);
    }
    for (const std::uint16_t port : {each.port, each.nbd_port}) {
      if (port == 0 || ports.insert(port).second) continue;
      throw Error(Code::corrupt, "{}: service '{}' has port {}, which another one has too", path,
                  each.name, port);
    }
  }
}

CoordinationUrl read_coordination(const JsonFields& fields) {
  const std::string text = fields.string("coordination");
  try {
    return CoordinationUrl::parse(text);
  } catch (const Error&) {
    fields.refuse("coordination", "zk://HOST:PORT[,HOST:PORT...][/PATH] or config://HOST:PORT");
  }
}

boost::json::object service_json(const NodeService& service) {
  boost::json::object json{{"name", service.name}, {"type", name(service.type)}};
  json["port"] = service.port;
  if (service.nbd_port != 0) json["nbd_port"] = service.nbd_port;
  return json;
}

}  // namespace

const NodeService& NodeFile::service(std::string_view name) const {
  std::string names;
  for (const NodeService& each : services) {
    if (each.name == name) return each;
    names += (names.empty() ? "" : ", ") + each.name;
  }
  throw Error(Code::not_found, "service '{}' is not configured for node '{}'; it has: {}", name,
              node, names.empty() ? "none" : names);
}

std::string NodeFile::to_json() const {
  boost::json::array list;
  for (const NodeService& each : services) list.push_back(service_json(each));
  const boost::json::object json{{"format", kNodeFileFormat},
                                 {"node", node},
                                 {"uuid", uuid.to_string()},
                                 {"domain", domain},
                                 {"coordination", coordination.to_string()},
                                 {"nic_if", nic_if},
                                 {"services", list}};
  return boost::json::serialize(json) + "\n";
}

NodeFile NodeFile::from_json(const std::string& path, std::string_view text) {
  const JsonFields fields = JsonFields::parse(path, text);
  NodeFile file;
  fields.number("format", kNodeFileFormat, kNodeFileFormat);
  file.node = fields.name("node");
  file.uuid = fields.uuid("uuid");
  file.domain = fields.name("domain");
  file.coordination = read_coordination(fields);
  file.nic_if = fields.string("nic_if");
  if (file.nic_if.empty()) fields.refuse("nic_if", "a network interface or IP address");
  for (const JsonFields& each : fields.objects("services", kMaxServices)) {
    file.services.push_back(read_service(each));
  }
  check_distinct(path, file.services);
  return file;
}

ServiceType parse_service_type(std::string_view text) {
  for (const ServiceType type : {ServiceType::config_service, ServiceType::volume_server}) {
    if (name(type) == text) return type;
  }
  throw Error(Code::invalid_argument,
              "'{}' is no kind of service; expected volumeserver or configservice", text);
}

std::string node_file_path(const std::string& root) {
  return root + "/node.json";
}

runtime::Task<NodeFile> read_node_file(runtime::Filesystem& files, std::string root) {
  const std::string path = node_file_path(root);
  const bool found = co_await files.exists(path);
  if (!found) {
    throw Error(Code::not_found, "{} is missing: this is no datom node yet; run 'datom addnode'",
                path);
  }
  const std::string text = co_await runtime::read_file(files, path, kMaxNodeFileBytes);
  co_return NodeFile::from_json(path, text);
}

runtime::Task<void> write_node_file(runtime::Filesystem& files, std::string root, NodeFile node) {
  co_await files.make_directories(root + "/run");
  co_await files.make_directories(root + "/log");
  co_await runtime::write_file(files, node_file_path(root), node.to_json());
}

std::string pid_path(const std::string& root, std::string_view service) {
  return fmt::format("{}/run/{}.pid", root, service);
}
std::string lock_path(const std::string& root, std::string_view service) {
  return fmt::format("{}/run/{}.lock", root, service);
}
std::string log_path(const std::string& root, std::string_view service) {
  return fmt::format("{}/log/{}.log", root, service);
}
std::string data_path(const std::string& root, std::string_view service) {
  return fmt::format("{}/{}", root, service);
}

}  // namespace datom::service

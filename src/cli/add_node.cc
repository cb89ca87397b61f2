#include "cli/add_node.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <ostream>
#include <sstream>

#include "cli/ask.h"
#include "cli/hardware_text.h"
#include "cli/node_root.h"
#include "cli/output.h"
#include "cli/service_spec.h"
#include "config_service/node_registry.h"
#include "hardware/hardware.h"
#include "protocol/config.pb.h"
#include "protocol/methods.h"
#include "runtime/event_loop.h"
#include "runtime/thread_files.h"

namespace datom::cli {
namespace {

using protocol::ServiceType;
using service::CoordinationUrl;
using service::NodeFile;
using service::NodeService;

// The host's name as far as it can be a name of ours.
std::string default_node_name() {
  std::string name = hardware::host_name();
  name = name.substr(0, name.find('.'));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return protocol::valid_name(name) ? name : "node1";
}

std::string default_interface(const protocol::HardwareRecord& hardware) {
  return hardware.links.empty() ? "lo" : hardware.links.front().name;
}

std::vector<NodeService> default_services(const std::string& node, bool first) {
  std::vector<NodeService> services;
  if (first) services.push_back(parse_service_spec("cfg-" + node + "=configservice"));
  services.push_back(parse_service_spec("vs-" + node + "=volumeserver"));
  return services;
}

std::vector<NodeService> parse_services(const std::vector<std::string>& specs) {
  std::vector<NodeService> services;
  for (const std::string& spec : specs) services.push_back(parse_service_spec(spec));
  return services;
}

std::string join(const std::vector<NodeService>& services) {
  std::string text;
  for (const NodeService& each : services) text += (text.empty() ? "" : " ") + service_spec(each);
  return text;
}

std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), std::istream_iterator<std::string>()};
}

// What is known before anything is asked: flags, then what the root is already, then defaults.
NodeFile propose(const AddNodeOptions& options, const std::optional<NodeFile>& existing,
                 const protocol::HardwareRecord& hardware, bool first) {
  NodeFile node;
  if (existing) node = *existing;
  if (existing && !options.name.empty() && options.name != existing->node) {
    throw Error(Code::conflict,
                "this root is node '{}' already, expected '{}'; give another --root",
                existing->node, options.name);
  }
  if (!existing) {
    runtime::SystemRandom random;
    const std::uint64_t high = random.next();
    node.uuid = Uuid::from_random(high, random.next());
    node.node = options.name.empty() ? default_node_name() : options.name;
    node.nic_if = default_interface(hardware);
  }
  if (!options.nic_if.empty()) node.nic_if = options.nic_if;
  node.services = merged(node.services, parse_services(options.services));
  if (node.services.empty()) node.services = default_services(node.node, first);
  return node;
}

void ask_about(Context& context, NodeFile& node, bool new_node) {
  if (new_node) node.node = ask(context, "Name of this node", node.node);
  node.nic_if = ask(context, "Network interface (or address) to serve on", node.nic_if);
  context.terminal.err << "Services are NAME=configservice[:PORT] or "
                          "NAME=volumeserver[:PORT[:NBD_PORT]], separated by blanks.\n";
  node.services = parse_services(words(ask(context, "Services of this node", join(node.services))));
}

protocol::AddNodeRequest request_of(const NodeFile& node,
                                    const protocol::HardwareRecord& hardware) {
  protocol::AddNodeRequest request;
  request.set_name(node.node);
  request.set_uuid(node.uuid.to_string());
  request.set_host(hardware::host_name());
  *request.mutable_hardware() = hardware_message(hardware);
  for (const NodeService& each : node.services) {
    auto* service = request.add_services();
    service->set_name(each.name);
    service->set_type(std::string(name(each.type)));
    service->set_port(each.port);
    service->set_nbd_port(each.nbd_port);
  }
  return request;
}

runtime::Task<void> require(coordination::Client& client, std::string path, std::string what) {
  const std::optional<coordination::Node> node = co_await client.get(std::move(path));
  if (!node) throw Error(Code::not_found, "{}", what);
}

runtime::Task<void> register_directly(coordination::Client& client, runtime::Loop& loop,
                                      std::string domain, protocol::AddNodeRequest request) {
  co_await require(client, std::string(protocol::paths::kConfigService),
                   "coordination holds no datom instance yet; make one: datom init");
  co_await require(client, protocol::paths::domain(domain),
                   fmt::format("the instance has no domain '{}'; check --domain_name", domain));
  config_service::NodeRegistry registry(loop, client, std::move(domain));
  co_await registry.add(std::move(request));
}

runtime::Task<void> stamp(runtime::Filesystem& files, std::string root, NodeFile node) {
  co_await service::write_node_file(files, std::move(root), std::move(node));
}

void stamp_node_file(const std::string& root, const NodeFile& node) {
  runtime::EventLoop loop;
  const auto files = runtime::make_thread_filesystem(loop, 1);
  loop.run(stamp(*files, root, node));
}

// Finds out before anybody is told of the node.
void check_writable(const std::string& root) {
  std::error_code error;
  std::filesystem::create_directories(root, error);
  if (error) {
    throw Error(Code::io_error, "cannot make the root {}: {}; give another --root", root,
                error.message());
  }
}

void say(Context& context, const NodeFile& node, const std::string& root,
         const std::string& registered) {
  if (context.options.format == Format::json) {
    context.terminal.out << node.to_json();
    return;
  }
  std::ostream& out = context.terminal.out;
  out << fmt::format("node '{}' is registered in domain '{}' ({})\n", node.node, node.domain,
                     registered);
  out << fmt::format("stamped {}\n", service::node_file_path(root));
  out << "next:\n";
  for (const ServiceType type : {ServiceType::config_service, ServiceType::volume_server}) {
    for (const NodeService& each : node.services) {
      if (each.type != type) continue;
      out << fmt::format("  datom startservice {} --root {}\n", each.name, root);
    }
  }
}

}  // namespace

int add_node(Context& context, AddNodeOptions options) {
  if (!options.yes && !context.terminal.interactive) {
    throw Error(Code::invalid_argument,
                "nobody can be asked here; give --yes, and what differs from the defaults");
  }
  const protocol::HardwareRecord hardware = hardware::discover();
  if (context.options.format == Format::table) {
    Facts facts;
    add_hardware(facts, hardware_message(hardware));
    context.terminal.out << facts.text() << std::endl;
  }
  if (!options.yes) {
    context.options.root = ask(context, "Root: where datom keeps its data", context.options.root);
  }
  const std::string root = absolute_root(context.options);
  const std::optional<NodeFile> existing = find_node_file(root);
  const Target target = find_target(context.options);
  if (target.coordination.kind != CoordinationUrl::Kind::zookeeper) {
    throw Error(Code::invalid_argument,
                "a node needs coordination, found {}; give --coordination zk://HOST:PORT",
                target.coordination.to_string());
  }
  Connection connection(target);
  const bool first = !connection.config_service_is_up();

  NodeFile node = propose(options, existing, hardware, first);
  if (!options.yes) ask_about(context, node, !existing);
  node.domain = target.domain;
  node.coordination = target.coordination;
  hardware::address_of_interface(node.nic_if);
  node = NodeFile::from_json("the node as given", node.to_json());
  check_writable(root);

  const protocol::AddNodeRequest request = request_of(node, hardware);
  if (first) {
    runtime::EventLoop& loop = connection.loop();
    connection.run(register_directly(connection.coordination(), loop, target.domain, request));
  } else {
    ask<protocol::AddNodeReply>(connection, protocol::method::kAddNode, request);
  }
  stamp_node_file(root, node);
  say(context, node, root,
      first ? "directly in coordination: no config service is up yet" : "by the config service");
  return 0;
}

}  // namespace datom::cli

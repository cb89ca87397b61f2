#include <CLI/CLI.hpp>
#include <memory>

#include "cli/add_node.h"
#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/hardware_text.h"
#include "cli/output.h"
#include "cli/table.h"
#include "protocol/config.pb.h"
#include "protocol/methods.h"

namespace datom::cli {
namespace {

namespace method = protocol::method;

struct RemoveOptions {
  std::string name;
  bool yes = false;
};

protocol::ListNodesReply all_nodes(Connection& connection) {
  return ask<protocol::ListNodesReply>(connection, method::kListNodes,
                                       protocol::ListNodesRequest());
}

protocol::Node find_node(Connection& connection, const std::string& name) {
  const protocol::ListNodesReply reply = all_nodes(connection);
  std::string names;
  for (const protocol::Node& node : reply.nodes()) {
    if (node.name() == name) return node;
    names += (names.empty() ? "" : ", ") + node.name();
  }
  throw Error(Code::not_found, "there is no node '{}' in domain '{}'; there are: {}", name,
              connection.target().domain, names.empty() ? "none" : names);
}

int list(Context& context) {
  Connection connection(find_target(context.options));
  const protocol::ListNodesReply reply = all_nodes(connection);
  print(context, reply, nodes_table(reply.nodes()));
  return 0;
}

std::string held_text(const protocol::Node& node) {
  if (node.held_size() == 0) return "";
  Table table({{"VOLUME"}, {"SERVICE"}, {"MOVE"}});
  for (const protocol::HeldReplica& held : node.held()) {
    table.add(
        {held.volume(), held.service(), held.has_move() ? move_text(held.move()) : held.trouble()});
  }
  return "\n" + table.text();
}

int info(Context& context, const std::string& name) {
  Connection connection(find_target(context.options));
  protocol::NodeInfoRequest request;
  request.set_name(name);
  const auto node = ask<protocol::NodeInfoReply>(connection, method::kNodeInfo, request).node();
  Facts facts;
  facts.add("name", node.name());
  facts.add("uuid", node.uuid());
  facts.add("host", node.host());
  facts.add("state", node.state());
  facts.add("services", joined(node.services()));
  facts.add("replicas", std::to_string(node.replicas()));
  add_hardware(facts, node.hardware());
  print(context, node, facts.text() + held_text(node));
  return 0;
}

int remove(Context& context, const RemoveOptions& options) {
  Connection connection(find_target(context.options));
  const protocol::Node node = find_node(connection, options.name);
  const std::string plan = fmt::format(
      "This takes node '{}' and its services ({}) out of domain '{}'.", node.name(),
      node.services().empty() ? "none" : joined(node.services()), connection.target().domain);
  if (!options.yes && !confirm(context, plan, "Take it out?")) {
    throw Error(Code::cancelled, "node '{}' stays", options.name);
  }
  protocol::RemoveNodeRequest request;
  request.set_name(options.name);
  const auto reply = ask<protocol::RemoveNodeReply>(connection, method::kRemoveNode, request);
  print(context, reply, fmt::format("node '{}' is out of the domain\n", options.name));
  return 0;
}

void add_addnode(CLI::App& parent, Context& context, const std::string& name,
                 const std::string& command_line) {
  const auto options = std::make_shared<AddNodeOptions>();
  CLI::App* command = add_command(
      parent, name, "Make this machine a node of the domain",
      command_line + " --coordination zk://10.0.0.1:2181\n  " + command_line +
          " --yes --coordination zk://10.0.0.1:2181 --name n1 --nic_if eth0 \\\n"
          "      --service cfg1=configservice:7400 --service vs1=volumeserver:7401:10809");
  command->add_option("--name", options->name, "Name of the node (default: the host's)");
  command->add_option("--nic_if", options->nic_if,
                      "Network interface, or IP address, that its services are reached at");
  command
      ->add_option("--service", options->services,
                   "A service to run, as often as needed: NAME=TYPE[:PORT[:NBD_PORT]], TYPE being "
                   "configservice or volumeserver")
      ->expected(1)
      ->take_all();
  command->add_flag("--yes", options->yes, "Ask nothing, take defaults");
  command->callback([&context, options] {
    context.action = [&context, options] { return add_node(context, *options); };
  });
}

}  // namespace

void add_node_commands(CLI::App& app, Context& context) {
  add_addnode(app, context, "addnode", "datom addnode");
  CLI::App* node = add_noun(app, "node", "Add, show, drain and remove nodes", "datom node ls");
  add_addnode(*node, context, "add", "datom node add");
  CLI::App* ls = add_command(*node, "ls", "List the nodes", "datom node ls -o json");
  ls->callback([&context] { context.action = [&context] { return list(context); }; });

  const auto name = std::make_shared<std::string>();
  CLI::App* info_command =
      add_command(*node, "info", "Show a node and its hardware", "datom node info n1");
  info_command->add_option("name", *name, "Name of the node")->required();
  info_command->callback(
      [&context, name] { context.action = [&context, name] { return info(context, *name); }; });

  add_drain_command(*node, context);
  const auto options = std::make_shared<RemoveOptions>();
  CLI::App* rm = add_command(*node, "rm", "Take a node that holds no volume out of the domain",
                             "datom node rm n1");
  rm->add_option("name", options->name, "Name of the node")->required();
  rm->add_flag("--yes", options->yes, "Do not ask");
  rm->callback([&context, options] {
    context.action = [&context, options] { return remove(context, *options); };
  });
}

}  // namespace datom::cli

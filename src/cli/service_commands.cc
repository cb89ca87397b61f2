#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <ostream>

#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/node_root.h"
#include "cli/output.h"
#include "cli/process.h"
#include "protocol/config.pb.h"
#include "protocol/dev.pb.h"
#include "protocol/methods.h"

namespace datom::cli {
namespace {

namespace method = protocol::method;
using service::CoordinationUrl;

constexpr auto kDevTimeout = std::chrono::seconds(60);

struct ServiceOptions {
  std::string service;
  std::uint32_t wait_seconds = 60;
};

// Whether the services of the node run inside one `datom dev`, which is asked about them.
bool is_dev(const service::NodeFile& node) {
  return node.coordination.kind == CoordinationUrl::Kind::config_service;
}

void say(Context& context, const std::string& service, const std::string& what,
         std::optional<pid_t> process) {
  if (context.options.format == Format::json) {
    context.terminal.out << fmt::format("{{\"service\": \"{}\", \"state\": \"{}\", \"pid\": {}}}\n",
                                        service, what, process ? std::to_string(*process) : "null");
  } else {
    context.terminal.out << fmt::format("service '{}' is {}{}\n", service, what,
                                        process ? fmt::format(" (pid {})", *process) : "");
  }
}

Program program_of(const Context& context, const NodeRoot& root,
                   const service::NodeService& service) {
  Program program;
  program.executable = context.executable;
  program.log = service::log_path(root.path, service.name);
  program.arguments = {std::string(name(service.type)), "--root", root.path, "--service_name",
                       service.name};
  if (!context.options.coordination.empty()) {
    program.arguments.insert(program.arguments.end(),
                             {"--coordination", context.options.coordination});
  }
  return program;
}

int start(Context& context, const ServiceOptions& options) {
  const NodeRoot root = read_node_root(context.options);
  const service::NodeService& service = root.node.service(options.service);
  if (is_dev(root.node)) {
    Connection connection(find_target(context.options));
    protocol::StartServiceRequest request;
    request.set_service(options.service);
    ask<protocol::StartServiceReply>(connection, method::kStartService, request, kDevTimeout);
    say(context, options.service, "up", std::nullopt);
    return 0;
  }
  if (const std::optional<pid_t> running = running_service(root.path, service.name)) {
    say(context, service.name, "up", running);
    return 0;
  }
  std::filesystem::create_directories(root.path + "/log");
  try {
    const pid_t process = start_in_background(program_of(context, root, service),
                                              std::chrono::seconds(options.wait_seconds));
    say(context, service.name, "up", process);
  } catch (const Error& error) {
    throw Error(error.code(), "service '{}' is not up: {}", service.name, error.what());
  }
  return 0;
}

int stop(Context& context, const ServiceOptions& options) {
  const NodeRoot root = read_node_root(context.options);
  const service::NodeService& service = root.node.service(options.service);
  if (is_dev(root.node)) {
    Connection connection(find_target(context.options));
    protocol::StopServiceRequest request;
    request.set_service(options.service);
    ask<protocol::StopServiceReply>(connection, method::kStopService, request, kDevTimeout);
    say(context, options.service, "down", std::nullopt);
    return 0;
  }
  const std::optional<pid_t> running = running_service(root.path, service.name);
  if (running && !stop_process(*running, std::chrono::seconds(options.wait_seconds))) {
    throw Error(Code::timeout,
                "service '{}' (pid {}) was asked to stop and has not after {} s; its log is {}",
                service.name, *running, options.wait_seconds,
                service::log_path(root.path, service.name));
  }
  say(context, service.name, "down", std::nullopt);
  return 0;
}

int list(Context& context) {
  Connection connection(find_target(context.options));
  const auto reply = ask<protocol::ListServicesReply>(connection, method::kListServices,
                                                      protocol::ListServicesRequest());
  print(context, reply, services_table(reply.services()));
  return 0;
}

using Act = int (*)(Context&, const ServiceOptions&);

// `datom service start SVC` and its short form `datom startservice SVC`.
void add_act(CLI::App& parent, Context& context, const std::string& name,
             const std::string& description, const std::string& example, Act act) {
  const auto options = std::make_shared<ServiceOptions>();
  CLI::App* command = add_command(parent, name, description, example);
  command->add_option("service", options->service, "Name of a service of this node")->required();
  command->add_option("--wait", options->wait_seconds, "Seconds to wait for it")
      ->check(CLI::Range(1, 3600).description(""))
      ->capture_default_str();
  command->callback([&context, options, act] {
    context.action = [&context, options, act] { return act(context, *options); };
  });
}

}  // namespace

void add_service_commands(CLI::App& app, Context& context) {
  constexpr const char* kStart = "Start a service of this node in the background";
  constexpr const char* kStop = "Stop a service of this node";
  add_act(app, context, "startservice", kStart, "datom startservice vs1", start);
  add_act(app, context, "stopservice", kStop, "datom stopservice vs1", stop);
  CLI::App* service = add_noun(app, "service", "Start, stop and show services", "datom service ls");
  add_act(*service, context, "start", kStart, "datom service start vs1", start);
  add_act(*service, context, "stop", kStop, "datom service stop vs1", stop);
  CLI::App* ls =
      add_command(*service, "ls", "List the services of the domain", "datom service ls -o json");
  ls->callback([&context] { context.action = [&context] { return list(context); }; });
}

}  // namespace datom::cli

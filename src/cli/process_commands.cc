#include <CLI/CLI.hpp>
#include <memory>
#include <ostream>

#include "cli/commands.h"
#include "cli/node_root.h"
#include "cli/service_spec.h"
#include "common/error.h"
#include "service/dev.h"
#include "service/process.h"

namespace datom::cli {
namespace {

using protocol::ServiceType;

struct RunOptions {
  service::ServiceOptions service;
  int ready_fd = -1;
};

int run_service(Context& context, ServiceType type, RunOptions options) {
  options.service.root = absolute_root(context.options);
  options.service.domain_name = context.options.domain_name;
  options.service.coordination = context.options.coordination;
  service::run_service_process(type, options.service, options.ready_fd);
  return 0;
}

CLI::App* add_service(CLI::App& app, Context& context, ServiceType type,
                      const std::string& description, const std::shared_ptr<RunOptions>& options) {
  const std::string word(name(type));
  CLI::App* command =
      add_command(app, word, description,
                  fmt::format("datom {} --root /var/lib/datom --service_name NAME", word));
  command
      ->add_option("--service_name", options->service.service_name,
                   "Which of the node's services to run")
      ->required();
  command->add_option("--nic_if", options->service.nic_if,
                      "Network interface or IP address to serve on (default: the node's)");
  command->add_option("--port", options->service.port, "Port (default: the service's)");
  command->add_option("--ready_fd", options->ready_fd, "Descriptor to report readiness on")
      ->group("");
  command->callback([&context, type, options] {
    context.action = [&context, type, options] { return run_service(context, type, *options); };
  });
  return command;
}

void add_volume_server(CLI::App& app, Context& context) {
  const auto options = std::make_shared<RunOptions>();
  CLI::App* command = add_service(app, context, ServiceType::volume_server,
                                  "Run a volume server in the foreground", options);
  command->add_option("--nbd_port", options->service.nbd_port, "NBD port (default: the service's)");
  command->add_option("--nbd_socket", options->service.nbd_socket,
                      "Serve NBD on this Unix socket too");
  command
      ->add_option("--loops", options->service.loops,
                   "Event loops (default: one a hardware thread, at most 8)")
      ->check(CLI::Range(1, 64).description(""));
}

std::string welcome(const service::DevOptions& options, const std::string& root) {
  std::string text = fmt::format("domain '{}' is up: config service on 127.0.0.1:{}\n",
                                 options.domain, options.port);
  for (std::uint32_t i = 0; i < options.nodes; ++i) {
    text += fmt::format("  vs{} on 127.0.0.1:{}, nbd://127.0.0.1:{}\n", i + 1, options.port + i + 1,
                        options.nbd_port + i);
  }
  text += fmt::format(
      "try, from another terminal:\n"
      "  datom volume create db --size 1G --root {0}\n"
      "  nbdinfo nbd://127.0.0.1:{1}/db\n"
      "  datom status --root {0}\n"
      "  datom stopservice vs1 --root {0}\n"
      "stop it with Ctrl-C; its data stay in {0}\n",
      root, options.nbd_port);
  return text;
}

int run_dev(Context& context, service::DevOptions options) {
  options.root = absolute_root(context.options);
  if (!context.options.domain_name.empty()) options.domain = context.options.domain_name;
  service::run_dev_process(options, [&context, &options] {
    context.terminal.out << welcome(options, options.root) << std::flush;
  });
  return 0;
}

void add_dev(CLI::App& app, Context& context) {
  const auto options = std::make_shared<service::DevOptions>();
  CLI::App* command = add_command(app, "dev", "Run a whole domain in one process, to try datom out",
                                  "datom dev --root ./datom-dev");
  command->add_option("--nodes", options->nodes, "How many volume servers")
      ->check(CLI::Range(1u, service::kMaxDevNodes).description(""))
      ->capture_default_str();
  command->add_option("--port", options->port, "Port of the config service; the others follow")
      ->check(CLI::Range(1, 65535).description(""))
      ->capture_default_str();
  command->add_option("--nbd_port", options->nbd_port, "NBD port of the first volume server")
      ->check(CLI::Range(1, 65535).description(""))
      ->capture_default_str();
  command->callback([&app, &context, options] {
    // The root of a real node is no place to play.
    if (app.get_option("--root")->empty()) context.options.root = "datom-dev";
    context.action = [&context, options] { return run_dev(context, *options); };
  });
}

}  // namespace

void add_process_commands(CLI::App& app, Context& context) {
  const auto options = std::make_shared<RunOptions>();
  add_service(app, context, ServiceType::config_service, "Run a config service in the foreground",
              options);
  add_volume_server(app, context);
  add_dev(app, context);
}

}  // namespace datom::cli

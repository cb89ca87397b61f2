#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <ostream>

#include "cli/commands.h"
#include "cli/connection.h"
#include "common/uuid.h"
#include "config_service/init.h"
#include "protocol/config.pb.h"
#include "runtime/event_loop.h"

namespace datom::cli {
namespace {

runtime::Task<void> make_tree(coordination::Client& client, std::string domain, Uuid* made) {
  runtime::SystemRandom random;
  protocol::InitRequest request;
  request.set_domain(domain);
  *made = co_await config_service::make_tree(client, random, std::move(request));
}

int init(Context& context) {
  Connection connection(find_target(context.options));
  const std::string domain = connection.target().domain;
  Uuid uuid;
  connection.run(make_tree(connection.coordination(), domain, &uuid));
  if (context.options.format == Format::json) {
    context.terminal.out << fmt::format("{{\"instance\": \"{}\", \"domain\": \"{}\"}}\n",
                                        uuid.to_string(), domain);
  } else {
    context.terminal.out << fmt::format(
        "made datom instance {} with domain '{}' in {}\nnext, on each machine: datom addnode\n",
        uuid.to_string(), domain, connection.target().coordination.to_string());
  }
  return 0;
}

}  // namespace

void add_init_command(CLI::App& app, Context& context) {
  CLI::App* command = add_command(app, "init", "Make the coordination tree, once",
                                  "datom init --coordination zk://10.0.0.1:2181");
  command->callback([&context] { context.action = [&context] { return init(context); }; });
}

}  // namespace datom::cli

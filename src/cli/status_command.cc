#include <CLI/CLI.hpp>

#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/table.h"
#include "protocol/config.pb.h"
#include "protocol/methods.h"

namespace datom::cli {
namespace {

protocol::StatusReply whole_status(Connection& connection) {
  protocol::StatusRequest request;
  protocol::StatusReply status =
      ask<protocol::StatusReply>(connection, protocol::method::kStatus, request);
  while (status.more_volumes() && status.volumes_size() > 0) {
    request.set_volumes_after(status.volumes(status.volumes_size() - 1).name());
    const auto page = ask<protocol::StatusReply>(connection, protocol::method::kStatus, request);
    status.mutable_volumes()->MergeFrom(page.volumes());
    status.set_more_volumes(page.more_volumes() && page.volumes_size() > 0);
  }
  status.set_more_volumes(false);
  return status;
}

std::string status_text(const protocol::StatusReply& status) {
  Facts facts;
  facts.add("domain", status.domain());
  facts.add("instance", status.instance());
  facts.add("config service",
            fmt::format("{} at {}, pid {}", status.config_service().service(),
                        status.config_service().address(), status.config_service().pid()));
  std::string text = facts.text();
  text += "\n" + nodes_table(status.nodes());
  text += "\n" + services_table(status.services());
  if (status.volumes_size() > 0) text += "\n" + volumes_table(status.volumes());
  return text;
}

}  // namespace

void add_status_command(CLI::App& app, Context& context) {
  CLI::App* command = add_command(app, "status", "Show nodes, services and volumes of the domain",
                                  "datom status -o json");
  command->callback([&context] {
    context.action = [&context] {
      Connection connection(find_target(context.options));
      const protocol::StatusReply status = whole_status(connection);
      print(context, status, status_text(status));
      return 0;
    };
  });
}

}  // namespace datom::cli

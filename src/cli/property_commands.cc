#include <pwd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/table.h"
#include "hardware/hardware.h"
#include "protocol/config.pb.h"
#include "protocol/methods.h"

namespace datom::cli {
namespace {

namespace method = protocol::method;

std::string user_name() {
  const passwd* user = getpwuid(geteuid());
  return user == nullptr ? std::to_string(geteuid()) : user->pw_name;
}

std::string property_text(const protocol::Property& property) {
  Facts facts;
  facts.add("name", property.name());
  facts.add("value", property.value());
  facts.add("default", property.default_value());
  facts.add("what it is", property.help());
  facts.add("changed by", property.changed_by());
  facts.add("changed at", property.changed_at());
  return facts.text();
}

int list(Context& context) {
  Connection connection(find_target(context.options));
  const auto reply = ask<protocol::ListPropertiesReply>(connection, method::kListProperties,
                                                        protocol::ListPropertiesRequest());
  Table table({{"PROPERTY"}, {"VALUE"}, {"DEFAULT"}, {"WHAT IT IS"}});
  for (const protocol::Property& property : reply.properties()) {
    table.add({property.name(), property.value(), property.default_value(), property.help()});
  }
  print(context, reply, table.text());
  return 0;
}

int get(Context& context, const std::string& name) {
  Connection connection(find_target(context.options));
  protocol::GetPropertyRequest request;
  request.set_name(name);
  const auto reply = ask<protocol::GetPropertyReply>(connection, method::kGetProperty, request);
  print(context, reply.property(), property_text(reply.property()));
  return 0;
}

int set(Context& context, const std::string& name, const std::string& value) {
  Connection connection(find_target(context.options));
  protocol::SetPropertyRequest request;
  request.set_name(name);
  request.set_value(value);
  request.set_changed_by(user_name() + "@" + hardware::host_name());
  const auto reply = ask<protocol::SetPropertyReply>(connection, method::kSetProperty, request);
  print(context, reply.property(), property_text(reply.property()));
  return 0;
}

}  // namespace

void add_property_commands(CLI::App& app, Context& context) {
  CLI::App* property =
      add_noun(app, "property", "Show and set properties of the domain", "datom property ls");
  CLI::App* ls = add_command(*property, "ls", "List the properties", "datom property ls");
  ls->callback([&context] { context.action = [&context] { return list(context); }; });

  const auto name = std::make_shared<std::string>();
  const auto value = std::make_shared<std::string>();
  CLI::App* get_command =
      add_command(*property, "get", "Show a property", "datom property get NAME");
  get_command->add_option("name", *name, "Name of the property")->required();
  get_command->callback(
      [&context, name] { context.action = [&context, name] { return get(context, *name); }; });
  CLI::App* set_command = add_command(*property, "set", "Set a property for all services",
                                      "datom property set NAME VALUE");
  set_command->add_option("name", *name, "Name of the property")->required();
  set_command->add_option("value", *value, "Its value")->required();
  set_command->callback([&context, name, value] {
    context.action = [&context, name, value] { return set(context, *name, *value); };
  });
}

}  // namespace datom::cli

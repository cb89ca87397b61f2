#include "cli/commands.h"

#include <CLI/CLI.hpp>
#include <ostream>

namespace datom::cli {

CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& description,
                      const std::string& example) {
  CLI::App* command = parent.add_subcommand(name, description);
  command->footer("Example:\n  " + example);
  return command;
}

CLI::App* add_noun(CLI::App& parent, const std::string& name, const std::string& description,
                   const std::string& example) {
  CLI::App* noun = add_command(parent, name, description, example);
  noun->require_subcommand(1);
  return noun;
}

void add_version_command(CLI::App& app, Context& context) {
  CLI::App* command = add_command(app, "version", "Show the version", "datom version");
  command->callback([&context] {
    context.action = [&context] {
      context.terminal.out << (context.options.format == Format::json
                                   ? "{\"version\": \"" DATOM_VERSION "\"}\n"
                                   : "datom " DATOM_VERSION "\n");
      return 0;
    };
  });
}

}  // namespace datom::cli

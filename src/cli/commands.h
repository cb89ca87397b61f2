// The commands of `datom`, noun by noun. Each function adds its commands to `app`; a command that
// is parsed sets context.action. `app` and `context` must outlive the parsing and the action.
#pragma once

#include <string>

#include "cli/context.h"

namespace CLI {
class App;
}

namespace datom::cli {

void add_init_command(CLI::App& app, Context& context);
void add_node_commands(CLI::App& app, Context& context);
void add_service_commands(CLI::App& app, Context& context);
void add_volume_commands(CLI::App& app, Context& context);
void add_property_commands(CLI::App& app, Context& context);
void add_status_command(CLI::App& app, Context& context);
void add_process_commands(CLI::App& app, Context& context);  // configservice, volumeserver, dev
void add_completion_command(CLI::App& app, Context& context);
void add_version_command(CLI::App& app, Context& context);

// Of the nouns `volume` and `node`, in files of their own.
void add_verify_command(CLI::App& volume, Context& context);
void add_move_command(CLI::App& volume, Context& context);
void add_drain_command(CLI::App& node, Context& context);

// A command of `parent` whose help ends with `example`.
CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& description,
                      const std::string& example);
// A noun: has commands and does nothing itself.
CLI::App* add_noun(CLI::App& parent, const std::string& name, const std::string& description,
                   const std::string& example);

}  // namespace datom::cli

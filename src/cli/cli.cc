#include "cli/cli.h"

#include <CLI/CLI.hpp>
#include <map>
#include <ostream>

#include "cli/arguments.h"
#include "cli/commands.h"

namespace datom::cli {
namespace {

constexpr const char* kExample =
    "A domain to try out, in one process:\n"
    "  datom dev --root ./datom-dev\n"
    "  datom volume create db --size 10G --root ./datom-dev\n"
    "  nbdinfo nbd://127.0.0.1:10809/db\n";

void add_global_options(CLI::App& app, GlobalOptions& options) {
  const std::map<std::string, Format> formats{{"table", Format::table}, {"json", Format::json}};
  app.add_option("--coordination", options.coordination,
                 "Where coordination is: zk://HOST:PORT[,HOST:PORT...][/PATH]")
      ->type_name("URL");
  app.add_option("--config_service", options.config_service,
                 "Ask this config service, without coordination")
      ->type_name("HOST:PORT");
  app.add_option("--root", options.root, "Where this node keeps its data")
      ->type_name("DIR")
      ->capture_default_str();
  app.add_option("--domain_name", options.domain_name,
                 "The domain (default: the node's, else 'default')")
      ->type_name("NAME");
  app.add_option("-o,--output", options.format, "table or json")
      ->transform(CLI::CheckedTransformer(formats, CLI::ignore_case).description(""))
      ->type_name("FORMAT");
}

void add_commands(CLI::App& app, Context& context) {
  add_init_command(app, context);
  add_node_commands(app, context);
  add_service_commands(app, context);
  add_volume_commands(app, context);
  add_property_commands(app, context);
  add_status_command(app, context);
  add_process_commands(app, context);
  add_completion_command(app, context);
  add_version_command(app, context);
}

int complain(Terminal& terminal, Code code, const std::string& message) {
  terminal.err << "datom: " << name(code) << ": " << message << std::endl;
  return exit_status(code);
}

// CLI11 reports help and version as errors too; real ones are usage errors of one line.
int answer_parse_error(CLI::App& app, Terminal& terminal, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return app.exit(error, terminal.out, terminal.err);
  std::string message = error.what();
  std::replace(message.begin(), message.end(), '\n', ' ');
  return complain(terminal, Code::invalid_argument, message + "; see datom --help");
}

int parse_and_act(CLI::App& app, Context& context, std::vector<std::string> arguments) {
  arguments = spell_out(app, std::move(arguments));
  std::reverse(arguments.begin(), arguments.end());  // the order in which CLI11 takes a vector
  app.parse(arguments);
  return context.action();
}

}  // namespace

int exit_status(Code code) {
  switch (code) {
    case Code::invalid_argument:
      return kUsage;
    case Code::not_found:
      return kNotFound;
    case Code::unavailable:
    case Code::timeout:
    case Code::closed:
    case Code::session_expired:
      return kUnavailable;
    default:
      return kFailed;
  }
}

int run(std::vector<std::string> arguments, std::string executable, Terminal terminal) {
  Context context{terminal, std::move(executable), {}, {}};
  context.options.root = "/var/lib/datom";
  CLI::App app("datom: replicated block volumes on a few machines", "datom");
  app.footer(kExample);
  app.fallthrough();
  app.require_subcommand(1);
  app.set_version_flag("--version", "datom " DATOM_VERSION);
  add_global_options(app, context.options);
  add_commands(app, context);
  try {
    return parse_and_act(app, context, std::move(arguments));
  } catch (const CLI::ParseError& error) {
    return answer_parse_error(app, terminal, error);
  } catch (const Error& error) {
    return complain(terminal, error.code(), error.what());
  } catch (const std::exception& error) {
    return complain(terminal, Code::internal, error.what());
  }
}

}  // namespace datom::cli

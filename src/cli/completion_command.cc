#include <CLI/CLI.hpp>
#include <memory>
#include <ostream>

#include "cli/commands.h"

namespace datom::cli {
namespace {

// What may follow the command at `path` ("volume create"): its commands and options.
std::string words_after(const CLI::App& command) {
  std::string words;
  for (const CLI::App* each : command.get_subcommands([](const CLI::App*) { return true; })) {
    words += each->get_name() + " ";
  }
  for (const CLI::App* app = &command; app != nullptr; app = app->get_parent()) {
    for (const CLI::Option* option : app->get_options()) {
      if (option->get_group().empty()) continue;  // hidden
      for (const std::string& name : option->get_lnames()) words += "--" + name + " ";
    }
  }
  return words;
}

void add_cases(const CLI::App& command, const std::string& path, std::string& cases) {
  cases += "    '" + path + "') words='" + words_after(command) + "' ;;\n";
  for (const CLI::App* each : command.get_subcommands([](const CLI::App*) { return true; })) {
    add_cases(*each, path.empty() ? each->get_name() : path + " " + each->get_name(), cases);
  }
}

// The path of commands so far is found by trying longer and longer ones.
std::string bash_script(const CLI::App& app) {
  std::string cases;
  add_cases(app, "", cases);
  return R"script(# bash completion of datom: eval "$(datom completion bash)"
_datom_words() {
  local words=''
  case "$1" in
)script" +
         cases +
         R"script(    *) return 1 ;;
  esac
  echo "$words"
}
_datom() {
  local path='' word next
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    next="${path:+$path }$word"
    _datom_words "$next" > /dev/null && path="$next"
  done
  COMPREPLY=($(compgen -W "$(_datom_words "$path")" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _datom datom
)script";
}

}  // namespace

void add_completion_command(CLI::App& app, Context& context) {
  CLI::App* completion =
      add_noun(app, "completion", "Completion for a shell", "eval \"$(datom completion bash)\"");
  CLI::App* bash = add_command(*completion, "bash", "Print the completion script of bash",
                               "eval \"$(datom completion bash)\"");
  bash->callback([&app, &context] {
    context.action = [&app, &context] {
      context.terminal.out << bash_script(app);
      return 0;
    };
  });
}

}  // namespace datom::cli

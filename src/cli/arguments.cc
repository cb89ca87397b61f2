#include "cli/arguments.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "common/error.h"

namespace datom::cli {
namespace {

bool is_option(const std::string& argument) {
  return argument.size() > 1 && argument[0] == '-';
}

std::string with_underscores(std::string argument) {
  if (!argument.starts_with("--")) return argument;
  const std::size_t end = std::min(argument.find('='), argument.size());
  std::replace(argument.begin() + 2, argument.begin() + static_cast<std::ptrdiff_t>(end), '-', '_');
  return argument;
}

// Whether the option, known to the command or to one above it, takes the next argument as its
// value.
bool takes_value(const CLI::App* command, const std::string& option) {
  if (option.find('=') != std::string::npos) return false;
  for (; command != nullptr; command = command->get_parent()) {
    const CLI::Option* found = command->get_option_no_throw(option);
    if (found != nullptr) return found->get_items_expected_min() > 0;
  }
  return false;
}

std::string names_of(const std::vector<const CLI::App*>& commands) {
  std::string names;
  for (const CLI::App* command : commands) {
    names += (names.empty() ? "" : ", ") + command->get_name();
  }
  return names;
}

// The command of `parent` that the word means; nullptr where `parent` has no commands.
const CLI::App* find_command(const CLI::App& parent, const std::string& word) {
  const std::vector<const CLI::App*> commands =
      parent.get_subcommands([](const CLI::App*) { return true; });
  if (commands.empty()) return nullptr;
  std::vector<const CLI::App*> fitting;
  for (const CLI::App* command : commands) {
    if (command->get_name() == word) return command;
    if (command->get_name().starts_with(word)) fitting.push_back(command);
  }
  if (fitting.size() == 1) return fitting.front();
  if (fitting.empty()) {
    throw Error(Code::invalid_argument, "there is no command '{}'; there are {}", word,
                names_of(commands));
  }
  throw Error(Code::invalid_argument, "'{}' may be several commands: {}", word, names_of(fitting));
}

}  // namespace

std::vector<std::string> spell_out(const CLI::App& app, std::vector<std::string> arguments) {
  const CLI::App* command = &app;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string& argument = arguments[i];
    if (argument == "--") break;
    if (is_option(argument)) {
      argument = with_underscores(std::move(argument));
      if (takes_value(command, argument)) ++i;
      continue;
    }
    const CLI::App* next = find_command(*command, argument);
    if (next == nullptr) continue;
    argument = next->get_name();
    command = next;
  }
  return arguments;
}

}  // namespace datom::cli

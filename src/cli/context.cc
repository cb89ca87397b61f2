#include "cli/context.h"

#include <istream>
#include <ostream>

#include "common/error.h"

namespace datom::cli {

bool confirm(Context& context, const std::string& plan, const std::string& question) {
  Terminal& terminal = context.terminal;
  if (!terminal.interactive) {
    throw Error(Code::invalid_argument, "{} Nobody can be asked here; give --yes to do it", plan);
  }
  terminal.err << plan << "\n" << question << " [y/N] " << std::flush;
  std::string answer;
  std::getline(terminal.in, answer);
  return answer == "y" || answer == "Y" || answer == "yes";
}

std::string ask(Context& context, const std::string& question, const std::string& preset) {
  Terminal& terminal = context.terminal;
  terminal.err << question << " [" << preset << "] " << std::flush;
  std::string answer;
  if (!std::getline(terminal.in, answer)) {
    throw Error(Code::cancelled, "no answer to: {}", question);
  }
  return answer.empty() ? preset : answer;
}

}  // namespace datom::cli

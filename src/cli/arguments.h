// What makes the command line forgiving before it is parsed.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace datom::cli {

// The arguments (without the program's name) as `app` spells them: '-' in the names of options
// becomes '_' ("--nbd-port" is "--nbd_port"), and command words are completed from unique prefixes
// ("prop ls" is "property ls"). What else it does not know is left for the parser to refuse.
// Throws Error{invalid_argument} where a command word fits none or several, listing them.
std::vector<std::string> spell_out(const CLI::App& app, std::vector<std::string> arguments);

}  // namespace datom::cli

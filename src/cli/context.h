// What every command of `datom` is given.
#pragma once

#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>

namespace datom::cli {

enum class Format { table, json };

// Options that every command takes, before or after its name.
struct GlobalOptions {
  std::string coordination;    // URL; empty: what ROOT/node.json says
  std::string config_service;  // HOST:PORT; empty: found through coordination
  std::string root;
  std::string domain_name;  // empty: what ROOT/node.json says, else "default"
  Format format = Format::table;
};

struct Terminal {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  bool interactive = false;  // somebody can be asked
};

struct Context {
  Terminal terminal;
  std::string executable;  // path of this program, to start services with
  GlobalOptions options;
  // Set by the command that was parsed: what it does. Gives the exit status.
  std::function<int()> action;
};

// Shows `plan` and asks "QUESTION [y/N]". True when the answer is yes. Throws
// Error{invalid_argument} where nobody can be asked.
bool confirm(Context& context, const std::string& plan, const std::string& question);

// Asks for a line; an empty answer is `preset`.
std::string ask(Context& context, const std::string& question, const std::string& preset);

}  // namespace datom::cli

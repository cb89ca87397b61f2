// The command line of `datom`: parses it, does what it says, and gives the exit status.
#pragma once

#include <string>
#include <vector>

#include "cli/context.h"
#include "common/error.h"

namespace datom::cli {

inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;
inline constexpr int kNotFound = 3;
inline constexpr int kUnavailable = 4;

int exit_status(Code code);

// `arguments` without the program's name; `executable` is the program's path, to start services
// with.
int run(std::vector<std::string> arguments, std::string executable, Terminal terminal);

}  // namespace datom::cli

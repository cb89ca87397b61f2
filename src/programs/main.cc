// The one executable of datom.
#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "cli/cli.h"

int main(int argc, char** argv) {
  const datom::cli::Terminal terminal{std::cin, std::cout, std::cerr,
                                      isatty(STDIN_FILENO) != 0 && isatty(STDERR_FILENO) != 0};
  std::error_code unknown;  // without /proc services cannot be started in the background
  const std::string executable = std::filesystem::read_symlink("/proc/self/exe", unknown);
  return datom::cli::run(std::vector<std::string>(argv + 1, argv + argc), executable, terminal);
}

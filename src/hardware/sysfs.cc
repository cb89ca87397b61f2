#include "hardware/sysfs.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace datom::hardware {
namespace {

constexpr std::size_t kMaxLine = 256;
constexpr const char* kBlanks = " \t\r\n";

}  // namespace

std::string read_line(const std::string& path) {
  std::ifstream file(path);
  std::string line(kMaxLine, '\0');
  file.read(line.data(), static_cast<std::streamsize>(line.size()));
  line.resize(static_cast<std::size_t>(file.gcount()));
  line = line.substr(0, line.find('\n'));
  const std::size_t first = line.find_first_not_of(kBlanks);
  if (first == std::string::npos) return {};
  return line.substr(first, line.find_last_not_of(kBlanks) - first + 1);
}

std::uint64_t read_number(const std::string& path) {
  const std::string line = read_line(path);
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), number);
  const bool whole = error == std::errc() && end == line.data() + line.size();
  return whole ? number : 0;
}

std::vector<std::string> list_directory(const std::string& path) {
  std::vector<std::string> names;
  std::error_code ignored;  // a missing directory has no entries
  for (std::filesystem::directory_iterator entry(path, ignored), end; entry != end;
       entry.increment(ignored)) {
    names.push_back(entry->path().filename().string());
    if (ignored) break;
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace datom::hardware

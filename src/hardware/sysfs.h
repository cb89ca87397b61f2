// Small readers of the kernel's one-line files. What is missing or unreadable reads as empty or 0:
// the kernel leaves out what it does not know.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace datom::hardware {

// The first line without surrounding blanks, at most 256 bytes.
std::string read_line(const std::string& path);
// The first line as a number; 0 where it is none, or negative (the kernel's "unknown").
std::uint64_t read_number(const std::string& path);
// Names in the directory, sorted.
std::vector<std::string> list_directory(const std::string& path);

}  // namespace datom::hardware

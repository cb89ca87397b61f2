// Whether clients' histories (tests/faults/load.py) can be those of blocks that behave like
// registers: reads them from the standard input, a line each,
//
//   w BLOCK VALUE BEGIN END|-   a write; `-`: its outcome is unknown
//   r BLOCK VALUE BEGIN END     a read that showed VALUE; 0: never written
//
// with times in nanoseconds; more words on a line are ignored. Exit status 0: every block is
// linearizable; 1: not, and the first block that is not is shown; 2: not such a history.
#include <fmt/core.h>

#include <charconv>
#include <cstdint>
#include <exception>
#include <iostream>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>

#include "sim/history.h"

namespace {

using datom::sim::History;
using datom::sim::Moment;

std::uint64_t number(const std::string& text) {
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end) throw std::runtime_error("'" + text + "' is no number");
  return value;
}

Moment moment(const std::string& text) {
  return Moment(static_cast<Moment::rep>(number(text)));
}

void add(History& history, const std::string& line) {
  std::istringstream words(line);
  std::string kind;
  std::string block;
  std::string value;
  std::string begin;
  std::string end;
  if (!(words >> kind >> block >> value >> begin >> end)) throw std::runtime_error("too few words");
  if (kind == "r") {
    history.read(number(block), number(value), moment(begin), moment(end));
  } else if (kind == "w") {
    const History::Handle write = history.write_begins(number(block), number(value), moment(begin));
    if (end != "-") history.write_ends(write, moment(end));
  } else {
    throw std::runtime_error("neither a read nor a write");
  }
}

// "block 17: ..." names the block.
std::uint64_t block_of(const std::string& violation) {
  return std::stoull(violation.substr(violation.find(' ') + 1));
}

}  // namespace

int main() {
  History history;
  std::string line;
  try {
    while (std::getline(std::cin, line)) add(history, line);
  } catch (const std::exception& error) {
    fmt::print(stderr, "not a history: {}: {}\n", line, error.what());
    return 2;
  }
  if (const auto violation = history.violation()) {
    fmt::print("{}\n{}", *violation, history.of_block(block_of(*violation)));
    return 1;
  }
  fmt::print("{} writes ({} acknowledged) and {} reads: every block is linearizable\n",
             history.writes(), history.acknowledged(), history.reads());
  return 0;
}

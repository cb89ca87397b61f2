#include "cli/size.h"

#include <array>
#include <charconv>
#include <limits>

#include "common/error.h"

namespace datom::cli {
namespace {

constexpr std::string_view kUnits = "KMGTPE";

// How many times 1024 the unit stands for; -1 where it is none.
int power_of(std::string_view unit) {
  if (unit.empty() || unit == "B") return 0;
  const char letter = unit.front() >= 'a' ? static_cast<char>(unit.front() - 'a' + 'A') : unit[0];
  const std::string_view rest = unit.substr(1);
  const std::size_t at = kUnits.find(letter);
  if (at == std::string_view::npos || (!rest.empty() && rest != "iB" && rest != "i")) return -1;
  return static_cast<int>(at) + 1;
}

}  // namespace

std::uint64_t parse_size(std::string_view text, std::string_view what) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  const int power = power_of(unit);
  if (error == std::errc::invalid_argument || power < 0) {
    throw Error(Code::invalid_argument, "{} '{}' is no size; expected e.g. 10G, 512M, 1T or bytes",
                what, text);
  }
  const int shift = 10 * power;
  const bool overflow = number > (std::numeric_limits<std::uint64_t>::max() >> shift);
  if (error == std::errc::result_out_of_range || overflow) {
    throw Error(Code::invalid_argument, "{} '{}' is too large; expected below 16 EiB", what, text);
  }
  return number << shift;
}

std::string human_size(std::uint64_t bytes) {
  int power = 0;
  while (power < static_cast<int>(kUnits.size()) && (bytes >> (10 * (power + 1))) > 0) ++power;
  if (power == 0) return fmt::format("{} B", bytes);
  const char unit = kUnits[static_cast<std::size_t>(power - 1)];
  const std::uint64_t whole = bytes >> (10 * power);
  if (whole << (10 * power) == bytes) return fmt::format("{} {}iB", whole, unit);
  const double value = static_cast<double>(bytes) / static_cast<double>(1ull << (10 * power));
  return fmt::format("{:.1f} {}iB", value, unit);
}

}  // namespace datom::cli

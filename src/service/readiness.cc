#include "service/readiness.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace datom::service {
namespace {

constexpr std::string_view kUp = "up\n";
constexpr std::string_view kFailed = "failed ";

}  // namespace

ReadinessReport::~ReadinessReport() {
  if (descriptor_ >= 0) close(descriptor_);
}

void ReadinessReport::up() {
  report(std::string(kUp));
}

void ReadinessReport::failed(const Error& why) {
  std::string message = why.what();
  std::replace(message.begin(), message.end(), '\n', ' ');
  report(fmt::format("{}{} {}\n", kFailed, static_cast<unsigned>(why.code()), message));
}

void ReadinessReport::report(const std::string& line) {
  const int descriptor = std::exchange(descriptor_, -1);
  if (descriptor < 0) return;
  // Who started the service may have gone; that is no reason to stop.
  (void)!write(descriptor, line.data(), line.size());
  close(descriptor);
}

std::optional<Error> parse_readiness(std::string_view line) {
  if (line == kUp) return std::nullopt;
  if (line.starts_with(kFailed) && line.ends_with('\n')) {
    std::string_view rest = line.substr(kFailed.size());
    rest.remove_suffix(1);
    std::uint16_t code = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), code);
    const std::size_t digits = static_cast<std::size_t>(end - rest.data());
    if (error == std::errc() && digits < rest.size()) {
      return Error(code_from_wire(code), std::string(rest.substr(digits + 1)));
    }
  }
  throw Error(Code::corrupt, "the service reported '{}', expected 'up' or 'failed CODE WHY'", line);
}

}  // namespace datom::service

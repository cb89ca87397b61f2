#include "coordination/checks.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/error.h"

namespace datom::coordination {
namespace {

bool printable(char character) {
  return character >= 0x20 && character < 0x7f;
}

bool valid_components(std::string_view path) {
  while (!path.empty()) {
    path.remove_prefix(1);  // the slash
    const std::string_view component = path.substr(0, path.find('/'));
    if (component.empty() || component == "." || component == "..") return false;
    path.remove_prefix(component.size());
  }
  return true;
}

void check_data(std::string_view path, std::size_t size) {
  if (size <= kMaxData) return;
  throw Error(Code::too_large, "{}: {} bytes of data, at most {} are allowed", path, size,
              kMaxData);
}

std::size_t data_of(const Create& step) {
  return step.data.size();
}
std::size_t data_of(const Set& step) {
  return step.data.size();
}
std::size_t data_of(const Delete&) {
  return 0;
}
std::size_t data_of(const Check&) {
  return 0;
}

struct Verb {
  const char* operator()(const Create&) const { return "create"; }
  const char* operator()(const Set&) const { return "set"; }
  const char* operator()(const Delete&) const { return "delete"; }
  const char* operator()(const Check&) const { return "check"; }
};

}  // namespace

void check_path(std::string_view path) {
  if (path.size() > kMaxPath) {
    throw Error(Code::too_large, "coordination path of {} bytes, at most {} are allowed",
                path.size(), kMaxPath);
  }
  if (path == "/") return;
  const bool readable = std::all_of(path.begin(), path.end(), printable);
  if (!readable || path.empty() || path.front() != '/' || !valid_components(path)) {
    throw Error(Code::invalid_argument, "\"{}\" is no coordination path: expected /name/name...",
                readable ? path : "(unprintable)");
  }
}

void check_step(const Create& step) {
  check_path(step.path);
  check_data(step.path, step.data.size());
  if (step.path == "/" && step.options.sequential) {
    throw Error(Code::invalid_argument, "create /: a sequential node needs a name");
  }
}

void check_step(const Set& step) {
  check_path(step.path);
  check_data(step.path, step.data.size());
}

void check_step(const Delete& step) {
  check_path(step.path);
  if (step.path == "/") throw Error(Code::invalid_argument, "delete /: the root stays");
}

void check_step(const Check& step) {
  check_path(step.path);
}

void check_operations(const std::vector<Operation>& operations) {
  if (operations.size() > kMaxOperations) {
    throw Error(Code::too_large, "multi of {} steps, at most {} are allowed", operations.size(),
                kMaxOperations);
  }
  std::size_t total = 0;
  for (const Operation& operation : operations) {
    std::visit([](const auto& step) { check_step(step); }, operation);
    total += std::visit([](const auto& step) { return data_of(step); }, operation);
  }
  check_data("multi", total);
}

const std::string& path_of(const Operation& operation) {
  return std::visit([](const auto& step) -> const std::string& { return step.path; }, operation);
}

std::string describe(const Operation& operation) {
  return fmt::format("{} {}", std::visit(Verb{}, operation), path_of(operation));
}

std::string parent_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return std::string(path.substr(0, std::max<std::size_t>(slash, 1)));
}

}  // namespace datom::coordination

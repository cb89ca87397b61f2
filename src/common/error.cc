#include "common/error.h"

#include <array>
#include <cerrno>
#include <system_error>

namespace datom {
namespace {

constexpr std::array<std::string_view, 20> kNames = {"",
                                                     "internal",
                                                     "invalid_argument",
                                                     "not_found",
                                                     "already_exists",
                                                     "conflict",
                                                     "unavailable",
                                                     "timeout",
                                                     "closed",
                                                     "outcome_unknown",
                                                     "corrupt",
                                                     "no_space",
                                                     "io_error",
                                                     "permission_denied",
                                                     "not_leader",
                                                     "stale_term",
                                                     "too_large",
                                                     "unsupported",
                                                     "cancelled",
                                                     "session_expired"};

Code code_of_errno(int value) {
  switch (value) {
    case ENOSPC:
    case EDQUOT:
      return Code::no_space;
    case ENOENT:
      return Code::not_found;
    case EEXIST:
      return Code::already_exists;
    case EACCES:
    case EPERM:
      return Code::permission_denied;
    default:
      return Code::io_error;
  }
}

}  // namespace

std::string_view name(Code code) {
  const auto number = static_cast<std::size_t>(code);
  return number > 0 && number < kNames.size() ? kNames[number] : "internal";
}

Code code_from_wire(std::uint16_t number) {
  return number > 0 && number < kNames.size() ? static_cast<Code>(number) : Code::internal;
}

void throw_errno(int errno_value, std::string_view what) {
  throw Error(code_of_errno(errno_value), "{}: {}", what,
              std::generic_category().message(errno_value));
}

}  // namespace datom

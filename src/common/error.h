// The one way an operation fails: an Error with a stable code for programs and a message for people
// that names the object, what was found and what was expected.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace datom {

// Stable: the numbers cross the wire (docs/formats.md). Append only.
enum class Code : std::uint16_t {
  internal = 1,
  invalid_argument = 2,  // the caller's request is wrong, now and always
  not_found = 3,
  already_exists = 4,
  conflict = 5,         // an expected version or state was not there; read again and decide
  unavailable = 6,      // not now; a later attempt may succeed; certainly had no effect
  timeout = 7,          // no answer in time: the outcome is unknown
  closed = 8,           // the object, connection or session is closed
  outcome_unknown = 9,  // sent, connection lost: it may or may not have happened
  corrupt = 10,         // stored or received bytes fail their checksum or bounds
  no_space = 11,
  io_error = 12,           // the operating system refused; the message holds errno's text
  permission_denied = 13,  // includes: another writer holds the volume
  not_leader = 14,
  stale_term = 15,
  too_large = 16,
  unsupported = 17,
  cancelled = 18,
  session_expired = 19,  // of the coordination session, or of a volume session that was fenced
};

// The code's name as it is written in logs, JSON and error messages, e.g. "not_found".
std::string_view name(Code code);

// The code with that number, or Code::internal if the number is none of ours (a newer peer).
Code code_from_wire(std::uint16_t number);

class Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& message) : std::runtime_error(message), code_(code) {}

  template <typename First, typename... Rest>
  Error(Code code, fmt::format_string<First, Rest...> format, First&& first, Rest&&... rest)
      : std::runtime_error(
            fmt::format(format, std::forward<First>(first), std::forward<Rest>(rest)...)),
        code_(code) {}

  Code code() const { return code_; }

 private:
  Code code_;
};

// Throws Error{io_error}: "WHAT: TEXT OF errno_value". ENOSPC and EDQUOT become Code::no_space,
// ENOENT not_found, EEXIST already_exists, EACCES and EPERM permission_denied.
[[noreturn]] void throw_errno(int errno_value, std::string_view what);

}  // namespace datom

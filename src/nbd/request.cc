#include "nbd/request.h"

#include <fmt/core.h>

#include <string_view>

#include "nbd/server.h"

namespace datom::nbd {
namespace {

// What the protocol says of a command, whoever asks.
struct Rules {
  std::string_view name;
  std::uint16_t flags = 0;  // that may be set
  bool changes = false;     // the export's content
  bool bounded = false;     // moves `length` bytes over the wire
  bool ranged = true;       // offset and length name a part of the export
  Errno beyond_end = Errno::einval;
};

std::optional<Rules> rules_of(const Request& request, const Session& session) {
  switch (request.command) {
    case Command::read:
      return Rules{
          .name = "read",
          .flags = static_cast<std::uint16_t>(session.structured ? kFua | kDontFragment : kFua),
          .bounded = true};
    case Command::write:
      return Rules{.name = "write",
                   .flags = kFua,
                   .changes = true,
                   .bounded = true,
                   .beyond_end = Errno::enospc};
    case Command::flush:
      return Rules{.name = "flush", .flags = kFua, .ranged = false};
    case Command::trim:
      return Rules{.name = "trim", .flags = kFua, .changes = true};
    case Command::write_zeroes:
      return Rules{.name = "write zeroes",
                   .flags = kFua | kNoHole | kFastZero,
                   .changes = true,
                   .beyond_end = Errno::enospc};
    case Command::block_status:
      return Rules{.name = "block status", .flags = kFua | kRequestOne};
    case Command::disconnect:
      break;
  }
  return std::nullopt;
}

// Zeroing whole blocks drops them; anything less is read, changed and written as a write would be.
bool zeroes_fast(const Request& request, const Session& session) {
  if ((request.flags & kNoHole) != 0) return false;
  if (request.length == 0) return true;
  const std::uint64_t into_block = request.offset % session.block;
  const std::uint64_t to_boundary = into_block == 0 ? 0 : session.block - into_block;
  return request.length >= to_boundary + session.block;
}

}  // namespace

std::optional<Refusal> refuse(const Request& request, const Session& session) {
  const std::optional<Rules> rules = rules_of(request, session);
  if (!rules) {
    return Refusal{Errno::einval, fmt::format("command {} is not supported",
                                              static_cast<std::uint16_t>(request.command))};
  }
  if (const unsigned unknown = request.flags & ~unsigned{rules->flags}; unknown != 0) {
    return Refusal{Errno::einval,
                   fmt::format("{} does not take flags {:#x}", rules->name, unknown)};
  }
  if (rules->changes && session.read_only) {
    return Refusal{Errno::eperm, fmt::format("{}: the export is read-only", rules->name)};
  }
  if (!rules->ranged) {
    if (request.offset == 0 && request.length == 0) return std::nullopt;
    return Refusal{Errno::einval, fmt::format("{} takes neither offset nor length", rules->name)};
  }
  if (rules->bounded && request.length > kMaxRequestBytes) {
    return Refusal{Errno::einval, fmt::format("{} of {} bytes; at most {} are allowed", rules->name,
                                              request.length, kMaxRequestBytes)};
  }
  if (request.offset > session.size || request.length > session.size - request.offset) {
    return Refusal{rules->beyond_end,
                   fmt::format("{} of {} bytes at {} goes beyond the end of the export at {}",
                               rules->name, request.length, request.offset, session.size)};
  }
  if (request.command == Command::block_status) {
    if (!session.base_allocation) {
      return Refusal{Errno::einval, "block status: no metadata context was negotiated"};
    }
    if (request.length == 0) return Refusal{Errno::einval, "block status of no bytes"};
  }
  if ((request.flags & kFastZero) != 0 && !zeroes_fast(request, session)) {
    return Refusal{Errno::enotsup, "write zeroes would not be faster than a write here"};
  }
  return std::nullopt;
}

std::uint32_t payload_size(const Request& request) {
  return request.command == Command::write ? request.length : 0;
}

Errno errno_of(Code code) {
  switch (code) {
    case Code::permission_denied:
      return Errno::eperm;
    case Code::no_space:
      return Errno::enospc;
    case Code::invalid_argument:
    case Code::too_large:
    case Code::unsupported:
      return Errno::einval;
    case Code::closed:
    case Code::cancelled:
      return Errno::eshutdown;
    case Code::internal:
    case Code::not_found:
    case Code::already_exists:
    case Code::conflict:
    case Code::unavailable:
    case Code::timeout:
    case Code::outcome_unknown:
    case Code::corrupt:
    case Code::io_error:
    case Code::not_leader:
    case Code::stale_term:
    case Code::session_expired:
      return Errno::eio;
  }
  return Errno::eio;
}

}  // namespace datom::nbd

// Which requests are refused before they reach the export, and the error numbers of NBD.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/error.h"
#include "nbd/wire.h"

namespace datom::nbd {

// What the handshake of a connection has settled.
struct Session {
  std::uint64_t size = 0;
  std::uint32_t block = 4096;  // the unit that can be zeroed without writing
  bool read_only = false;
  bool structured = false;
  bool base_allocation = false;  // block status may be asked for
};

// An answer of failure.
struct Refusal {
  Errno error{};
  std::string message;
};

// Why `request` cannot be carried out, or nullopt. Not for Command::disconnect.
std::optional<Refusal> refuse(const Request& request, const Session& session);

// How many bytes of payload follow the request.
std::uint32_t payload_size(const Request& request);

// The table of docs/nbd.md.
Errno errno_of(Code code);

}  // namespace datom::nbd

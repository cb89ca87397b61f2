// The first frame of each side of a connection: who speaks, whom it means, and what both
// understand.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "rpc/frame.h"

namespace datom::rpc {

inline constexpr std::uint16_t kProtocolVersion = 1;
// A hello is small: all that a stranger may send.
inline constexpr FrameBounds kHelloBounds = {4096, 0};

// As the header of a hello or hello_reply frame: protocol version (u16), shard (u32), then domain,
// sender and meant, each with its length before it (u16). What follows is ignored: a later version
// may say more.
struct Hello {
  std::uint16_t protocol_version = kProtocolVersion;
  std::uint32_t shard = 0;  // which loop of the receiver should serve the connection
  std::string domain;       // "" where the sender knows none yet
  std::string sender;       // service; "" for a command
  std::string meant;        // the service the sender wants to speak to; "" for whoever is there

  std::string encode() const;
  // Throws Error{corrupt}.
  static Hello decode(std::string_view header);
};

// Throws Error{unsupported} or Error{invalid_argument} saying what is wrong where `hello` is not
// for service `self` of `domain`. An empty name on either side fits any.
void check_hello(const Hello& hello, const std::string& domain, const std::string& self);

}  // namespace datom::rpc

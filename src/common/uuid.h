// Identity of a node, a replica, a volume or an instance: 128 random bits (RFC 9562, version 4).
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace datom {

struct Uuid {
  std::array<std::uint8_t, 16> bytes{};

  // A version 4 uuid of 128 random bits (six of them overwritten by version and variant).
  static Uuid from_random(std::uint64_t high, std::uint64_t low);
  // "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", lower or upper case; nullopt for anything else.
  static std::optional<Uuid> parse(std::string_view text);

  bool is_nil() const { return *this == Uuid{}; }
  std::string to_string() const;
  auto operator<=>(const Uuid&) const = default;
};

}  // namespace datom

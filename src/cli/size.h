// Sizes as people write and read them: powers of 1024.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace datom::cli {

// Bytes of "10G", "512M", "1T", "64KiB" or "4096". Throws Error{invalid_argument} naming `what`.
std::uint64_t parse_size(std::string_view text, std::string_view what);

// "10 GiB", "1.5 TiB", "512 B": one decimal where it is not exact.
std::string human_size(std::uint64_t bytes);

}  // namespace datom::cli

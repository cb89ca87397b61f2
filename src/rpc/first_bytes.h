// What a connection is, told from its first bytes.
#pragma once

#include <string_view>

namespace datom::rpc {

inline constexpr std::size_t kFirstBytes = 4;

enum class Speech { rpc, http, unknown };

// REQUIRES: at least kFirstBytes bytes.
Speech speech_of(std::string_view first_bytes);

}  // namespace datom::rpc

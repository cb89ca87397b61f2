// Services as they are given to `datom addnode --service`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "service/node_file.h"

namespace datom::cli {

inline constexpr std::uint16_t kConfigServicePort = 7400;
inline constexpr std::uint16_t kVolumeServerPort = 7401;
inline constexpr std::uint16_t kNbdPort = 10809;

// "NAME=TYPE[:PORT[:NBD_PORT]]", e.g. "vs1=volumeserver:7401:10809". Throws
// Error{invalid_argument}.
service::NodeService parse_service_spec(std::string_view text);

// The same, as text.
std::string service_spec(const service::NodeService& service);

// `services` with those of `more` added; one of the same name is replaced.
std::vector<service::NodeService> merged(std::vector<service::NodeService> services,
                                         const std::vector<service::NodeService>& more);

}  // namespace datom::cli

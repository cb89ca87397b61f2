// The JSON API of the config service (docs/api.md): its requests, over HTTP.
#pragma once

#include <string_view>

#include "config_service/config_service.h"
#include "http/http.h"

namespace datom::admin {

inline constexpr std::string_view kApiPrefix = "/api/v1/";

// Answers everything under kApiPrefix. What fails is answered with the status of its code and
// {"error": {"code": NAME, "message": TEXT}}. `service` must outlive the handler; on its loop.
http::Handler config_api(config_service::ConfigService& service);

}  // namespace datom::admin

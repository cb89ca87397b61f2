// The pages of every service, for people and scrapers: /healthz and /metrics.
#pragma once

#include <functional>
#include <string>

#include "http/http.h"
#include "telemetry/metrics.h"

namespace datom::admin {

struct Health {
  bool up = false;     // it does what it is there for
  std::string reason;  // why not, one line
};

// Both are called on the loop that serves the connection, and must outlive the handler.
http::Handler service_pages(const telemetry::Metrics& metrics, std::function<Health()> health);

// What is under /api/v1/ goes to `api` (api.h), the rest to `pages`.
http::Handler with_api(http::Handler pages, http::Handler api);

// Whether the request only reads: GET, or HEAD, which is answered likewise.
bool is_read(const http::Request& request);

}  // namespace datom::admin

// HTTP on a service's port.
#pragma once

#include <memory>
#include <string>

#include "http/http.h"
#include "rpc/server.h"

namespace datom::service {

// Serves HTTP connections of the rpc::Server on `loop`, which outlives it, with `handler`.
rpc::Server::OnHttp serve_http(runtime::Loop& loop, http::Handler handler);

}  // namespace datom::service

#include "admin/pages.h"

#include "admin/api.h"

namespace datom::admin {
namespace {

using http::Request;
using http::Response;
using runtime::Task;

Response text(int status, std::string body) {
  Response response;
  response.status = status;
  response.body = std::move(body);
  return response;
}

Response health_page(const Health& health) {
  return health.up ? text(200, "ok\n") : text(503, health.reason + "\n");
}

Response metrics_page(const telemetry::Metrics& metrics) {
  Response response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body = metrics.text();
  return response;
}

Response page(const telemetry::Metrics& metrics, const std::function<Health()>& health,
              const Request& request) {
  const bool known = request.path == "/healthz" || request.path == "/metrics";
  if (!known) return text(404, "not_found: there is no page " + request.path + "\n");
  if (!is_read(request)) return text(405, "unsupported: this page is only read, with GET\n");
  return request.path == "/healthz" ? health_page(health()) : metrics_page(metrics);
}

Task<Response> ready(Response response) {
  co_return response;
}

}  // namespace

bool is_read(const Request& request) {
  return request.method == "GET" || request.method == "HEAD";
}

http::Handler service_pages(const telemetry::Metrics& metrics, std::function<Health()> health) {
  return [&metrics, health = std::move(health)](Request request) {
    return ready(page(metrics, health, request));
  };
}

http::Handler with_api(http::Handler pages, http::Handler api) {
  return [pages = std::move(pages), api = std::move(api)](Request request) {
    return request.path.starts_with(kApiPrefix) ? api(std::move(request))
                                                : pages(std::move(request));
  };
}

}  // namespace datom::admin

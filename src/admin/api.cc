#include "admin/api.h"

#include <fmt/core.h>

#include <boost/json.hpp>
#include <charconv>
#include <optional>
#include <vector>

#include "admin/pages.h"
#include "common/error.h"
#include "protocol/config.pb.h"
#include "protocol/json.h"

namespace datom::admin {
namespace {

using config_service::ConfigService;
using http::Request;
using http::Response;
using runtime::Task;

// A request, and the part of its path that names an object, if its route has one.
struct Call {
  Request request;
  std::string name;
};

using Answer = Task<Response> (*)(ConfigService&, Call);

struct Route {
  std::string_view method;
  std::string_view path;  // behind kApiPrefix; a part "*" stands for a name
  Answer answer;
};

Response json(int status, const google::protobuf::Message& message) {
  Response response;
  response.status = status;
  response.content_type = "application/json";
  response.body = protocol::to_json(message) + "\n";
  return response;
}

Response error_response(int status, std::string_view code, std::string_view message) {
  boost::json::object error;
  error["code"] = boost::json::string_view(code.data(), code.size());
  error["message"] = boost::json::string_view(message.data(), message.size());
  Response response;
  response.status = status;
  response.content_type = "application/json";
  response.body = boost::json::serialize(boost::json::object{{"error", std::move(error)}}) + "\n";
  return response;
}

std::string query_text(const Request& request, std::string_view name) {
  return http::query_value(request.query, name).value_or("");
}

// 0 where it is not given.
std::uint32_t query_number(const Request& request, std::string_view name) {
  const std::string text = query_text(request, name);
  if (text.empty()) return 0;
  std::uint32_t number = 0;
  const char* end = text.data() + text.size();
  const auto [stopped_at, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stopped_at != end) {
    throw Error(Code::invalid_argument, "{} is '{}', expected a whole number", name,
                text.substr(0, 80));
  }
  return number;
}

// The body as a message. The content type is insisted on: a browser sends it across origins only
// after asking, and is not answered.
void read_body(const Request& request, google::protobuf::Message& message) {
  const std::string_view type = std::string_view(request.content_type).substr(0, 16);
  if (type != "application/json") {
    throw Error(Code::invalid_argument, "content type is '{}', expected application/json",
                request.content_type.substr(0, 80));
  }
  protocol::from_json(request.body, message);
}

Task<Response> status(ConfigService& service, Call call) {
  protocol::StatusRequest request;
  request.set_volumes_after(query_text(call.request, "volumes_after"));
  const protocol::StatusReply reply = co_await service.status(std::move(request));
  co_return json(200, reply);
}

Task<Response> nodes(ConfigService& service, Call) {
  const protocol::ListNodesReply reply = co_await service.list_nodes({});
  co_return json(200, reply);
}

Task<Response> services(ConfigService& service, Call) {
  const protocol::ListServicesReply reply = co_await service.list_services({});
  co_return json(200, reply);
}

Task<Response> volumes(ConfigService& service, Call call) {
  protocol::ListVolumesRequest request;
  request.set_after(query_text(call.request, "after"));
  const protocol::ListVolumesReply reply = co_await service.list_volumes(std::move(request));
  co_return json(200, reply);
}

Task<Response> volume(ConfigService& service, Call call) {
  protocol::VolumeInfoRequest request;
  request.set_name(call.name);
  const protocol::VolumeInfoReply reply = co_await service.volume_info(std::move(request));
  co_return json(200, reply.volume());
}

Task<Response> create_volume(ConfigService& service, Call call) {
  protocol::CreateVolumeRequest request;
  read_body(call.request, request);
  const protocol::CreateVolumeReply reply = co_await service.create_volume(std::move(request));
  co_return json(201, reply.volume());
}

Task<Response> remove_volume(ConfigService& service, Call call) {
  protocol::RemoveVolumeRequest request;
  request.set_name(call.name);
  request.set_wait_ms(query_number(call.request, "wait_ms"));
  const protocol::RemoveVolumeReply reply = co_await service.remove_volume(std::move(request));
  co_return json(200, reply);
}

Task<Response> set_volume(ConfigService& service, Call call) {
  protocol::SetVolumeRequest request;
  read_body(call.request, request);
  request.set_name(call.name);
  const protocol::SetVolumeReply reply = co_await service.set_volume(std::move(request));
  co_return json(200, reply.volume());
}

Task<Response> node(ConfigService& service, Call call) {
  protocol::NodeInfoRequest request;
  request.set_name(call.name);
  const protocol::NodeInfoReply reply = co_await service.node_info(std::move(request));
  co_return json(200, reply.node());
}

Task<Response> drain_node(ConfigService& service, Call call) {
  protocol::DrainNodeRequest request;
  request.set_name(call.name);
  request.set_cancel(call.request.method == "DELETE");
  const protocol::DrainNodeReply reply = co_await service.drain_node(std::move(request));
  co_return json(200, reply.node());
}

Task<Response> move_volume(ConfigService& service, Call call) {
  protocol::MoveVolumeRequest request;
  read_body(call.request, request);
  request.set_name(call.name);
  const protocol::MoveVolumeReply reply = co_await service.move_volume(std::move(request));
  co_return json(202, reply.volume());
}

Task<Response> cancel_move(ConfigService& service, Call call) {
  protocol::CancelMoveRequest request;
  request.set_name(call.name);
  request.set_wait_ms(query_number(call.request, "wait_ms"));
  const protocol::CancelMoveReply reply = co_await service.cancel_move(std::move(request));
  co_return json(200, reply.volume());
}

Task<Response> properties(ConfigService& service, Call) {
  const protocol::ListPropertiesReply reply = co_await service.list_properties({});
  co_return json(200, reply);
}

Task<Response> property(ConfigService& service, Call call) {
  protocol::GetPropertyRequest request;
  request.set_name(call.name);
  const protocol::GetPropertyReply reply = co_await service.get_property(std::move(request));
  co_return json(200, reply.property());
}

Task<Response> set_property(ConfigService& service, Call call) {
  protocol::SetPropertyRequest request;
  read_body(call.request, request);
  request.set_name(call.name);
  if (request.changed_by().empty()) request.set_changed_by("http");
  const protocol::SetPropertyReply reply = co_await service.set_property(std::move(request));
  co_return json(200, reply.property());
}

constexpr Route kRoutes[] = {
    {"GET", "status", status},
    {"GET", "nodes", nodes},
    {"GET", "nodes/*", node},
    {"PUT", "nodes/*/drain", drain_node},
    {"DELETE", "nodes/*/drain", drain_node},
    {"GET", "services", services},
    {"GET", "volumes", volumes},
    {"POST", "volumes", create_volume},
    {"GET", "volumes/*", volume},
    {"DELETE", "volumes/*", remove_volume},
    {"PUT", "volumes/*/limits", set_volume},
    {"PUT", "volumes/*/move", move_volume},
    {"DELETE", "volumes/*/move", cancel_move},
    {"GET", "properties", properties},
    {"GET", "properties/*", property},
    {"PUT", "properties/*", set_property},
};

// The name that `path` has in the place of the route's "*", "" if it has none; nullopt where the
// path is another.
std::optional<std::string> match(const Route& route, std::string_view path) {
  const std::size_t star = route.path.find('*');
  if (star == std::string_view::npos) {
    return path == route.path ? std::optional<std::string>("") : std::nullopt;
  }
  const std::string_view before = route.path.substr(0, star);
  const std::string_view after = route.path.substr(star + 1);
  if (path.size() <= before.size() + after.size()) return std::nullopt;
  if (!path.starts_with(before) || !path.ends_with(after)) return std::nullopt;
  const std::string_view name =
      path.substr(before.size(), path.size() - before.size() - after.size());
  if (name.find('/') != std::string_view::npos) return std::nullopt;
  return std::string(name);
}

Task<Response> no_route(const Request& request, const std::string& methods) {
  if (methods.empty()) {
    co_return error_response(404, name(Code::not_found),
                             fmt::format("there is no {}", request.path.substr(0, 200)));
  }
  co_return error_response(405, name(Code::unsupported),
                           fmt::format("{} of {} is not possible, expected {}", request.method,
                                       request.path.substr(0, 200), methods));
}

Task<Response> answer(ConfigService& service, Request request) {
  const std::string path = request.path.substr(kApiPrefix.size());
  const std::string method = is_read(request) ? "GET" : request.method;
  std::string methods;  // those that the path has
  for (const Route& route : kRoutes) {
    const std::optional<std::string> name = match(route, path);
    if (!name) continue;
    if (route.method == method) co_return co_await route.answer(service, {request, *name});
    if (!methods.empty()) methods += " or ";
    methods += route.method;
  }
  co_return co_await no_route(request, methods);
}

Task<Response> answer_or_error(ConfigService& service, Request request) {
  try {
    co_return co_await answer(service, std::move(request));
  } catch (const Error& error) {
    co_return error_response(http::status_of(error.code()), name(error.code()), error.what());
  }
}

}  // namespace

http::Handler config_api(ConfigService& service) {
  return [&service](Request request) { return answer_or_error(service, std::move(request)); };
}

}  // namespace datom::admin

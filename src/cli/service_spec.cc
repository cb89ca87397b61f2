#include "cli/service_spec.h"

#include <algorithm>
#include <charconv>

#include "common/error.h"

namespace datom::cli {
namespace {

using protocol::ServiceType;

[[noreturn]] void refuse(std::string_view text, std::string_view why) {
  throw Error(Code::invalid_argument,
              "--service '{}': {}; expected NAME=volumeserver[:PORT[:NBD_PORT]] or "
              "NAME=configservice[:PORT]",
              text, why);
}

// Cuts the part up to the next ':' off `rest`.
std::string_view take(std::string_view& rest) {
  const std::size_t colon = rest.find(':');
  const std::string_view part = rest.substr(0, colon);
  rest = colon == std::string_view::npos ? std::string_view() : rest.substr(colon + 1);
  return part;
}

std::uint16_t take_port(std::string_view text, std::string_view& rest, std::uint16_t preset) {
  if (rest.empty()) return preset;
  const std::string_view part = take(rest);
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), port);
  if (error != std::errc() || end != part.data() + part.size() || port == 0) {
    refuse(text, fmt::format("'{}' is no port", part));
  }
  return port;
}

}  // namespace

service::NodeService parse_service_spec(std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos) refuse(text, "it has no '='");
  service::NodeService service;
  service.name = text.substr(0, equals);
  if (!protocol::valid_name(service.name)) {
    refuse(text, "its name is none (1 to 63 of a-z, 0-9, '.', '_', '-')");
  }
  std::string_view rest = text.substr(equals + 1);
  service.type = service::parse_service_type(take(rest));
  const bool volumes = service.type == ServiceType::volume_server;
  service.port = take_port(text, rest, volumes ? kVolumeServerPort : kConfigServicePort);
  if (volumes) service.nbd_port = take_port(text, rest, kNbdPort);
  if (!rest.empty()) refuse(text, fmt::format("'{}' is too much", rest));
  return service;
}

std::string service_spec(const service::NodeService& service) {
  std::string text = fmt::format("{}={}:{}", service.name, name(service.type), service.port);
  if (service.nbd_port != 0) text += fmt::format(":{}", service.nbd_port);
  return text;
}

std::vector<service::NodeService> merged(std::vector<service::NodeService> services,
                                         const std::vector<service::NodeService>& more) {
  for (const service::NodeService& each : more) {
    const auto same = std::find_if(services.begin(), services.end(),
                                   [&each](const auto& old) { return old.name == each.name; });
    if (same == services.end()) {
      services.push_back(each);
    } else {
      *same = each;
    }
  }
  return services;
}

}  // namespace datom::cli

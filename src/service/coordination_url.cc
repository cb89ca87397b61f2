#include "service/coordination_url.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "common/error.h"

namespace datom::service {
namespace {

constexpr std::string_view kZooKeeperScheme = "zk://";
constexpr std::string_view kConfigScheme = "config://";
constexpr std::string_view kZooKeeperPort = "2181";

[[noreturn]] void refuse(std::string_view url, std::string_view why) {
  throw Error(Code::invalid_argument,
              "coordination '{}': {}; expected zk://HOST:PORT[,HOST:PORT...][/PATH]", url, why);
}

bool is_port(std::string_view text) {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port >= 1 && port <= 65535;
}

bool is_host(std::string_view text) {
  if (text.size() > 2 && text.front() == '[' && text.back() == ']') return true;  // IPv6
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_';
  });
}

// "host:port" from "host:port", or from "host" where there is a default.
std::string server(std::string_view url, std::string_view text, std::string_view default_port) {
  const std::size_t bracket = text.rfind(']');
  const std::size_t colon = text.find(':', bracket == std::string_view::npos ? 0 : bracket);
  const std::string_view host = text.substr(0, colon);
  const std::string_view port =
      colon == std::string_view::npos ? default_port : text.substr(colon + 1);
  if (!is_host(host)) refuse(url, fmt::format("'{}' is no host", host));
  if (!is_port(port)) refuse(url, fmt::format("'{}' is no port", port));
  return fmt::format("{}:{}", host, port);
}

std::string zookeeper_target(std::string_view url) {
  const std::string_view rest = url.substr(kZooKeeperScheme.size());
  const std::size_t slash = rest.find('/');
  std::string_view hosts = rest.substr(0, slash);
  std::string_view chroot = slash == std::string_view::npos ? "" : rest.substr(slash);
  while (chroot.ends_with('/')) chroot.remove_suffix(1);

  std::string target;
  while (true) {
    const std::size_t comma = hosts.find(',');
    if (!target.empty()) target += ',';
    target += server(url, hosts.substr(0, comma), kZooKeeperPort);
    if (comma == std::string_view::npos) break;
    hosts.remove_prefix(comma + 1);
  }
  if (chroot.find("//") != std::string_view::npos) refuse(url, "its path has an empty name");
  return target + std::string(chroot);
}

}  // namespace

CoordinationUrl CoordinationUrl::parse(std::string_view text) {
  if (text.starts_with(kZooKeeperScheme)) return {Kind::zookeeper, zookeeper_target(text)};
  if (text.starts_with(kConfigScheme)) {
    return {Kind::config_service, server(text, text.substr(kConfigScheme.size()), "")};
  }
  refuse(text, "unknown scheme");
}

std::string CoordinationUrl::to_string() const {
  return std::string(kind == Kind::zookeeper ? kZooKeeperScheme : kConfigScheme) + target;
}

}  // namespace datom::service

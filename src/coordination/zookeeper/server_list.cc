#include "coordination/zookeeper/server_list.h"

#include <charconv>
#include <cstddef>
#include <cstdint>

#include "common/error.h"
#include "coordination/checks.h"

namespace datom::coordination::zookeeper {
namespace {

constexpr std::size_t kMaxLength = 4096;
constexpr std::uint16_t kDefaultPort = 2181;

bool valid_host(std::string_view host) {
  const auto allowed = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '-' || c == '_' || c == ':' || c == '%';
  };
  if (host.empty()) return false;
  for (const char c : host) {
    if (!allowed(c)) return false;
  }
  return true;
}

std::uint16_t port_of(std::string_view server, std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port == 0) {
    throw Error(Code::invalid_argument, "ZooKeeper server \"{}\": \"{}\" is no port", server, text);
  }
  return port;
}

std::string normal_server(std::string_view server) {
  std::string_view host = server;
  std::string_view rest;
  if (!server.empty() && server.front() == '[') {
    const std::size_t bracket = server.find(']');
    host = server.substr(1, bracket == server.npos ? 0 : bracket - 1);
    if (bracket != server.npos) rest = server.substr(bracket + 1);
  } else if (const std::size_t colon = server.find(':'); colon != server.npos) {
    host = server.substr(0, colon);
    rest = server.substr(colon);
  }
  if (!valid_host(host)) {
    throw Error(Code::invalid_argument, "ZooKeeper server \"{}\": expected host:port", server);
  }
  std::uint16_t port = kDefaultPort;
  if (!rest.empty()) {
    if (rest.front() != ':') {
      throw Error(Code::invalid_argument, "ZooKeeper server \"{}\": expected host:port", server);
    }
    port = port_of(server, rest.substr(1));
  }
  return fmt::format("{}:{}", host, port);
}

}  // namespace

std::string normal_server_list(std::string_view text) {
  if (text.size() > kMaxLength) {
    throw Error(Code::invalid_argument, "ZooKeeper server list of {} bytes, at most {} are allowed",
                text.size(), kMaxLength);
  }
  const std::size_t slash = text.find('/');
  std::string_view servers = text.substr(0, slash);
  std::string result;
  for (;;) {
    const std::size_t comma = servers.find(',');
    result += normal_server(servers.substr(0, comma));
    if (comma == servers.npos) break;
    result += ',';
    servers.remove_prefix(comma + 1);
  }
  if (slash == text.npos || slash + 1 == text.size()) return result;
  const std::string_view chroot = text.substr(slash);
  check_path(chroot);
  return result.append(chroot);
}

}  // namespace datom::coordination::zookeeper

#include "runtime/network.h"

#include <arpa/inet.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <utility>

#include "common/error.h"

namespace datom::runtime {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";

[[noreturn]] void refuse(const std::string& text, std::string_view why) {
  throw Error(Code::invalid_argument,
              "address \"{}\": {}; expected IPV4:PORT, [IPV6]:PORT or unix:/path", text, why);
}

std::uint16_t parse_port(const std::string& text, std::string_view digits) {
  std::uint16_t port = 0;
  const char* end = digits.data() + digits.size();
  const auto [stopped, error] = std::from_chars(digits.data(), end, port);
  if (digits.empty() || error != std::errc() || stopped != end) {
    refuse(text, "the port is not a number from 0 to 65535");
  }
  return port;
}

bool is_ip(int family, const std::string& host) {
  in6_addr parsed{};
  return host.find('\0') == std::string::npos && ::inet_pton(family, host.c_str(), &parsed) == 1;
}

Address parse_unix(const std::string& text) {
  Address address;
  address.unix_path = text.substr(kUnixPrefix.size());
  if (address.unix_path.empty()) refuse(text, "the path is empty");
  if (address.unix_path.find('\0') != std::string::npos) refuse(text, "the path holds a NUL");
  if (address.unix_path.size() >= sizeof(sockaddr_un::sun_path)) {
    refuse(text, "the path is longer than a socket address can hold");
  }
  return address;
}

Address parse_ip(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos) refuse(text, "there is no port");
  Address address;
  address.host = text.substr(0, colon);
  const bool bracketed =
      address.host.size() > 2 && address.host.front() == '[' && address.host.back() == ']';
  if (bracketed) address.host = address.host.substr(1, address.host.size() - 2);
  if (!is_ip(bracketed ? AF_INET6 : AF_INET, address.host)) {
    refuse(text, "the host is not an IP address");
  }
  address.port = parse_port(text, std::string_view(text).substr(colon + 1));
  return address;
}

}  // namespace

Address Address::parse(const std::string& text) {
  return text.starts_with(kUnixPrefix) ? parse_unix(text) : parse_ip(text);
}

std::string Address::to_string() const {
  if (!unix_path.empty()) return std::string(kUnixPrefix) + unix_path;
  const bool ipv6 = host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", ipv6 ? "[" : "", host, ipv6 ? "]" : "", port);
}

NativeSocket::NativeSocket(NativeSocket&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

NativeSocket& NativeSocket::operator=(NativeSocket&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

NativeSocket::~NativeSocket() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

int NativeSocket::release() {
  return std::exchange(descriptor_, -1);
}

Task<void> read_exactly(Stream& stream, MutableBytes into) {
  std::size_t done = 0;
  while (done < into.size()) {
    const std::size_t count = co_await stream.read_some(into.subspan(done));
    if (count == 0) {
      throw Error(Code::closed, "{} closed the connection after {} of {} bytes", stream.peer(),
                  done, into.size());
    }
    done += count;
  }
}

}  // namespace datom::runtime

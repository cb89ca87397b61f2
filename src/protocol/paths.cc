#include <fmt/core.h>

#include "protocol/records.h"

namespace datom::protocol {
namespace {

constexpr std::size_t kMaxNameLength = 63;

bool letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

}  // namespace

bool valid_name(std::string_view name) {
  if (name.empty() || name.size() > kMaxNameLength || !letter_or_digit(name[0])) return false;
  for (char c : name) {
    if (!letter_or_digit(c) && c != '.' && c != '_' && c != '-') return false;
  }
  return true;
}

namespace paths {

std::string domain(std::string_view domain) {
  return fmt::format("/datom/domains/{}", domain);
}

std::string properties(std::string_view d) {
  return domain(d) + "/properties";
}
std::string property(std::string_view d, std::string_view name) {
  return fmt::format("{}/{}", properties(d), name);
}

std::string nodes(std::string_view d) {
  return domain(d) + "/nodes";
}
std::string node(std::string_view d, std::string_view name) {
  return fmt::format("{}/{}", nodes(d), name);
}

std::string services(std::string_view d) {
  return domain(d) + "/services";
}
std::string service(std::string_view d, std::string_view name) {
  return fmt::format("{}/{}", services(d), name);
}
std::string service_instance(std::string_view d, std::string_view name) {
  return service(d, name) + "/instance";
}

std::string volumes(std::string_view d) {
  return domain(d) + "/volumes";
}
std::string volume(std::string_view d, std::string_view name) {
  return fmt::format("{}/{}", volumes(d), name);
}

std::string groups(std::string_view d) {
  return domain(d) + "/groups";
}
std::string group(std::string_view d, const Uuid& volume) {
  return fmt::format("{}/{}", groups(d), volume.to_string());
}
std::string group_members(std::string_view d, const Uuid& volume) {
  return group(d, volume) + "/members";
}
std::string group_locks(std::string_view d, const Uuid& volume) {
  return group(d, volume) + "/lock";
}

}  // namespace paths
}  // namespace datom::protocol

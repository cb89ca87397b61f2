#include "properties/known.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <string>

#include "common/error.h"

namespace datom::properties {
namespace {

constexpr std::array kKnown = std::to_array<const Definition*>(
    {&kCacheBytes, &kCheckpointInterval, &kClientTimeout, &kCoordinationSessionTimeout,
     &kGroupElectionTimeout, &kGroupHeartbeat, &kGroupLease, &kJournalRetention, &kReplaceAfter,
     &kReplaceConcurrent, &kScrubBytesPerSecond, &kSyncRate});

std::string known_names() {
  std::string names;
  for (const Definition* definition : kKnown) {
    if (!names.empty()) names += ", ";
    names += definition->name;
  }
  return names;
}

}  // namespace

std::span<const Definition* const> known() {
  return kKnown;
}

const Definition* find(std::string_view name) {
  for (const Definition* definition : kKnown) {
    if (definition->name == name) return definition;
  }
  return nullptr;
}

std::uint64_t validate(std::string_view name, std::string_view value) {
  const Definition* definition = find(name);
  if (definition == nullptr) {
    throw Error(Code::not_found, "no property \"{}\"; there are {}", name, known_names());
  }
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  const bool whole = error == std::errc() && end == value.data() + value.size();
  if (!whole || number < definition->least || number > definition->most) {
    throw Error(Code::invalid_argument, "property {}: found \"{}\", expected {} to {} {}", name,
                value, definition->least, definition->most, definition->unit);
  }
  return number;
}

}  // namespace datom::properties

#include "config_service/property_registry.h"

#include <fmt/chrono.h>

#include <optional>

#include "common/error.h"
#include "config_service/domain.h"
#include "properties/known.h"
#include "protocol/config.pb.h"
#include "protocol/records.h"

namespace datom::config_service {
namespace {

using properties::Definition;
using protocol::PropertyRecord;
using runtime::Task;

namespace paths = protocol::paths;

constexpr std::size_t kMaxText = 255;
constexpr int kMaxAttempts = 5;

void check_text(std::string_view what, const std::string& text) {
  if (text.size() <= kMaxText) return;
  throw Error(Code::invalid_argument, "{} has {} bytes, expected at most {}", what, text.size(),
              kMaxText);
}

// Throws for an unknown name, saying which there are.
const Definition& definition_of(const std::string& name) {
  check_text("the property's name", name);
  const Definition* definition = properties::find(name);
  if (definition == nullptr) properties::validate(name, "");
  return *definition;
}

// Without effect if its value is none: services go by the default then.
std::optional<PropertyRecord> effective(const Definition& definition, const std::string& data) {
  try {
    PropertyRecord record = PropertyRecord::from_json(data);
    properties::validate(definition.name, record.value);
    return record;
  } catch (const Error&) {
    return std::nullopt;
  }
}

protocol::Property view(const Definition& definition,
                        const std::optional<coordination::Node>& node) {
  protocol::Property property;
  property.set_name(std::string(definition.name));
  property.set_default_value(std::to_string(definition.default_value));
  property.set_value(property.default_value());
  property.set_help(std::string(definition.help));
  if (!node) return property;
  const std::optional<PropertyRecord> record = effective(definition, node->data);
  if (!record) return property;
  property.set_value(record->value);
  property.set_changed_by(record->changed_by);
  property.set_changed_at(record->changed_at);
  return property;
}

std::string timestamp(const runtime::Loop& loop) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(loop.wall_now());
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(seconds));
}

}  // namespace

PropertyRegistry::PropertyRegistry(runtime::Loop& loop, coordination::Client& client,
                                   std::string domain)
    : loop_(loop), client_(client), domain_(std::move(domain)) {}

Task<protocol::ListPropertiesReply> PropertyRegistry::list() {
  protocol::ListPropertiesReply reply;
  for (const Definition* definition : properties::known()) {
    const auto node = co_await client_.get(paths::property(domain_, definition->name));
    *reply.add_properties() = view(*definition, node);
  }
  co_return reply;
}

Task<protocol::Property> PropertyRegistry::get(std::string name) {
  const Definition& definition = definition_of(name);
  const auto node = co_await client_.get(paths::property(domain_, name));
  co_return view(definition, node);
}

Task<std::uint64_t> PropertyRegistry::number(const Definition& definition) {
  const auto node = co_await client_.get(paths::property(domain_, definition.name));
  co_return properties::validate(definition.name, view(definition, node).value());
}

Task<protocol::Property> PropertyRegistry::set(protocol::SetPropertyRequest request) {
  definition_of(request.name());
  check_text("the property's value", request.value());
  check_text("changed_by", request.changed_by());
  properties::validate(request.name(), request.value());
  PropertyRecord record;
  record.value = request.value();
  record.changed_by = request.changed_by();
  record.changed_at = timestamp(loop_);
  const std::string path = paths::property(domain_, request.name());
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    const auto node = co_await client_.get(path);
    std::vector<coordination::Operation> operations;
    if (node) {
      operations.push_back(coordination::Set{path, record.to_json()});
    } else {
      operations.push_back(coordination::Create{path, record.to_json()});
    }
    const bool done = co_await commit(client_, std::move(operations));
    if (done) co_return co_await get(request.name());
  }
  throw Error(Code::unavailable, "setting property {}: the tree keeps changing, try again",
              request.name());
}

}  // namespace datom::config_service

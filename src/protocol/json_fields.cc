#include "protocol/json_fields.h"

#include <fmt/core.h>

#include "common/error.h"
#include "protocol/records.h"

namespace datom::protocol {
namespace {

constexpr std::size_t kMaxShown = 80;

// What is there, fit for one line of text, whatever it is: short, control characters and bytes
// outside ASCII as \xNN.
std::string shown(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (result.size() >= kMaxShown) return result + "...";
    if (c >= ' ' && c <= '~') {
      result += c;
    } else {
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return result;
}

std::string shown(const boost::json::value* value) {
  return value == nullptr ? "missing" : shown(boost::json::serialize(*value));
}

}  // namespace

JsonFields JsonFields::parse(std::string_view kind, std::string_view text) {
  boost::json::error_code error;
  boost::json::value value = boost::json::parse({text.data(), text.size()}, error);
  if (error || !value.is_object()) {
    throw Error(Code::corrupt, "{}: found '{}', expected a JSON object{}{}", kind, shown(text),
                error ? ": " : "", error ? error.message() : "");
  }
  return {fmt::format("{}: field ", kind), std::move(value.get_object())};
}

void JsonFields::refuse(std::string_view field, std::string_view expected) const {
  throw Error(Code::corrupt, "{}{} is {}, expected {}", where_, field, shown(find(field)),
              expected);
}

const boost::json::value* JsonFields::find(std::string_view field) const {
  return object_.if_contains({field.data(), field.size()});
}

std::string JsonFields::string(std::string_view field) const {
  const boost::json::value* value = find(field);
  if (value == nullptr || !value->is_string()) refuse(field, "a string");
  return std::string(value->get_string());
}

std::string JsonFields::name(std::string_view field) const {
  std::string text = string(field);
  if (!valid_name(text)) refuse(field, "a name: 1 to 63 of a-z, 0-9, '.', '_', '-'");
  return text;
}

Uuid JsonFields::uuid(std::string_view field) const {
  const std::optional<Uuid> uuid = Uuid::parse(string(field));
  if (!uuid || uuid->is_nil()) refuse(field, "a uuid");
  return *uuid;
}

bool JsonFields::boolean(std::string_view field) const {
  const boost::json::value* value = find(field);
  if (value == nullptr || !value->is_bool()) refuse(field, "true or false");
  return value->get_bool();
}

std::uint64_t JsonFields::number(std::string_view field, std::uint64_t least,
                                 std::uint64_t most) const {
  const boost::json::value* value = find(field);
  boost::json::error_code error;
  std::uint64_t number = 0;
  if (value != nullptr && (value->is_int64() || value->is_uint64())) {
    number = value->to_number<std::uint64_t>(error);
  } else {
    error = boost::json::error::not_number;
  }
  if (error || number < least || number > most) {
    refuse(field, fmt::format("a whole number from {} to {}", least, most));
  }
  return number;
}

JsonFields JsonFields::object(std::string_view field) const {
  const boost::json::value* value = find(field);
  if (value == nullptr || !value->is_object()) refuse(field, "an object");
  return {fmt::format("{}{}.", where_, field), value->get_object()};
}

const boost::json::array& JsonFields::array(std::string_view field, std::size_t limit) const {
  const boost::json::value* value = find(field);
  if (value == nullptr || !value->is_array() || value->get_array().size() > limit) {
    refuse(field, fmt::format("an array of at most {}", limit));
  }
  return value->get_array();
}

std::vector<JsonFields> JsonFields::objects(std::string_view field, std::size_t limit) const {
  std::vector<JsonFields> result;
  for (const boost::json::value& value : array(field, limit)) {
    if (!value.is_object()) refuse(field, "an array of objects");
    result.push_back(
        JsonFields(fmt::format("{}{}[{}].", where_, field, result.size()), value.get_object()));
  }
  return result;
}

std::vector<std::string> JsonFields::strings(std::string_view field, std::size_t limit) const {
  std::vector<std::string> result;
  for (const boost::json::value& value : array(field, limit)) {
    if (!value.is_string()) refuse(field, "an array of strings");
    result.emplace_back(value.get_string());
  }
  return result;
}

}  // namespace datom::protocol

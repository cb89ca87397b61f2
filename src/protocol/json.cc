#include "protocol/json.h"

#include <fmt/core.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <boost/json.hpp>
#include <limits>

#include "common/error.h"

namespace datom::protocol {
namespace {

namespace json = boost::json;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

json::object encode(const Message& message);

std::string hexadecimal(const std::string& bytes) {
  std::string text;
  for (const char c : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text;
}

// One value: of a repeated field if index >= 0.
json::value encode_value(const Message& message, const FieldDescriptor& field, int index) {
  const Reflection& get = *message.GetReflection();
  const bool many = index >= 0;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return many ? get.GetRepeatedInt32(message, &field, index) : get.GetInt32(message, &field);
    case FieldDescriptor::CPPTYPE_INT64:
      return std::int64_t{many ? get.GetRepeatedInt64(message, &field, index)
                               : get.GetInt64(message, &field)};
    case FieldDescriptor::CPPTYPE_UINT32:
      return many ? get.GetRepeatedUInt32(message, &field, index) : get.GetUInt32(message, &field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return std::uint64_t{many ? get.GetRepeatedUInt64(message, &field, index)
                                : get.GetUInt64(message, &field)};
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return many ? get.GetRepeatedDouble(message, &field, index) : get.GetDouble(message, &field);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return many ? get.GetRepeatedFloat(message, &field, index) : get.GetFloat(message, &field);
    case FieldDescriptor::CPPTYPE_BOOL:
      return many ? get.GetRepeatedBool(message, &field, index) : get.GetBool(message, &field);
    case FieldDescriptor::CPPTYPE_ENUM: {
      const auto* value =
          many ? get.GetRepeatedEnum(message, &field, index) : get.GetEnum(message, &field);
      return json::string(value->name());
    }
    case FieldDescriptor::CPPTYPE_STRING: {
      std::string text =
          many ? get.GetRepeatedString(message, &field, index) : get.GetString(message, &field);
      if (field.type() == FieldDescriptor::TYPE_BYTES) text = hexadecimal(text);
      return json::string(text);
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return encode(many ? get.GetRepeatedMessage(message, &field, index)
                         : get.GetMessage(message, &field));
  }
  return nullptr;
}

json::value encode_field(const Message& message, const FieldDescriptor& field) {
  const Reflection& get = *message.GetReflection();
  if (field.is_repeated()) {
    json::array array;
    const int size = get.FieldSize(message, &field);
    for (int i = 0; i < size; ++i) array.push_back(encode_value(message, field, i));
    return array;
  }
  if (field.has_presence() && !get.HasField(message, &field)) return nullptr;
  return encode_value(message, field, -1);
}

json::object encode(const Message& message) {
  json::object object;
  const auto& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    object[type.field(i)->name()] = encode_field(message, *type.field(i));
  }
  return object;
}

constexpr std::size_t kMaxShown = 80;

[[noreturn]] void refuse(const std::string& where, const json::value& found,
                         std::string_view expected) {
  std::string shown = json::serialize(found);
  if (shown.size() > kMaxShown) shown = shown.substr(0, kMaxShown) + "...";
  throw Error(Code::invalid_argument, "field {} is {}, expected {}", where, shown, expected);
}

template <typename Integer>
Integer decode_integer(const std::string& where, const json::value& from) {
  json::error_code error;
  Integer number = 0;
  if (from.is_int64() || from.is_uint64()) {
    number = from.to_number<Integer>(error);
  } else {
    error = json::error::not_number;
  }
  if (error) {
    refuse(where, from,
           fmt::format("a whole number from {} to {}", std::numeric_limits<Integer>::min(),
                       std::numeric_limits<Integer>::max()));
  }
  return number;
}

std::string decode_string(const std::string& where, const json::value& from) {
  if (!from.is_string()) refuse(where, from, "a string");
  return std::string(from.get_string());
}

bool decode_bool(const std::string& where, const json::value& from) {
  if (!from.is_bool()) refuse(where, from, "true or false");
  return from.get_bool();
}

void decode(const std::string& where, const json::value& from, Message& message);

// Sets or, in a repeated field, adds one value.
void decode_value(const std::string& where, const json::value& from, Message& message,
                  const FieldDescriptor& field) {
  const Reflection& to = *message.GetReflection();
  const bool many = field.is_repeated();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64: {
      const auto number = decode_integer<std::int64_t>(where, from);
      return many ? to.AddInt64(&message, &field, number) : to.SetInt64(&message, &field, number);
    }
    case FieldDescriptor::CPPTYPE_UINT32: {
      const auto number = decode_integer<std::uint32_t>(where, from);
      return many ? to.AddUInt32(&message, &field, number) : to.SetUInt32(&message, &field, number);
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      const auto number = decode_integer<std::uint64_t>(where, from);
      return many ? to.AddUInt64(&message, &field, number) : to.SetUInt64(&message, &field, number);
    }
    case FieldDescriptor::CPPTYPE_BOOL: {
      const bool value = decode_bool(where, from);
      return many ? to.AddBool(&message, &field, value) : to.SetBool(&message, &field, value);
    }
    case FieldDescriptor::CPPTYPE_STRING: {
      if (field.type() == FieldDescriptor::TYPE_BYTES) break;
      std::string text = decode_string(where, from);
      return many ? to.AddString(&message, &field, std::move(text))
                  : to.SetString(&message, &field, std::move(text));
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return decode(where + ".", from,
                    many ? *to.AddMessage(&message, &field) : *to.MutableMessage(&message, &field));
    default:
      break;
  }
  throw Error(Code::unsupported, "field {} cannot be given as JSON", where);
}

void decode_array(const std::string& where, const json::value& from, Message& message,
                  const FieldDescriptor& field) {
  if (!from.is_array()) refuse(where, from, "an array");
  std::size_t index = 0;
  for (const json::value& item : from.get_array()) {
    decode_value(fmt::format("{}[{}]", where, index++), item, message, field);
  }
}

// `where` is the way to the object: "" or "node.".
void decode(const std::string& where, const json::value& from, Message& message) {
  if (!from.is_object()) refuse(where.empty() ? "(all)" : where, from, "an object");
  for (const auto& item : from.get_object()) {
    const std::string key(item.key());
    const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(key);
    if (field == nullptr) throw Error(Code::invalid_argument, "field {}{} is unknown", where, key);
    if (item.value().is_null()) continue;
    if (field->is_repeated()) {
      decode_array(where + key, item.value(), message, *field);
    } else {
      decode_value(where + key, item.value(), message, *field);
    }
  }
}

}  // namespace

std::string to_json(const Message& message) {
  return json::serialize(encode(message));
}

void from_json(std::string_view text, Message& message) {
  json::error_code error;
  const json::value value = json::parse({text.data(), text.size()}, error);
  if (error) {
    throw Error(Code::invalid_argument, "expected a JSON object: {}", error.message());
  }
  decode("", value, message);
}

}  // namespace datom::protocol

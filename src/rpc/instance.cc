#include <boost/json.hpp>

#include "common/error.h"
#include "rpc/connection_cache.h"

namespace datom::rpc {
namespace {

namespace json = boost::json;

constexpr std::string_view kWhat = "a service's instance record";

const json::value* field(const json::object& object, std::string_view name) {
  return object.if_contains(name);
}

std::string text_field(const json::object& object, std::string_view name) {
  const json::value* value = field(object, name);
  if (value == nullptr) throw Error(Code::corrupt, "{} has no field \"{}\"", kWhat, name);
  if (!value->is_string()) {
    throw Error(Code::corrupt, "field \"{}\" of {} is {}, expected a string", name, kWhat,
                json::serialize(*value));
  }
  return std::string(value->as_string());
}

std::int64_t integer_field(const json::object& object, std::string_view name) {
  const json::value* value = field(object, name);
  if (value == nullptr) throw Error(Code::corrupt, "{} has no field \"{}\"", kWhat, name);
  if (!value->is_int64()) {
    throw Error(Code::corrupt, "field \"{}\" of {} is {}, expected a number", name, kWhat,
                json::serialize(*value));
  }
  return value->as_int64();
}

}  // namespace

std::string Instance::to_json() const {
  const json::object object = {
      {"address", address}, {"nbd_address", nbd_address}, {"epoch", epoch}, {"pid", pid}};
  return json::serialize(object);
}

Instance Instance::from_json(const std::string& text) {
  boost::system::error_code error;
  const json::value value = json::parse(text, error);
  if (error) throw Error(Code::corrupt, "{} is not JSON: {}", kWhat, error.message());
  if (!value.is_object()) throw Error(Code::corrupt, "{} is not a JSON object", kWhat);
  const json::object& object = value.as_object();
  Instance instance;
  instance.address = text_field(object, "address");
  instance.nbd_address = text_field(object, "nbd_address");
  instance.epoch = text_field(object, "epoch");
  instance.pid = integer_field(object, "pid");
  return instance;
}

}  // namespace datom::rpc

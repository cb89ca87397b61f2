// Reads the fields of a JSON object that came from outside: each getter says, when it throws, whose
// field it was, what was found and what was expected. Included in .cc files only.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/uuid.h"

namespace datom::protocol {

// One JSON object. Every function throws Error{corrupt}.
class JsonFields {
 public:
  // `kind` names the record in messages, e.g. "volume record".
  static JsonFields parse(std::string_view kind, std::string_view text);

  bool has(std::string_view field) const { return find(field) != nullptr; }
  std::string string(std::string_view field) const;
  // A name as valid_name() has it.
  std::string name(std::string_view field) const;
  Uuid uuid(std::string_view field) const;
  bool boolean(std::string_view field) const;
  std::uint64_t number(std::string_view field, std::uint64_t least, std::uint64_t most) const;
  JsonFields object(std::string_view field) const;
  // At most `limit` of them.
  std::vector<JsonFields> objects(std::string_view field, std::size_t limit) const;
  std::vector<std::string> strings(std::string_view field, std::size_t limit) const;

  // "node record: field links[0].name is 7, expected EXPECTED".
  [[noreturn]] void refuse(std::string_view field, std::string_view expected) const;

 private:
  JsonFields(std::string where, boost::json::object object)
      : where_(std::move(where)), object_(std::move(object)) {}

  const boost::json::value* find(std::string_view field) const;
  const boost::json::array& array(std::string_view field, std::size_t limit) const;

  std::string where_;  // "node record: field links[0]." or "node record: field "
  boost::json::object object_;
};

}  // namespace datom::protocol

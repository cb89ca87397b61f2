// Messages as JSON: the HTTP API and `-o json`. Field names are those of the .proto files; numbers
// are JSON numbers whatever their width; every field is printed, an optional field or message that
// is not set as null; bytes are lower-case hexadecimal.
#pragma once

#include <string>
#include <string_view>

namespace google::protobuf {
class Message;
}

namespace datom::protocol {

// On one line.
std::string to_json(const google::protobuf::Message& message);

// Fills `message`, which comes from outside: fields may be missing or null, unknown ones are
// refused. Throws Error{invalid_argument} naming the field, what was found and what was expected.
void from_json(std::string_view text, google::protobuf::Message& message);

}  // namespace datom::protocol

// What several commands print. Included in .cc files only: it needs protobuf.
#pragma once

#include <google/protobuf/message.h>
#include <google/protobuf/repeated_ptr_field.h>

#include <string>

#include "cli/context.h"

namespace datom::protocol {
class Node;
class Service;
class Volume;
}  // namespace datom::protocol

namespace datom::cli {

// `message` as JSON, or `text`, as the user asked.
void print(Context& context, const google::protobuf::Message& message, const std::string& text);

std::string nodes_table(const google::protobuf::RepeatedPtrField<protocol::Node>& nodes);
std::string services_table(const google::protobuf::RepeatedPtrField<protocol::Service>& services);
std::string volumes_table(const google::protobuf::RepeatedPtrField<protocol::Volume>& volumes);

// "db, vs1, vs2"; empty where there is none.
std::string joined(const google::protobuf::RepeatedPtrField<std::string>& words);

}  // namespace datom::cli

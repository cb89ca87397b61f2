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
class VolumeMove;
}  // namespace datom::protocol

namespace datom::cli {

// `message` as JSON, or `text`, as the user asked.
void print(Context& context, const google::protobuf::Message& message, const std::string& text);

std::string nodes_table(const google::protobuf::RepeatedPtrField<protocol::Node>& nodes);
std::string services_table(const google::protobuf::RepeatedPtrField<protocol::Service>& services);
std::string volumes_table(const google::protobuf::RepeatedPtrField<protocol::Volume>& volumes);

// "vs1 -> vs4, syncing, 40 %", and why it does not get on, if it does not.
std::string move_text(const protocol::VolumeMove& move);

// "db, vs1, vs2"; empty where there is none.
std::string joined(const google::protobuf::RepeatedPtrField<std::string>& words);

}  // namespace datom::cli

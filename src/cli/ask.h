// Typed requests to the config service. Included in .cc files only: it needs protobuf.
#pragma once

#include <google/protobuf/message.h>

#include "cli/connection.h"
#include "common/error.h"

namespace datom::cli {

inline constexpr runtime::Duration kAskTimeout = std::chrono::seconds(15);

template <typename Reply>
Reply ask(Connection& connection, std::uint16_t method, const google::protobuf::Message& request,
          runtime::Duration timeout = kAskTimeout) {
  const std::string answer = connection.ask(method, request.SerializeAsString(), timeout);
  Reply reply;
  if (!reply.ParseFromString(answer)) {
    throw Error(Code::corrupt, "the config service answered {} bytes that are no {}", answer.size(),
                reply.GetTypeName());
  }
  return reply;
}

}  // namespace datom::cli

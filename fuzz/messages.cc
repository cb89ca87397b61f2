// Messages of peers and of the HTTP API. First byte: which.
#include <functional>

#include "common/check.h"
#include "common/error.h"
#include "fuzz/input.h"
#include "fuzz/target.h"
#include "protocol/config.pb.h"
#include "protocol/group_messages.h"
#include "protocol/json.h"
#include "protocol/replication.pb.h"
#include "protocol/volume.pb.h"

namespace datom::fuzz {
namespace {

using Parse = std::function<void(std::string_view)>;

// What is taken from the wire can be shown as JSON, and read again from it.
template <typename Message>
Parse body() {
  return [](std::string_view bytes) {
    Message message;
    if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
    message.SerializeAsString();
    protocol::to_json(message);
  };
}

template <typename Message>
Parse json() {
  return [](std::string_view text) {
    Message message;
    protocol::from_json(text, message);
    Message again;
    protocol::from_json(protocol::to_json(message), again);
    DATOM_CHECK(again.SerializeAsString() == message.SerializeAsString());
  };
}

void group_message(std::string_view bytes) {
  const protocol::GroupMessage message = protocol::decode_group_message(bytes);
  const std::string once = protocol::encode(message);
  DATOM_CHECK(protocol::encode(protocol::decode_group_message(once)) == once);
}

void group_messages(std::string_view bytes) {
  const auto messages = protocol::decode_group_messages(bytes);
  const std::string once = protocol::encode(messages);
  DATOM_CHECK(protocol::encode(protocol::decode_group_messages(once)) == once);
}

const Parse kParsers[] = {
    group_message,
    body<protocol::ClientIo>(),
    body<protocol::ClientIoReply>(),
    body<protocol::NewerBlocksReply>(),
    body<protocol::ReadBlocksRequest>(),
    body<protocol::CopyBeginReply>(),
    body<protocol::ReplicaStatusReply>(),
    body<protocol::StatusReply>(),
    json<protocol::CreateVolumeRequest>(),
    json<protocol::SetPropertyRequest>(),
    json<protocol::AddNodeRequest>(),
    group_messages,
};

std::string seed(char which, const std::string& bytes) {
  return which + bytes;
}

}  // namespace

void run(ByteView bytes) {
  Input input(bytes);
  const Parse& parse = kParsers[input.byte() % std::size(kParsers)];
  try {
    parse(as_text(input.rest()));
  } catch (const Error&) {
  }
}

std::map<std::string, std::string> seeds() {
  std::map<std::string, std::string> all;
  const Uuid a = Uuid::from_random(1, 2);
  const auto group = [&](const char* name, protocol::GroupBody body) {
    all[name] = seed(0, protocol::encode({a, a, a, Term(3), 1, std::move(body)}));
  };
  group("probe", protocol::Probe{});
  group("probe_reply", protocol::ProbeReply{Term(2), true});
  group("seal", protocol::Seal{});
  group("seal_reply", protocol::SealReply{});
  group("become_leader", protocol::BecomeLeader{});
  group("append", protocol::Append{});
  group("append_reply", protocol::AppendReply{});
  protocol::ClientIo io;
  io.set_volume("0123456789abcdef");
  io.set_kind(protocol::IO_WRITE);
  io.set_offset(4096);
  io.set_length(4096);
  all["client_io"] = seed(1, io.SerializeAsString());
  protocol::NewerBlocksReply newer;
  newer.add_versions()->set_block(3);
  newer.set_end(true);
  all["newer_blocks"] = seed(3, newer.SerializeAsString());
  all["create"] = seed(8, R"({"name":"db","size":1073741824,"replicas":3,"access":"shared"})");
  all["set_property"] = seed(9, R"({"name":"a.b","value":"1","changed_by":"x"})");
  protocol::AddNodeRequest node;
  all["add_node"] = seed(10, protocol::to_json(node));
  return all;
}

}  // namespace datom::fuzz

#include "protocol/group_messages.h"

#include <google/protobuf/arena.h>

#include <algorithm>

#include "common/error.h"
#include "protocol/replication.pb.h"

namespace datom::protocol {
namespace {

void put(wire::Id* to, const EntryId& id) {
  to->set_term(id.term.value());
  to->set_op(id.op.value());
  to->set_checksum(id.checksum);
}
EntryId id_of(const wire::Id& id) {
  return {Term(id.term()), Op(id.op()), id.checksum()};
}

std::string bytes_of(const Uuid& uuid) {
  return {uuid.bytes.begin(), uuid.bytes.end()};
}
Uuid uuid_of(const std::string& bytes, std::string_view field) {
  Uuid uuid;
  if (bytes.size() != uuid.bytes.size()) {
    throw Error(Code::corrupt, "group message: field {} has {} bytes, expected 16", field,
                bytes.size());
  }
  std::copy(bytes.begin(), bytes.end(), uuid.bytes.begin());
  return uuid;
}

std::uint64_t count_of(std::chrono::nanoseconds duration) {
  return static_cast<std::uint64_t>(duration.count());
}

std::chrono::nanoseconds lease_of(std::uint64_t nanoseconds) {
  if (nanoseconds > count_of(kMaxLease)) {
    throw Error(Code::corrupt, "group message: a lease of {} ns, expected at most {}", nanoseconds,
                count_of(kMaxLease));
  }
  return std::chrono::nanoseconds(nanoseconds);
}

struct PutBody {
  wire::GroupMessage& to;

  void operator()(const Probe&) const { to.mutable_probe(); }
  void operator()(const ProbeReply& body) const {
    to.mutable_probe_reply()->set_promised(body.promised.value());
    to.mutable_probe_reply()->set_hears_leader(body.hears_leader);
  }
  void operator()(const Seal&) const { to.mutable_seal(); }
  void operator()(const SealReply& body) const {
    wire::SealReply* reply = to.mutable_seal_reply();
    reply->set_sealed(body.sealed);
    reply->set_promised(body.promised.value());
    put(reply->mutable_last(), body.last);
    reply->set_commit_hint(body.commit_hint.value());
    reply->set_base_complete(body.base_complete);
    reply->set_head_certain(body.head_certain);
    reply->set_incarnation(body.incarnation);
    reply->set_lease_left_ns(count_of(body.lease_left));
  }
  void operator()(const BecomeLeader& body) const {
    put(to.mutable_become_leader()->mutable_last(), body.last);
    to.mutable_become_leader()->set_incarnation(body.incarnation);
    to.mutable_become_leader()->set_lease_left_ns(count_of(body.lease_left));
  }
  void operator()(const Append& body) const {
    wire::Append* append = to.mutable_append();
    put(append->mutable_previous(), body.previous);
    append->set_commit(body.commit.value());
    put(append->mutable_leader_last(), body.leader_last);
    append->set_round(body.round);
    append->set_copy_needed(body.copy_needed);
    append->set_fingerprint_op(body.fingerprint_op.value());
    append->set_fingerprint(body.fingerprint);
    append->set_number(body.number);
    append->set_sent(body.sent);
    append->set_lease_ns(count_of(body.lease));
    append->set_heard(body.heard);
  }
  void operator()(const AppendReply& body) const {
    wire::AppendReply* reply = to.mutable_append_reply();
    reply->set_matched(body.matched);
    reply->set_previous(body.previous.value());
    reply->set_functional(body.functional);
    reply->set_acked(body.acked.value());
    put(reply->mutable_last(), body.last);
    reply->set_conflict_term(body.conflict_term.value());
    reply->set_conflict_first(body.conflict_first.value());
    reply->set_round(body.round);
    reply->set_applied(body.applied.value());
    reply->set_copying(body.copying);
    reply->set_answers(body.answers);
    reply->set_echo(body.echo);
    reply->set_uncertain(body.uncertain);
  }
  void operator()(const Resign&) const { to.mutable_resign(); }
};

GroupBody body_of(const wire::GroupMessage& from) {
  switch (from.body_case()) {
    case wire::GroupMessage::kProbe:
      return Probe{};
    case wire::GroupMessage::kProbeReply:
      return ProbeReply{Term(from.probe_reply().promised()), from.probe_reply().hears_leader()};
    case wire::GroupMessage::kSeal:
      return Seal{};
    case wire::GroupMessage::kSealReply: {
      const wire::SealReply& reply = from.seal_reply();
      return SealReply{reply.sealed(),        Term(reply.promised()),
                       id_of(reply.last()),   Op(reply.commit_hint()),
                       reply.base_complete(), reply.head_certain(),
                       reply.incarnation(),   lease_of(reply.lease_left_ns())};
    }
    case wire::GroupMessage::kBecomeLeader:
      return BecomeLeader{id_of(from.become_leader().last()), from.become_leader().incarnation(),
                          lease_of(from.become_leader().lease_left_ns())};
    case wire::GroupMessage::kAppend: {
      const wire::Append& append = from.append();
      return Append{id_of(append.previous()),
                    Op(append.commit()),
                    id_of(append.leader_last()),
                    append.round(),
                    append.copy_needed(),
                    Op(append.fingerprint_op()),
                    append.fingerprint(),
                    append.number(),
                    append.sent(),
                    lease_of(append.lease_ns()),
                    append.heard()};
    }
    case wire::GroupMessage::kAppendReply: {
      const wire::AppendReply& reply = from.append_reply();
      return AppendReply{reply.matched(),
                         Op(reply.previous()),
                         reply.functional(),
                         Op(reply.acked()),
                         id_of(reply.last()),
                         Term(reply.conflict_term()),
                         Op(reply.conflict_first()),
                         reply.round(),
                         Op(reply.applied()),
                         reply.copying(),
                         reply.answers(),
                         reply.echo(),
                         reply.uncertain()};
    }
    case wire::GroupMessage::kResign:
      return Resign{};
    case wire::GroupMessage::BODY_NOT_SET:
      break;
  }
  throw Error(Code::corrupt, "group message: no known body");
}

void put(const GroupMessage& message, wire::GroupMessage& to) {
  to.set_volume(bytes_of(message.volume));
  to.set_from(bytes_of(message.from));
  to.set_to(bytes_of(message.to));
  to.set_term(message.term.value());
  to.set_config_epoch(message.config_epoch);
  std::visit(PutBody{to}, message.body);
}

GroupMessage message_of(const wire::GroupMessage& from) {
  return {uuid_of(from.volume(), "volume"),
          uuid_of(from.from(), "from"),
          uuid_of(from.to(), "to"),
          Term(from.term()),
          from.config_epoch(),
          body_of(from)};
}

template <typename Message>
void parse(std::string_view bytes, Message& into) {
  if (into.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
  throw Error(Code::corrupt, "group message of {} bytes does not parse", bytes.size());
}

}  // namespace

std::string encode(const GroupMessage& message) {
  wire::GroupMessage out;
  put(message, out);
  return out.SerializeAsString();
}

GroupMessage decode_group_message(std::string_view bytes) {
  wire::GroupMessage in;
  parse(bytes, in);
  return message_of(in);
}

std::string encode(const std::vector<GroupMessage>& messages) {
  google::protobuf::Arena arena;
  auto* out = google::protobuf::Arena::CreateMessage<wire::GroupMessages>(&arena);
  for (const GroupMessage& message : messages) put(message, *out->add_messages());
  return out->SerializeAsString();
}

std::vector<GroupMessage> decode_group_messages(std::string_view bytes) {
  google::protobuf::Arena arena;
  auto* in = google::protobuf::Arena::CreateMessage<wire::GroupMessages>(&arena);
  parse(bytes, *in);
  std::vector<GroupMessage> messages;
  messages.reserve(static_cast<std::size_t>(in->messages_size()));
  for (const wire::GroupMessage& message : in->messages()) messages.push_back(message_of(message));
  return messages;
}

}  // namespace datom::protocol

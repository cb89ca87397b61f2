// The leader is asked to change who keeps the volume. It starts the change; the group protocol goes
// on with it, whoever leads then.
#include <algorithm>

#include "common/error.h"
#include "protocol/records.h"
#include "volume/replica_impl.h"

namespace datom::volume {
namespace {

Uuid uuid_of(const std::string& bytes) {
  Uuid uuid;
  if (bytes.size() != uuid.bytes.size()) {
    throw Error(Code::invalid_argument, "a uuid of {} bytes, expected 16", bytes.size());
  }
  std::copy(bytes.begin(), bytes.end(), uuid.bytes.begin());
  return uuid;
}

}  // namespace

Task<rpc::Message> Replica::Impl::replace(protocol::ReplaceReplicaRequest request) {
  check_serves();
  const Uuid from = uuid_of(request.from());
  const protocol::ReplicaRecord to{request.service(), uuid_of(request.to())};
  if (!protocol::valid_name(to.service)) {
    throw Error(Code::invalid_argument, "\"{}\" is no service name", to.service);
  }
  replication::Group::Answered answered = group->replace(now(), from, to);
  perform(std::move(answered.effects));
  told(answered.answer);
  log.info("replica.replace",
           {{"from", from.to_string()}, {"to", to.replica.to_string()}, {"service", to.service}});
  co_return rpc::Message{protocol::ReplaceReplicaReply().SerializeAsString(), {}};
}

Task<rpc::Message> Replica::Impl::cancel_replace(protocol::CancelReplaceRequest request) {
  check_serves();
  const Uuid to = uuid_of(request.to());
  replication::Group::Answered answered = group->cancel_replace(now(), to);
  perform(std::move(answered.effects));
  told(answered.answer);
  log.info("replica.replace_cancelled", {{"to", to.to_string()}});
  co_return rpc::Message{protocol::CancelReplaceReply().SerializeAsString(), {}};
}

void Replica::Impl::told(replication::Group::Answer answer) {
  using Answer = replication::Group::Answer;
  switch (answer) {
    case Answer::done:
      return;
    case Answer::busy:
      throw Error(Code::unavailable, "volume {}: its record is being written; ask again",
                  volume.name);
    case Answer::conflict:
      throw Error(Code::conflict,
                  "volume {}: another of its replicas is being replaced, or the new one votes "
                  "already",
                  volume.name);
    case Answer::not_a_voter:
      throw Error(Code::not_found, "volume {}: the replica to be replaced is no voter",
                  volume.name);
  }
}

}  // namespace datom::volume

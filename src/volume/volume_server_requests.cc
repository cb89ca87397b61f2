// Requests and messages of others, handed to the replica that they are for.
#include <algorithm>

#include "common/error.h"
#include "protocol/methods.h"
#include "volume/volume_server_impl.h"

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

template <typename Message>
Message parsed(const rpc::Message& from) {
  Message message;
  if (!message.ParseFromString(from.header)) {
    throw Error(Code::invalid_argument, "a request of {} bytes does not parse", from.header.size());
  }
  return message;
}

}  // namespace

VolumeServer::Impl* VolumeServer::Impl::owner(const Uuid& volume) {
  if (shards.size() < 2) return this;
  const auto found = shard_of_volume.find(volume);
  if (found == shard_of_volume.end() || found->second == options.shard) return this;
  return shards[found->second]->impl_.get();
}

// A volume without a replica here is no reason to give up: another server leads it.
Replica& VolumeServer::Impl::find(const Uuid& volume) {
  Replica* found = replica(volume);
  if (found == nullptr) throw Error(Code::not_leader, "{}", "");
  return *found;
}

// Calls about one volume run on the loop of its shard.
template <typename Request, typename Handle>
void VolumeServer::Impl::on_call(rpc::Router& router, rpc::Method method, Handle handle) {
  struct Call {
    static Task<rpc::Message> run(Impl* here, Handle act, rpc::Message message) {
      Request request = parsed<Request>(message);
      Impl* there = here->owner(uuid_of(request.volume()));
      if (there == here)
        co_return co_await act(*here, std::move(request), std::move(message.payload));
      co_await runtime::switch_to(*there->seams.loop);
      std::exception_ptr error;
      rpc::Message reply;
      try {
        reply = co_await act(*there, std::move(request), std::move(message.payload));
      } catch (...) {
        error = std::current_exception();
      }
      co_await runtime::switch_to(*here->seams.loop);
      if (error) std::rethrow_exception(error);
      co_return reply;
    }
  };
  router.on_call(method, [this, handle](rpc::Peer, rpc::Message message) {
    return Call::run(this, handle, std::move(message));
  });
}

// What is asked of any member about its blocks.
template <typename Request>
void VolumeServer::Impl::on_care(rpc::Router& router, rpc::Method method,
                                 Task<rpc::Message> (BlockCare::*answer)(Request)) {
  on_call<Request>(router, method, [answer](Impl& there, Request request, Buffer) {
    BlockCare& care = there.find(uuid_of(request.volume())).care();
    return (care.*answer)(std::move(request));
  });
}

void VolumeServer::Impl::on_group_message(rpc::Message message) {
  const protocol::GroupMessage decoded = protocol::decode_group_message(message.header);
  Impl* there = owner(decoded.volume);
  if (there == this) {
    deliver(decoded, std::move(message.payload));
    return;
  }
  there->seams.loop->post(
      [there, decoded, entries = std::move(message.payload)] { there->deliver(decoded, entries); });
}

// As if each had come by itself; but the answers travel together again.
void VolumeServer::Impl::on_group_messages(const rpc::Message& message) {
  std::map<Impl*, std::vector<protocol::GroupMessage>> messages;
  for (protocol::GroupMessage& one : protocol::decode_group_messages(message.header)) {
    messages[owner(one.volume)].push_back(std::move(one));
  }
  for (auto& [there, all] : messages) {
    const auto deliver_all = [to = there, these = std::move(all)] {
      to->post.together([&] {
        for (const protocol::GroupMessage& one : these) to->deliver(one, {});
      });
    };
    there == this ? deliver_all() : there->seams.loop->post(deliver_all);
  }
}

void VolumeServer::Impl::deliver(const protocol::GroupMessage& message, Buffer entries) {
  Replica* to = replica(message.volume);
  if (to == nullptr || stopping) return;
  try {
    to->receive(message, std::move(entries));
  } catch (const Error& error) {
    seams.log.warn("volumeserver.bad_message", {{"volume", to->volume().name}}, error.what());
  }
}

void VolumeServer::Impl::peer_down(const std::string& service) {
  post.together([&] {
    for (const auto& [uuid, one] : replicas) one->peer_down(service);
  });
}

void VolumeServer::Impl::add_status(const protocol::ReplicaStatusRequest& request,
                                    protocol::ReplicaStatusReply& reply) const {
  const bool all = request.volume().empty();
  const Uuid wanted = all ? Uuid{} : uuid_of(request.volume());
  for (const auto& [uuid, one] : replicas) {
    if (all || uuid == wanted) *reply.add_replicas() = one->status();
  }
  for (const auto& [uuid, trouble] : troubles) {
    if (!all && uuid != wanted) continue;
    protocol::ReplicaStatus* status_ = reply.add_replicas();
    status_->set_volume(uuid.bytes.data(), uuid.bytes.size());
    status_->set_replica(trouble.replica.bytes.data(), trouble.replica.bytes.size());
    status_->set_trouble(trouble.why);
  }
}

Task<rpc::Message> VolumeServer::Impl::status(rpc::Message message) {
  const auto request = parsed<protocol::ReplicaStatusRequest>(message);
  if (!request.volume().empty()) uuid_of(request.volume());
  protocol::ReplicaStatusReply reply;
  for (VolumeServer* shard : shards) {
    Impl* there = shard->impl_.get();
    if (there != this) co_await runtime::switch_to(*there->seams.loop);
    there->add_status(request, reply);
    if (there != this) co_await runtime::switch_to(*seams.loop);
  }
  co_return rpc::Message{reply.SerializeAsString(), {}};
}

void VolumeServer::register_handlers(rpc::Router& router) {
  namespace method = protocol::method;
  Impl* here = impl_.get();
  here->on_call<protocol::ClientIo>(
      router, method::kClientIo,
      [](Impl& there, protocol::ClientIo request, Buffer payload) -> Task<rpc::Message> {
        Replica& replica = there.find(uuid_of(request.volume()));
        co_return co_await replica.serve(request, std::move(payload));
      });
  here->on_call<protocol::CopyBeginRequest>(
      router, method::kBeginCopy, [](Impl& there, protocol::CopyBeginRequest request, Buffer) {
        return there.find(uuid_of(request.volume())).begin_copy(std::move(request));
      });
  here->on_call<protocol::NewerBlocksRequest>(
      router, method::kNewerBlocks, [](Impl& there, protocol::NewerBlocksRequest request, Buffer) {
        return there.find(uuid_of(request.volume())).newer_blocks(std::move(request));
      });
  here->on_call<protocol::ReadBlocksRequest>(
      router, method::kReadBlocks, [](Impl& there, protocol::ReadBlocksRequest request, Buffer) {
        return there.find(uuid_of(request.volume())).read_blocks(std::move(request));
      });
  here->on_call<protocol::ReplaceReplicaRequest>(
      router, method::kReplaceReplica,
      [](Impl& there, protocol::ReplaceReplicaRequest request, Buffer) {
        return there.find(uuid_of(request.volume())).replace(std::move(request));
      });
  here->on_call<protocol::CancelReplaceRequest>(
      router, method::kCancelReplace,
      [](Impl& there, protocol::CancelReplaceRequest request, Buffer) {
        return there.find(uuid_of(request.volume())).cancel_replace(std::move(request));
      });
  here->on_care(router, method::kBlocks, &BlockCare::blocks);
  here->on_care(router, method::kVerify, &BlockCare::verify);
  here->on_care(router, method::kFingerprint, &BlockCare::fingerprint);
  here->on_care(router, method::kDigests, &BlockCare::digests);
  here->on_care(router, method::kCheckBlocks, &BlockCare::check_blocks);
  struct Probe {
    static Task<rpc::Message> run(Impl& there, protocol::ProbeSessionRequest request, Buffer) {
      protocol::ProbeSessionReply reply;
      reply.set_alive(there.clients.contains(uuid_of(request.client())));
      co_return rpc::Message{reply.SerializeAsString(), {}};
    }
  };
  here->on_call<protocol::ProbeSessionRequest>(router, method::kProbeSession, &Probe::run);
  router.on_call(method::kReplicaStatus, [here](rpc::Peer, rpc::Message message) {
    return here->status(std::move(message));
  });
  router.on_message(method::kGroupMessage, [here](const rpc::Peer&, rpc::Message message) {
    here->on_group_message(std::move(message));
  });
  router.on_message(method::kGroupMessages, [here](const rpc::Peer&, rpc::Message message) {
    here->on_group_messages(message);
  });
}

}  // namespace datom::volume

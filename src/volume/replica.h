// One replica of a volume: drives the group protocol (replication/group.h) over a journal, a block
// store and the network, and, while it leads, serves the volume's clients. Belongs to one loop.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "journal/journal.h"
#include "protocol/group_messages.h"
#include "protocol/records.h"
#include "rpc/rpc.h"
#include "runtime/task.h"
#include "volume/volume_server.h"

namespace datom::protocol {
class CancelReplaceRequest;
class ClientIo;
class CopyBeginRequest;
class NewerBlocksRequest;
class ReadBlocksRequest;
class ReplaceReplicaRequest;
class ReplicaStatus;
}  // namespace datom::protocol

namespace datom::block_store {
class BlockCache;
}

namespace datom::volume {

class BlockCare;
class GroupPost;
class Ticks;

// What the replicas of a loop share. Outlives them.
struct Shared {
  GroupPost* post = nullptr;
  Ticks* ticks = nullptr;
  block_store::BlockCache* cache = nullptr;
};

struct ReplicaOptions {
  std::string domain;
  std::string service;
  std::string directory;  // of this replica; exists
  journal::JournalOptions journal;
};

class Replica {
 public:
  // Opens what the directory holds, or makes an empty replica where it holds none, and brings
  // journal and block store in step as far as ops are known to be committed. Throws Error when it
  // belongs to another volume or replica, or is damaged beyond use. `seams.coordination` is not
  // used by open().
  static runtime::Task<std::unique_ptr<Replica>> open(Seams seams, Shared shared,
                                                      protocol::VolumeRecord volume,
                                                      protocol::ReplicaRecord self,
                                                      ReplicaOptions options);
  // stop() must have returned.
  ~Replica();

  // Begins, or goes on with a client of a new coordination session.
  void begin(coordination::Client& client);
  // The coordination session is over. Returns when nothing uses its client any more.
  runtime::Task<void> coordination_lost();
  // Hands over, ends what is under way, takes a checkpoint if all is well, closes the files.
  runtime::Task<void> stop();

  // A message of the group, from a peer, and the entries beside it: verified here. Throws
  // Error{corrupt}, nothing changed.
  void receive(const protocol::GroupMessage& message, Buffer entries);
  void peer_down(const std::string& service);
  // Of its clients, while it leads.
  void set_limits(const protocol::Limits& limits);

  // A client's request, if this replica leads and serves, else Error{not_leader} naming the leader
  // if it knows one. Error{outcome_unknown}: it stepped down with the request under way. Ranges are
  // checked here. `request` must live until the task ends.
  runtime::Task<rpc::Message> serve(const protocol::ClientIo& request, Buffer payload);

  // As leader: changes who keeps the volume (volume.proto). Error{not_leader} as above,
  // Error{conflict}, Error{not_found}: what is to be replaced is no voter, Error{unavailable}:
  // later.
  runtime::Task<rpc::Message> replace(protocol::ReplaceReplicaRequest request);
  runtime::Task<rpc::Message> cancel_replace(protocol::CancelReplaceRequest request);

  // For a follower that copies blocks. Error{not_leader}.
  runtime::Task<rpc::Message> begin_copy(protocol::CopyBeginRequest request);
  runtime::Task<rpc::Message> newer_blocks(protocol::NewerBlocksRequest request);
  runtime::Task<rpc::Message> read_blocks(protocol::ReadBlocksRequest request);

  // What is asked of any member about its blocks (block_care.h).
  BlockCare& care();

  // Service that leads as far as this replica knows; "" when it knows none.
  std::string leader() const;
  bool serves() const;
  protocol::ReplicaStatus status() const;
  std::vector<Held> held() const;
  const protocol::VolumeRecord& volume() const;
  const protocol::ReplicaRecord& self() const;

  struct Impl;

 private:
  explicit Replica(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace datom::volume

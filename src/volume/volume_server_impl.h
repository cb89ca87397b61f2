// The parts of a VolumeServer, for volume_server*.cc only:
//   volume_server.cc           beginning, ending, coordination that goes and comes back
//   volume_server_volumes.cc   follows the domain's volumes: opens and removes replicas
//   volume_server_requests.cc  hands requests and messages to the replicas
#pragma once

#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "block_store/block_cache.h"
#include "properties/properties.h"
#include "protocol/volume.pb.h"
#include "runtime/task_group.h"
#include "runtime/wait.h"
#include "volume/block_care.h"
#include "volume/client_impl.h"
#include "volume/group_post.h"
#include "volume/replica.h"
#include "volume/ticks.h"
#include "volume/volume_server.h"

namespace datom::volume {

using runtime::Task;

struct VolumeServer::Impl final : ClientHost {
  Impl(Seams seams_, VolumeServerOptions options_)
      : seams(std::move(seams_)),
        options(std::move(options_)),
        replicas_directory(options.root + "/" + options.service + "/replicas"),
        post(*seams.caller),
        ticks(*seams.loop, [this](const std::function<void()>& calls) { post.together(calls); }),
        cache(0),
        changed(*seams.loop),
        retry(*seams.loop),
        tasks(*seams.loop, [this](std::exception_ptr error) { report("volume server", error); }) {}

  void resize_cache();
  void report(std::string_view what, std::exception_ptr error) const {
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& e) {
      seams.log.error("volumeserver.failed", {{"doing", what}}, e.what());
    }
  }

  struct Trouble {
    Uuid replica;
    std::string why;
  };

  // ---- following the domain's volumes
  void begin(coordination::Client& client);
  Task<void> follow(std::uint64_t session);
  Task<void> read_volumes(coordination::Client& client, std::uint64_t session);
  Task<void> read_stale(coordination::Client& client, std::uint64_t session);
  Task<void> read_volume(coordination::Client& client, std::string name, std::uint64_t session);
  Task<void> reconcile(coordination::Client& client, protocol::VolumeRecord record);
  Task<void> open_replica(coordination::Client& client, protocol::VolumeRecord record,
                          protocol::ReplicaRecord self);
  Task<bool> is_voter(coordination::Client& client, const protocol::VolumeRecord& record,
                      Uuid replica) const;
  Task<void> leave_volume(coordination::Client& client, protocol::VolumeRecord record);
  Task<bool> clear_for_successor(coordination::Client& client, protocol::VolumeRecord record,
                                 protocol::ReplicaRecord self);
  Task<void> check_not_wiped(coordination::Client& client, const protocol::VolumeRecord& record,
                             const protocol::ReplicaRecord& self, std::string directory);
  Task<bool> remove_replica(coordination::Client& client, protocol::VolumeRecord record);
  Task<bool> is_newest(coordination::Client& client, protocol::VolumeRecord record) const;
  std::optional<protocol::ReplicaRecord> own_replica(const protocol::VolumeRecord& record) const;
  std::string marker(const protocol::VolumeRecord& record,
                     const protocol::ReplicaRecord& self) const;
  Task<void> make_marker(coordination::Client& client, const protocol::VolumeRecord& record,
                         const protocol::ReplicaRecord& self) const;
  Task<void> report_orphans() const;
  Task<void> close_replicas();

  // ---- requests
  Impl* owner(const Uuid& volume);
  Replica& find(const Uuid& volume);
  template <typename Request, typename Handle>
  void on_call(rpc::Router& router, rpc::Method method, Handle handle);
  template <typename Request>
  void on_care(rpc::Router& router, rpc::Method method,
               Task<rpc::Message> (BlockCare::*answer)(Request));
  void on_group_message(rpc::Message message);
  void on_group_messages(const rpc::Message& message);
  void deliver(const protocol::GroupMessage& message, Buffer entries);
  void peer_down(const std::string& service);
  Task<rpc::Message> status(rpc::Message message);
  void add_status(const protocol::ReplicaStatusRequest& request,
                  protocol::ReplicaStatusReply& reply) const;

  // ---- ClientHost
  Replica* replica(const Uuid& volume) override {
    const auto found = replicas.find(volume);
    return found == replicas.end() ? nullptr : found->second.get();
  }
  const protocol::VolumeRecord* record(const Uuid& volume) override {
    const auto found = std::find_if(volumes.begin(), volumes.end(), [&](const auto& item) {
      return item.second.id == volume && !item.second.removing;
    });
    return found == volumes.end() ? nullptr : &found->second;
  }
  void renamed(const Uuid& before, const Uuid& now) override {
    clients.erase(before);
    if (!now.is_nil()) clients.insert(now);
  }

  Seams seams;
  const VolumeServerOptions options;
  const std::string replicas_directory;
  GroupPost post;
  Ticks ticks;
  block_store::BlockCache cache;  // of the blocks of all replicas here
  properties::Subscription cache_size;
  std::vector<VolumeServer*> shards;
  coordination::Client* client = nullptr;
  std::uint64_t session = 0;
  bool stopping = false;

  std::map<std::string, protocol::VolumeRecord> volumes;  // of the domain, by name
  std::map<Uuid, std::uint32_t> shard_of_volume;
  std::map<Uuid, std::unique_ptr<Replica>> replicas;  // of this shard
  std::map<Uuid, Trouble> troubles;                   // replicas that could not be opened
  std::set<Uuid> clients;                             // attached here

  runtime::Event changed;
  runtime::Timer retry;
  coordination::WatchHandle list_watch;
  std::map<std::string, coordination::WatchHandle> volume_watches;
  std::set<std::string> stale;       // names to read again
  std::set<std::string> being_read;  // of these, one reader each
  bool list_stale = true;
  coordination::WatchHandle session_watch;
  std::unique_ptr<rpc::Caller::Subscription> peers;
  runtime::TaskGroup tasks;
};

}  // namespace datom::volume

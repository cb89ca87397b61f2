// The volume server: every replica that this service keeps, and access to every volume of the
// domain.
//
// A process runs one VolumeServer per loop ("shard"); each volume belongs to one shard, on every
// server of the domain by the same rule, so that its messages, its replica and its clients meet on
// one loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "coordination/client.h"
#include "journal/journal.h"
#include "protocol/records.h"
#include "rpc/rpc.h"
#include "runtime/file.h"
#include "runtime/loop.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"
#include "volume/client.h"

namespace datom::properties {
class Properties;
}

namespace datom::volume {

// What a shard stands on; all of one loop, all outlive it. `metrics` is the process's.
struct Seams {
  runtime::Loop* loop = nullptr;
  runtime::Random* random = nullptr;
  runtime::Filesystem* files = nullptr;
  coordination::Client* coordination = nullptr;
  rpc::Caller* caller = nullptr;
  properties::Properties* properties = nullptr;
  telemetry::Metrics* metrics = nullptr;
  telemetry::Log log = telemetry::Log::silent();
};

struct VolumeServerOptions {
  std::string domain;
  std::string service;  // this service's name
  std::string root;     // replicas live in ROOT/SERVICE/replicas/VOLUME_ID
  std::uint32_t shard = 0;
  std::uint32_t shards = 1;
  // Of every replica. Changes in batches of half of its largest size: no request may be larger.
  journal::JournalOptions journal;
  std::uint64_t memory_bytes = 0;  // of the machine: the cache takes at most half; 0: unknown
};

// What a replica holds, against what it promises to hold at most.
struct Held {
  std::string_view what;
  std::uint64_t is = 0;
  std::uint64_t at_most = 0;
};

class VolumeServer {
 public:
  VolumeServer(Seams seams, VolumeServerOptions options);
  // stop() must have returned.
  ~VolumeServer();

  // The shards of the process, this one included, in order: requests that arrive on another shard's
  // loop are passed on. Before start(); all outlive it.
  void set_shards(std::vector<VolumeServer*> shards);
  // Before serving; on the Router of this shard's loop.
  void register_handlers(rpc::Router& router);

  // Opens every replica under ROOT of this shard, brings journal and block store in step, and
  // begins to take part in their groups; then follows the domain's volumes. Throws Error if the
  // directory cannot be read; a replica in trouble is logged and shown in its status and does not
  // stop others.
  runtime::Task<void> start();
  // Leaders hand over; everything under way ends; replicas close. Clients must be closed before.
  runtime::Task<void> stop();

  // The coordination session expired: leave every group's hands off coordination until resumed with
  // a client of a new session.
  runtime::Task<void> coordination_lost();
  runtime::Task<void> coordination_back(coordination::Client& client);

  // Every volume of the domain as last seen in coordination, of all shards. Sorted by name.
  std::vector<protocol::VolumeRecord> volumes() const;
  // One of them; looks in coordination for one that is not known here yet. nullopt where there is
  // none, or coordination cannot be asked.
  runtime::Task<std::optional<protocol::VolumeRecord>> find(std::string name);
  // Attaches a client to a volume of this shard. Error{not_found}.
  runtime::Task<std::unique_ptr<VolumeClient>> attach(std::string name);

  // Of the replicas of this shard.
  std::vector<Held> held() const;

  runtime::Loop& loop();

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

// The shard that a volume belongs to, by its name.
std::uint32_t shard_of(const std::string& volume_name, std::uint32_t shards);

}  // namespace datom::volume

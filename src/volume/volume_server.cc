#include "volume/volume_server.h"

#include <algorithm>

#include "common/check.h"
#include "common/checksum.h"
#include "common/error.h"
#include "volume/volume_server_impl.h"

namespace datom::volume {

std::uint32_t shard_of(const std::string& volume_name, std::uint32_t shards) {
  return static_cast<std::uint32_t>(checksum(as_bytes(volume_name)) % shards);
}

// Every shard has the same part, whichever volumes it has.
void VolumeServer::Impl::resize_cache() {
  std::uint64_t bytes = seams.properties->get(properties::kCacheBytes);
  if (options.memory_bytes != 0) bytes = std::min(bytes, options.memory_bytes / 2);
  cache.resize(bytes / options.shards);
}

VolumeServer::VolumeServer(Seams seams, VolumeServerOptions options)
    : impl_(std::make_unique<Impl>(std::move(seams), std::move(options))) {
  impl_->shards = {this};
}

VolumeServer::~VolumeServer() {
  DATOM_CHECK(impl_->replicas.empty());
}

void VolumeServer::set_shards(std::vector<VolumeServer*> shards) {
  impl_->shards = std::move(shards);
}

runtime::Loop& VolumeServer::loop() {
  return *impl_->seams.loop;
}

Task<void> VolumeServer::start() {
  Impl& impl = *impl_;
  impl.cache_size =
      impl.seams.properties->on_change(properties::kCacheBytes, [&impl] { impl.resize_cache(); });
  impl.resize_cache();
  co_await impl.seams.files->make_directories(impl.replicas_directory);
  impl.peers = impl.seams.caller->watch_peers(
      [](const std::string&) {}, [&impl](const std::string& service) { impl.peer_down(service); });
  impl.begin(*impl.seams.coordination);
  co_await impl.read_volumes(*impl.client, impl.session);
  if (impl.options.shard == 0) co_await impl.report_orphans();
  impl.tasks.spawn(impl.follow(impl.session));
}

Task<void> VolumeServer::stop() {
  Impl& impl = *impl_;
  impl.stopping = true;
  ++impl.session;
  impl.changed.set();
  impl.retry.cancel();
  co_await impl.tasks.close();
  co_await impl.close_replicas();
  impl.cache_size.reset();
  impl.peers.reset();
  impl.session_watch.reset();
  impl.list_watch.reset();
  impl.volume_watches.clear();
}

Task<void> VolumeServer::coordination_lost() {
  Impl& impl = *impl_;
  ++impl.session;
  impl.client = nullptr;
  impl.session_watch.reset();
  impl.list_watch.reset();
  impl.volume_watches.clear();
  impl.changed.set();
  impl.retry.cancel();
  std::vector<Replica*> all;
  for (const auto& [uuid, one] : impl.replicas) all.push_back(one.get());
  for (Replica* one : all) co_await one->coordination_lost();
  co_await impl.tasks.wait_idle();
}

Task<void> VolumeServer::coordination_back(coordination::Client& client) {
  if (impl_->stopping) co_return;
  impl_->begin(client);
  impl_->tasks.spawn(impl_->follow(impl_->session));
}

std::vector<protocol::VolumeRecord> VolumeServer::volumes() const {
  std::vector<protocol::VolumeRecord> all;
  for (const auto& [name, record] : impl_->volumes) {
    if (!record.removing) all.push_back(record);
  }
  return all;
}

std::vector<Held> VolumeServer::held() const {
  std::vector<Held> all;
  for (const auto& [uuid, one] : impl_->replicas) {
    for (const Held& held : one->held()) all.push_back(held);
  }
  return all;
}

// A volume that was created a moment ago may not be known yet: coordination is asked, and the rest
// of this server learns of it as of any other.
Task<std::optional<protocol::VolumeRecord>> VolumeServer::find(std::string name) {
  Impl& impl = *impl_;
  if (!impl.volumes.contains(name) && impl.client != nullptr && protocol::valid_name(name)) {
    const std::uint64_t session = impl.session;
    std::optional<coordination::Node> node;
    try {
      node = co_await impl.client->get(protocol::paths::volume(impl.options.domain, name));
    } catch (const Error& error) {
      impl.seams.log.debug("volumeserver.coordination", {}, error.what());
    }
    if (node && session == impl.session && !impl.volumes.contains(name)) {
      const auto record = protocol::VolumeRecord::from_json(node->data);
      impl.shard_of_volume[record.id] = shard_of(name, impl.options.shards);
      impl.volumes[name] = record;
      impl.stale.insert(name);
      impl.changed.set();
    }
  }
  const auto found = impl.volumes.find(name);
  if (found == impl.volumes.end() || found->second.removing) co_return std::nullopt;
  co_return found->second;
}

Task<std::unique_ptr<VolumeClient>> VolumeServer::attach(std::string name) {
  std::optional<protocol::VolumeRecord> record = co_await find(name);
  if (!record) {
    throw Error(Code::not_found, "there is no volume {} in domain {}", name, impl_->options.domain);
  }
  co_return std::make_unique<AttachedClient>(impl_->seams, impl_->options.service,
                                             std::move(*record), *impl_);
}

}  // namespace datom::volume

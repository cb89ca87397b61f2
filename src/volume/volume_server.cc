#include "volume/volume_server.h"

#include <algorithm>
#include <exception>
#include <map>
#include <set>

#include "block_store/block_cache.h"
#include "common/check.h"
#include "common/checksum.h"
#include "common/error.h"
#include "properties/properties.h"
#include "protocol/methods.h"
#include "protocol/volume.pb.h"
#include "runtime/task_group.h"
#include "runtime/wait.h"
#include "volume/block_care.h"
#include "volume/client_impl.h"
#include "volume/group_post.h"
#include "volume/replica.h"
#include "volume/ticks.h"

namespace datom::volume {

using runtime::Task;

namespace {

constexpr runtime::Duration kRetry = std::chrono::milliseconds(500);
constexpr std::size_t kReadAtOnce = 8;  // volumes, and replicas being opened

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

std::uint32_t shard_of(const std::string& volume_name, std::uint32_t shards) {
  return static_cast<std::uint32_t>(checksum(as_bytes(volume_name)) % shards);
}

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
  Task<void> clear_for_successor(coordination::Client& client, protocol::VolumeRecord record,
                                 protocol::ReplicaRecord self);
  Task<void> check_not_wiped(coordination::Client& client, const protocol::VolumeRecord& record,
                             const protocol::ReplicaRecord& self, std::string directory);
  Task<void> remove_replica(protocol::VolumeRecord record);
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

// Every shard has the same part, whichever volumes it has.
void VolumeServer::Impl::resize_cache() {
  std::uint64_t bytes = seams.properties->get(properties::kCacheBytes);
  if (options.memory_bytes != 0) bytes = std::min(bytes, options.memory_bytes / 2);
  cache.resize(bytes / options.shards);
}

// ---- following the domain's volumes
// ---------------------------------------------------------------

void VolumeServer::Impl::begin(coordination::Client& now) {
  client = &now;
  ++session;
  list_stale = true;
  for (const auto& [name, record] : volumes) stale.insert(name);
  session_watch = now.watch_session([this](coordination::SessionState) { changed.set(); });
  for (const auto& [uuid, replica_] : replicas) replica_->begin(now);
}

Task<void> VolumeServer::Impl::follow(std::uint64_t mine) {
  while (!stopping && session == mine) {
    changed.clear();
    bool failed = false;
    try {
      co_await read_volumes(*client, mine);
    } catch (const Error& error) {
      failed = true;
      seams.log.debug("volumeserver.coordination", {}, error.what());
    }
    if (stopping || session != mine) break;
    if (failed) {
      retry.reset();
      co_await retry.sleep_for(kRetry);
    } else if (!changed.is_set()) {
      co_await changed.wait();
    }
  }
}

Task<void> VolumeServer::Impl::read_volumes(coordination::Client& from, std::uint64_t mine) {
  if (list_stale) {
    list_stale = false;
    std::optional<std::vector<std::string>> names;
    try {
      names = co_await from.children(
          protocol::paths::volumes(options.domain),
          [this] {
            list_stale = true;
            changed.set();
          },
          list_watch);
    } catch (...) {
      list_stale = true;
      throw;
    }
    if (session != mine) co_return;
    const std::set<std::string> now =
        names ? std::set<std::string>(names->begin(), names->end()) : std::set<std::string>{};
    for (const std::string& name : now) {
      if (!volumes.contains(name)) stale.insert(name);
    }
    for (const auto& [name, record] : volumes) {
      if (!now.contains(name)) stale.insert(name);
    }
  }
  while (!stale.empty() && session == mine && !stopping) {
    std::exception_ptr error;
    runtime::TaskGroup readers(
        *seams.loop, [&error](std::exception_ptr failed) { error = error ? error : failed; });
    const std::size_t many = std::min(stale.size(), kReadAtOnce);
    for (std::size_t i = 0; i < many; ++i) readers.spawn(read_stale(from, mine));
    co_await readers.close();
    if (error) std::rethrow_exception(error);
  }
}

// One after another, beside others that do the same. What becomes stale while it is being read is
// read once more, but not at the same time.
Task<void> VolumeServer::Impl::read_stale(coordination::Client& from, std::uint64_t mine) {
  while (session == mine && !stopping) {
    const auto next = std::find_if(stale.begin(), stale.end(),
                                   [this](const auto& each) { return !being_read.contains(each); });
    if (next == stale.end()) co_return;
    // Not stale from the moment on that it is read: a change meanwhile makes it so again.
    const std::string name = *next;
    stale.erase(next);
    being_read.insert(name);
    std::exception_ptr error;
    try {
      co_await read_volume(from, name, mine);
    } catch (...) {
      error = std::current_exception();
    }
    being_read.erase(name);
    if (!error) continue;
    stale.insert(name);
    std::rethrow_exception(error);
  }
}

Task<void> VolumeServer::Impl::read_volume(coordination::Client& from, std::string name,
                                           std::uint64_t mine) {
  coordination::WatchHandle watch;
  const auto node = co_await from.get(
      protocol::paths::volume(options.domain, name),
      [this, name] {
        stale.insert(name);
        changed.set();
      },
      watch);
  if (session != mine || stopping) co_return;
  volume_watches[name] = std::move(watch);
  if (!node) {
    // Gone. A replica goes only when its volume was seen to be removed: a tree that lost a record
    // is no reason to delete data.
    volume_watches.erase(name);
    const auto known = volumes.find(name);
    if (known == volumes.end()) co_return;
    if (!known->second.removing && replicas.contains(known->second.id)) {
      seams.log.error("volumeserver.volume_vanished", {{"volume", name}},
                      "its record is gone without having been removed; the replica stays");
    }
    volumes.erase(known);
    co_return;
  }
  protocol::VolumeRecord record = protocol::VolumeRecord::from_json(node->data);
  volumes[name] = record;
  shard_of_volume[record.id] = shard_of(name, options.shards);
  co_await reconcile(from, std::move(record));
}

Task<void> VolumeServer::Impl::reconcile(coordination::Client& from,
                                         protocol::VolumeRecord record) {
  if (shard_of_volume.at(record.id) != options.shard) co_return;
  const std::optional<protocol::ReplicaRecord> self = own_replica(record);
  if (record.removing) {
    if (self) co_await remove_replica(std::move(record));
    co_return;
  }
  if (!self) {
    co_await leave_volume(from, std::move(record));
    co_return;
  }
  co_await clear_for_successor(from, record, *self);
  const auto open = replicas.find(record.id);
  if (open != replicas.end()) {
    open->second->set_limits(record.limits);
  } else if (!troubles.contains(record.id)) {
    co_await open_replica(from, std::move(record), *self);
  }
}

// What this server is to keep of the volume. While it replaces a replica of its own, the new one.
std::optional<protocol::ReplicaRecord> VolumeServer::Impl::own_replica(
    const protocol::VolumeRecord& record) const {
  std::optional<protocol::ReplicaRecord> self;
  for (const protocol::ReplicaRecord& one : record.replicas) {
    if (one.service != options.service) continue;
    if (!self || one.replica == record.move_to) self = one;
  }
  return self;
}

// Also when the group's record cannot be found: then nothing is known.
Task<bool> VolumeServer::Impl::is_voter(coordination::Client& from,
                                        const protocol::VolumeRecord& record, Uuid replica) const {
  co_await from.sync();
  const auto node = co_await from.get(protocol::paths::group(options.domain, record.id));
  if (!node) co_return true;
  const auto group = protocol::GroupRecord::from_json(node->data);
  const auto is_it = [&](const protocol::ReplicaRecord& one) { return one.replica == replica; };
  co_return std::any_of(group.voters.begin(), group.voters.end(), is_it) ||
      std::any_of(group.next_voters.begin(), group.next_voters.end(), is_it);
}

// The volume is kept elsewhere now. The data go once the group's record, too, does not know them;
// the mark in coordination stays, so that nobody ever takes that replica's name again (rule M4).
Task<void> VolumeServer::Impl::leave_volume(coordination::Client& from,
                                            protocol::VolumeRecord record) {
  const auto open = replicas.find(record.id);
  if (open != replicas.end()) {
    const bool votes = co_await is_voter(from, record, open->second->self().replica);
    if (votes) {
      seams.log.error("volumeserver.still_a_voter", {{"volume", record.name}},
                      "the volume's record no longer lists this server; the replica stays");
      co_return;
    }
  }
  co_await remove_replica(std::move(record));
}

// Makes room for the replica that this server is to keep. An open one of another name is of a move
// that was undone, or is the unusable one that is replaced here. And a replica that is to take the
// place of another begins empty: what is here of the volume is of one that was replaced before.
Task<void> VolumeServer::Impl::clear_for_successor(coordination::Client& from,
                                                   protocol::VolumeRecord record,
                                                   protocol::ReplicaRecord self) {
  const auto open = replicas.find(record.id);
  if (open != replicas.end()) {
    const Uuid own = open->second->self().replica;
    if (own == self.replica) co_return;
    const bool listed =
        std::any_of(record.replicas.begin(), record.replicas.end(),
                    [&](const protocol::ReplicaRecord& one) { return one.replica == own; });
    bool stays = listed && open->second->status().trouble().empty();
    if (!listed) stays = co_await is_voter(from, record, own);  // else of a move that was undone
    if (stays) {
      seams.log.error("volumeserver.replica_is_sound", {{"volume", record.name}},
                      "it is to be replaced on this server by a new one; it stays");
      co_return;
    }
    co_await remove_replica(std::move(record));
    co_return;
  }
  if (self.replica != record.move_to) co_return;
  const auto trouble = troubles.find(record.id);
  if (trouble != troubles.end() && trouble->second.replica == self.replica) co_return;
  co_await from.sync();
  const auto marked = co_await from.get(marker(record, self));
  if (!marked) co_await remove_replica(std::move(record));
}

std::string VolumeServer::Impl::marker(const protocol::VolumeRecord& record,
                                       const protocol::ReplicaRecord& self) const {
  return protocol::paths::group(options.domain, record.id) + "/replicas/" +
         self.replica.to_string();
}

// What is there already stays; what lies above is seldom missing.
Task<void> VolumeServer::Impl::make_marker(coordination::Client& from,
                                           const protocol::VolumeRecord& record,
                                           const protocol::ReplicaRecord& self) const {
  try {
    co_await from.create(marker(record, self), "");
    co_return;
  } catch (const Error& error) {
    if (error.code() == Code::already_exists) co_return;
    if (error.code() != Code::not_found) throw;
  }
  co_await coordination::ensure_path(from, marker(record, self));
}

// M1: a replica that has once taken part and whose disk is empty now must not come back as a blank
// voter under its old name: it would deny what it once acknowledged. The mark is made before it
// takes part for the first time.
Task<void> VolumeServer::Impl::check_not_wiped(coordination::Client& from,
                                               const protocol::VolumeRecord& record,
                                               const protocol::ReplicaRecord& self,
                                               std::string directory) {
  const bool there = co_await seams.files->exists(directory + "/superblock");
  if (there) co_return;
  co_await from.sync();
  const auto marked = co_await from.get(marker(record, self));
  if (!marked) co_return;
  throw Error(Code::corrupt,
              "{} is empty, but replica {} has taken part in volume {}: its disk was wiped or not "
              "mounted; mount it and restart",
              directory, self.replica.to_string(), record.name);
}

Task<void> VolumeServer::Impl::open_replica(coordination::Client& from,
                                            protocol::VolumeRecord record,
                                            protocol::ReplicaRecord self) {
  const std::string directory = replicas_directory + "/" + record.id.to_string();
  Seams own = seams;
  own.coordination = nullptr;
  std::unique_ptr<Replica> opened;
  std::string trouble;
  try {
    co_await check_not_wiped(from, record, self, directory);
    co_await seams.files->make_directories(directory);
    opened = co_await Replica::open(own, {&post, &ticks, &cache}, record, self,
                                    {options.domain, options.service, directory, options.journal});
  } catch (const Error& error) {
    if (error.code() == Code::unavailable || error.code() == Code::outcome_unknown ||
        error.code() == Code::session_expired) {
      throw;  // of coordination: later
    }
    trouble = error.what();
  }
  if (!trouble.empty()) {
    troubles[record.id] = {self.replica, trouble};
    seams.log.error("replica.unusable", {{"volume", record.name}}, trouble);
    co_return;
  }
  Replica& kept = *(replicas[record.id] = std::move(opened));
  std::exception_ptr failed;
  try {
    co_await make_marker(from, record, self);
  } catch (...) {
    failed = std::current_exception();
  }
  if (failed) {
    std::unique_ptr<Replica> closing = std::move(replicas[record.id]);
    replicas.erase(record.id);
    co_await closing->stop();
    std::rethrow_exception(failed);
  }
  if (client == &from && !stopping) kept.begin(from);
}

Task<void> VolumeServer::Impl::remove_replica(protocol::VolumeRecord record) {
  const auto found = replicas.find(record.id);
  if (found != replicas.end()) {
    std::unique_ptr<Replica> leaving = std::move(found->second);
    replicas.erase(found);
    co_await leaving->stop();
  }
  troubles.erase(record.id);
  const std::string directory = replicas_directory + "/" + record.id.to_string();
  const bool there = co_await seams.files->exists(directory);
  if (!there) co_return;
  co_await seams.files->remove_tree(directory);
  co_await seams.files->sync_directory(replicas_directory);
  seams.log.info("replica.removed", {{"volume", record.name}});
}

// Directories of volumes that the domain no longer has, removed while this server was away. They
// stay: a tree that was restored from an old copy, or made anew, is no reason to delete data.
Task<void> VolumeServer::Impl::report_orphans() const {
  const std::vector<std::string> names = co_await seams.files->list(replicas_directory);
  for (const std::string& name : names) {
    const std::optional<Uuid> uuid = Uuid::parse(name);
    if (!uuid || shard_of_volume.contains(*uuid)) continue;
    seams.log.warn("replica.orphan", {{"directory", replicas_directory + "/" + name}},
                   "its volume is not in the domain; delete the directory if it was removed");
  }
}

Task<void> VolumeServer::Impl::close_replicas() {
  while (!replicas.empty()) {
    std::unique_ptr<Replica> leaving = std::move(replicas.begin()->second);
    replicas.erase(replicas.begin());
    co_await leaving->stop();
  }
}

// ---- requests
// -------------------------------------------------------------------------------------

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

// ---- VolumeServer
// ---------------------------------------------------------------------------------

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

void VolumeServer::register_handlers(rpc::Router& router) {
  namespace method = protocol::method;
  Impl* here = impl_.get();
  here->on_call<protocol::ClientIo>(
      router, method::kClientIo, [](Impl& there, protocol::ClientIo request, Buffer payload) {
        return there.find(uuid_of(request.volume())).serve(std::move(request), std::move(payload));
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

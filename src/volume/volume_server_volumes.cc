// Follows the domain's volumes: opens the replicas that this server is to keep, removes others.
#include <algorithm>

#include "common/error.h"
#include "volume/volume_server_impl.h"

namespace datom::volume {
namespace {

constexpr runtime::Duration kRetry = std::chrono::milliseconds(500);
constexpr std::size_t kReadAtOnce = 8;  // volumes, and replicas being opened

}  // namespace

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
    if (self) co_await remove_replica(from, std::move(record));
    co_return;
  }
  if (!self) {
    co_await leave_volume(from, std::move(record));
    co_return;
  }
  const bool clear = co_await clear_for_successor(from, record, *self);
  if (!clear) co_return;
  const auto open = replicas.find(record.id);
  const auto trouble = troubles.find(record.id);
  const bool unusable = trouble != troubles.end() && trouble->second.replica == self->replica;
  if (open != replicas.end()) {
    open->second->set_limits(record.limits);
  } else if (!unusable) {
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
  co_await remove_replica(from, std::move(record));
}

// Makes room for the replica that this server is to keep. An open one of another name is of a move
// that was undone, or is the unusable one that is replaced here. And a replica that is to take the
// place of another begins empty: what is here of the volume is of one that was replaced before.
// False as remove_replica.
Task<bool> VolumeServer::Impl::clear_for_successor(coordination::Client& from,
                                                   protocol::VolumeRecord record,
                                                   protocol::ReplicaRecord self) {
  const auto open = replicas.find(record.id);
  if (open != replicas.end()) {
    const Uuid own = open->second->self().replica;
    if (own == self.replica) co_return true;
    const bool listed =
        std::any_of(record.replicas.begin(), record.replicas.end(),
                    [&](const protocol::ReplicaRecord& one) { return one.replica == own; });
    bool stays = listed && open->second->status().trouble().empty();
    if (!listed) stays = co_await is_voter(from, record, own);  // else of a move that was undone
    if (stays) {
      seams.log.error("volumeserver.replica_is_sound", {{"volume", record.name}},
                      "it is to be replaced on this server by a new one; it stays");
      co_return true;
    }
    co_return co_await remove_replica(from, std::move(record));
  }
  if (self.replica != record.move_to) co_return true;
  const auto trouble = troubles.find(record.id);
  if (trouble != troubles.end() && trouble->second.replica == self.replica) co_return true;
  co_await from.sync();
  const auto marked = co_await from.get(marker(record, self));
  if (marked) co_return true;
  co_return co_await remove_replica(from, std::move(record));
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

Task<bool> VolumeServer::Impl::is_newest(coordination::Client& from,
                                         protocol::VolumeRecord record) const {
  co_await from.sync();
  const auto node = co_await from.get(protocol::paths::volume(options.domain, record.name));
  if (!node) co_return false;
  co_return protocol::VolumeRecord::from_json(node->data).to_json() == record.to_json();
}

// A server of coordination may be behind: what it tells is as good as any for opening a replica,
// but no reason to delete one, unless the volume is being removed, which nobody takes back. False:
// the record is not the newest; it is read again.
Task<bool> VolumeServer::Impl::remove_replica(coordination::Client& from,
                                              protocol::VolumeRecord record) {
  const std::string directory = replicas_directory + "/" + record.id.to_string();
  const bool there = co_await seams.files->exists(directory);
  bool newest = true;
  if (!record.removing && (there || replicas.contains(record.id))) {
    newest = co_await is_newest(from, record);
  }
  if (!newest) {
    stale.insert(record.name);
    changed.set();
    co_return false;
  }
  const auto found = replicas.find(record.id);
  if (found != replicas.end()) {
    std::unique_ptr<Replica> leaving = std::move(found->second);
    replicas.erase(found);
    co_await leaving->stop();
  }
  troubles.erase(record.id);
  if (!there) co_return true;
  co_await seams.files->remove_tree(directory);
  co_await seams.files->sync_directory(replicas_directory);
  seams.log.info("replica.removed", {{"volume", record.name}});
  co_return true;
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

}  // namespace datom::volume

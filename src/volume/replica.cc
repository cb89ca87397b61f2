#include "volume/replica.h"

#include <algorithm>

#include "common/check.h"
#include "common/error.h"
#include "volume/replica_impl.h"

namespace datom::volume {
namespace {

std::string journal_directory(const std::string& directory) {
  return directory + "/journal";
}

std::string text_of(std::exception_ptr error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return e.what();
  }
}

}  // namespace

Replica::Impl::Impl(Seams seams_, Shared shared_, protocol::VolumeRecord volume_,
                    protocol::ReplicaRecord self_, ReplicaOptions options_)
    : seams(std::move(seams_)),
      shared(shared_),
      volume(std::move(volume_)),
      self(std::move(self_)),
      options(std::move(options_)),
      log(seams.log.with({"volume", volume.name})),
      sessions(volume.access),
      log_work(loop()),
      journal_access(loop()),
      last_append(loop().now()),
      apply_work(loop()),
      hold_tick(*shared.ticks,
                [this] {
                  hold_over = store->applied_op() == held_since;
                  apply_work.set();
                }),
      applied(loop()),
      apply_access(loop()),
      superblock(loop()),
      last_checkpoint(loop().now()),
      group_tick(*shared.ticks, [this] { tick(); }),
      house_tick(*shared.ticks, [this] { keep_house(); }),
      proposal_work(loop()),
      proposal_room(loop()),
      ranges(loop()),
      throttle(loop()),
      in_flight_changed(loop()),
      attaching(loop()),
      rounds_changed(loop()),
      served(loop()),
      copy_timer(loop()),
      copy_reads(loop()),
      tasks(loop(), [this](std::exception_ptr error) { fail("working", error); }) {
  throttle.set(volume.limits);
  make_metrics();
}

void Replica::Impl::make_metrics() {
  telemetry::Metrics& metrics = *seams.metrics;
  const telemetry::Labels labels = {{"service", options.service}, {"volume", volume.name}};
  reads_total =
      metrics.counter("datom_reads_total", "Reads that this replica served as leader.", labels);
  read_bytes_total =
      metrics.counter("datom_read_bytes_total", "Bytes read from this replica as leader.", labels);
  disk_read_bytes_total = metrics.counter(
      "datom_disk_read_bytes_total",
      "Bytes of blocks that were not in memory when this replica read them.", labels);
  changes_total =
      metrics.counter("datom_changes_total",
                      "Writes, zeroes and trims committed by this replica as leader.", labels);
  change_bytes_total = metrics.counter(
      "datom_change_bytes_total", "Bytes of the ranges changed by this replica as leader.", labels);
  change_seconds = metrics.histogram(
      "datom_change_seconds", "From a change's arrival at the leader to its commit.", labels);
  sync_bytes_total = metrics.counter(
      "datom_sync_bytes_total", "Bytes that this replica has received by copying blocks.", labels);
  leads = metrics.gauge("datom_replica_leads", "1 while this replica leads and serves, else 0.",
                        labels);
  term_gauge = metrics.gauge("datom_replica_term", "The term that this replica promised.", labels);
  applied_gauge = metrics.gauge("datom_replica_applied_op",
                                "The last op applied to this replica's blocks.", labels);
}

// ---- opening ------------------------------------------------------------------------------------

Task<void> Replica::Impl::load() {
  const bool there = co_await seams.files->exists(options.directory + "/superblock");
  if (!there) co_await make_files();
  const block_store::BlockStoreOptions store_options{.cache = shared.cache};
  store = co_await block_store::BlockStore::open(*seams.files, loop(), options.directory,
                                                 store_options);
  journal = co_await journal::Journal::open(
      *seams.files, loop(), journal_directory(options.directory), volume.id, options.journal);
  check_files();
  care = std::make_unique<BlockCare>(*this);
  sessions.decode(store->state().sessions);
  make_group();
  apply_blocked = !store->state().base_complete;
  apply_goal = apply_blocked ? store->applied_op() : group->commit();
  while (store->applied_op() < apply_goal) co_await apply_next();
  journal->on_failure([this](std::exception_ptr error) {
    if (!stopping) fail("preparing the journal", error);
  });
  note_applied(store->applied_op());
}

// The superblock comes last: with it, everything is there.
Task<void> Replica::Impl::make_files() {
  const std::string directory = journal_directory(options.directory);
  co_await seams.files->remove_tree(directory);
  co_await seams.files->make_directories(directory);
  co_await journal::Journal::create(*seams.files, directory, volume.id, {}, options.journal);
  co_await seams.files->sync_directory(options.directory);
  block_store::ReplicaState state;
  state.volume = volume.id;
  state.replica = self.replica;
  co_await block_store::BlockStore::format(*seams.files, options.directory, volume.size, state);
}

void Replica::Impl::check_files() const {
  const block_store::ReplicaState& state = store->state();
  if (state.volume != volume.id || state.replica != self.replica) {
    throw Error(Code::conflict,
                "{} holds replica {} of volume {}, expected replica {} of volume {}",
                options.directory, state.replica.to_string(), state.volume.to_string(),
                self.replica.to_string(), volume.id.to_string());
  }
  if (store->size() != volume.size) {
    throw Error(Code::conflict, "{} holds a volume of {} bytes, expected {}", options.directory,
                store->size(), volume.size);
  }
  if (!state.base_complete) return;  // it is copied anew in any case
  const Op checkpoint = store->checkpoint_op();
  // What the disk lost at the end, below the checkpoint too, comes from a leader again.
  const bool ends_early = journal->last().op < checkpoint && journal->head_certain();
  if (journal->base().op > checkpoint || ends_early) {
    throw Error(Code::corrupt, "{}: the journal holds ops {} to {}, the checkpoint is at op {}",
                options.directory, journal->first_op().value(), journal->last().op.value(),
                checkpoint.value());
  }
}

void Replica::Impl::make_group() {
  replication::Durable durable;
  durable.promised = store->state().promised;
  durable.base = journal->base();
  for (Op op = journal->first_op(); op <= journal->last().op; op = op.next()) {
    durable.entries.push_back(*journal->id_at(op));
  }
  durable.committed = std::max(store->checkpoint_op(), journal->highest_commit_hint());
  durable.base_complete = store->state().base_complete;
  durable.head_certain = journal->head_certain();
  group.emplace(replication::Identity{volume.id, self, seams.random->next()}, group_options(),
                std::move(durable), now());
}

replication::Options Replica::Impl::group_options() const {
  replication::Options now_in_force;
  now_in_force.heartbeat = seams.properties->get(properties::kGroupHeartbeat);
  now_in_force.election_timeout = seams.properties->get(properties::kGroupElectionTimeout);
  now_in_force.window_bytes = window_bytes();
  now_in_force.read_bytes = options.journal.max_batch_bytes / 4;
  now_in_force.lease = seams.properties->get(properties::kGroupLease);
  return now_in_force;
}

void Replica::Impl::begin(coordination::Client& client) {
  if (!watch) {
    GroupWatch::Place place{
        options.domain, volume.id, options.service,
        Uuid::from_random(seams.random->next(), seams.random->next()).to_string()};
    watch = std::make_unique<GroupWatch>(
        loop(), std::move(place), log,
        [this](replication::View view) { perform(group->view_changed(now(), std::move(view))); },
        [this](GroupWatch::Result result) {
          perform(group->coordinated(now(), result.number, result.outcome, std::move(result.path),
                                     result.version));
        });
    tasks.spawn(write_log());
    tasks.spawn(apply_committed());
    tasks.spawn(pump_proposals());
    group_tick.at(runtime::Time(group->next_tick()));
    house_tick.at(next_multiple(loop().now(), kHouseInterval));
    tasks.spawn(care->scrub());
  }
  if (trouble.empty() && !stopping) watch->begin(client);
}

// ---- ending -------------------------------------------------------------------------------------

// S1: whatever the disk refused is not tried again. This replica takes no further part; the others
// go on without it.
void Replica::Impl::fail(std::string_view doing, std::exception_ptr error) {
  if (!trouble.empty()) return;
  trouble = fmt::format("{}: {}", doing, text_of(error));
  log.error("replica.stopped", {{"replica", self.replica.to_string()}}, trouble);
  if (group) perform(group->stop(now()));
  abandon_clients();
  wake_workers();
  if (watch && !tasks.closing()) tasks.spawn(leave());
}

Task<void> Replica::Impl::leave() {
  co_await watch->stop();
}

void Replica::Impl::wake_workers() {
  log_work.set();
  apply_work.set();
  proposal_work.set();
  copy_timer.cancel();
  if (care) care->stop();
}

Task<void> Replica::Impl::stop() {
  stopping = true;
  if (group) {
    perform(group->stop(now()));
    abandon_clients();
  }
  while (serving > 0) co_await served.wait();
  if (watch) co_await watch->stop();
  hold_tick.cancel();
  group_tick.cancel();
  house_tick.cancel();
  wake_workers();
  co_await tasks.close();
  // The part of a copy that is there need not be copied again.
  const bool sound = trouble.empty() && store && group && !apply_blocked;
  if (sound && (store->applied_op() > store->checkpoint_op() || store->dirty_bytes() > 0)) {
    block_store::ReplicaState state = store->state();
    state.sessions = sessions.encode();
    std::exception_ptr error;
    try {
      co_await store->checkpoint(std::move(state));
    } catch (...) {
      error = std::current_exception();
    }
    if (error) log.error("replica.checkpoint_failed", {}, text_of(error));
  }
  if (journal) co_await journal->close();
  if (store) co_await store->close();
}

// ---- what is shown
// --------------------------------------------------------------------------------

protocol::ReplicaStatus Replica::Impl::status() const {
  protocol::ReplicaStatus out;
  const replication::State state = group->state();
  out.set_volume(volume.id.bytes.data(), volume.id.bytes.size());
  out.set_replica(self.replica.bytes.data(), self.replica.bytes.size());
  out.set_state(std::string(name(state)));
  out.set_role(std::string(name(replication::role_of(state))));
  out.set_term(group->promised().value());
  out.set_commit_op(group->commit().value());
  out.set_applied_op(store->applied_op().value());
  out.set_last_op(group->last().op.value());
  out.set_bytes_used(store->bytes_used());
  out.set_trouble(divergence_reported && trouble.empty() ? "blocks differ from the leader's"
                                                         : trouble);
  if (store->fingerprint_known()) out.set_fingerprint(store->fingerprint());
  out.set_leader(group->leader());
  care->fill(out);
  out.set_sync_copying(copying);
  if (copying) {
    out.set_sync_blocks_total(sync_total);
    out.set_sync_blocks_done(std::min(sync_done, sync_total));
  }
  out.set_sync_bytes(sync_bytes);
  return out;
}

// ---- Replica
// --------------------------------------------------------------------------------------

Replica::Replica(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Replica::~Replica() = default;

Task<std::unique_ptr<Replica>> Replica::open(Seams seams, Shared shared,
                                             protocol::VolumeRecord volume,
                                             protocol::ReplicaRecord self, ReplicaOptions options) {
  auto impl = std::make_unique<Impl>(std::move(seams), shared, std::move(volume), std::move(self),
                                     std::move(options));
  std::exception_ptr error;
  try {
    co_await impl->load();
  } catch (...) {
    error = std::current_exception();
  }
  if (error) {
    co_await impl->stop();
    std::rethrow_exception(error);
  }
  co_return std::unique_ptr<Replica>(new Replica(std::move(impl)));
}

void Replica::begin(coordination::Client& client) {
  impl_->begin(client);
}

Task<void> Replica::coordination_lost() {
  if (!impl_->watch) co_return;
  impl_->watch->session_lost();
  co_await impl_->watch->drained();
}

Task<void> Replica::stop() {
  return impl_->stop();
}
void Replica::receive(const protocol::GroupMessage& message, Buffer entries) {
  impl_->receive(message, std::move(entries));
}

void Replica::peer_down(const std::string& service) {
  if (impl_->stopping || !impl_->trouble.empty()) return;
  impl_->perform(impl_->group->peer_down(impl_->now(), service));
}

Task<rpc::Message> Replica::serve(const protocol::ClientIo& request, Buffer payload) {
  return impl_->serve(request, std::move(payload));
}
Task<rpc::Message> Replica::replace(protocol::ReplaceReplicaRequest request) {
  return impl_->replace(std::move(request));
}
Task<rpc::Message> Replica::cancel_replace(protocol::CancelReplaceRequest request) {
  return impl_->cancel_replace(std::move(request));
}
Task<rpc::Message> Replica::begin_copy(protocol::CopyBeginRequest request) {
  return impl_->begin_copy(std::move(request));
}
Task<rpc::Message> Replica::newer_blocks(protocol::NewerBlocksRequest request) {
  return impl_->care->newer_blocks(std::move(request));
}
Task<rpc::Message> Replica::read_blocks(protocol::ReadBlocksRequest request) {
  return impl_->care->read_blocks(std::move(request));
}

void Replica::set_limits(const protocol::Limits& limits) {
  impl_->throttle.set(limits);
}

BlockCare& Replica::care() {
  return *impl_->care;
}

std::string Replica::leader() const {
  return impl_->group->leader();
}
bool Replica::serves() const {
  return impl_->serves();
}
protocol::ReplicaStatus Replica::status() const {
  return impl_->status();
}

std::vector<Held> Replica::held() const {
  const Impl& impl = *impl_;
  const std::uint64_t entry = protocol::frame_bytes(protocol::kMaxEntryPayload);
  return {{"bytes of entries in memory", impl.recent_bytes, impl.most_recent()},
          {"bytes that wait for the journal", impl.unwritten_bytes, impl.most_unwritten()},
          {"bytes of changes to be proposed", impl.queued_bytes, kMaxQueuedBytes + entry},
          {"sessions", impl.sessions.all().size(), replication::kMaxSessions},
          {"sessions closed ahead", impl.closed_sessions.size(), replication::kMaxSessions},
          {"changes refused", impl.refused_changes.size(),
           replication::kMaxSessions * replication::kSessionWindow}};
}

const protocol::VolumeRecord& Replica::volume() const {
  return impl_->volume;
}
const protocol::ReplicaRecord& Replica::self() const {
  return impl_->self;
}

}  // namespace datom::volume

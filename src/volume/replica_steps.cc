// Performs what the group protocol decides: journal, apply, checkpoint, messages, time.
#include <algorithm>
#include <utility>

#include "common/error.h"
#include "protocol/methods.h"
#include "volume/group_post.h"
#include "volume/replica_impl.h"

namespace datom::volume {
namespace {

constexpr std::size_t kApplyBytes = 4 << 20;
// What is committed is applied when there is that much of it, or at the second look at the same.
constexpr std::uint64_t kHeldOps = 64;
constexpr std::size_t kHeldBytes = 256 << 10;
constexpr runtime::Duration kHoldLook = std::chrono::milliseconds(20);
constexpr std::size_t kMaxDirtyTable = 32 << 20;
// An idle journal: nobody has written to it for so long.
constexpr runtime::Duration kJournalIdle = std::chrono::seconds(60);

}  // namespace

// In order, whatever performing one of them adds.
void Replica::Impl::perform(replication::Effects more) {
  for (replication::Effect& effect : more) effects.push_back(std::move(effect));
  if (performing) return;
  performing = true;
  while (!effects.empty()) {
    replication::Effect effect = std::move(effects.front());
    effects.pop_front();
    perform_one(std::move(effect));
  }
  performing = false;
  const runtime::Time next(group->next_tick());
  if (next < group_tick.due() && watch && !stopping) group_tick.at(next);
}

void Replica::Impl::perform_one(replication::Effect effect) {
  struct Perform {
    Impl& replica;
    void operator()(replication::SavePromise& it) {
      replica.tasks.spawn(replica.save_promise(it.term));
    }
    void operator()(replication::WriteLog& it) {
      replica.keep_recent(it.batch);
      replica.unwritten_bytes += it.batch->bytes.size();
      replica.note_unapplied(*it.batch);
      replica.log_queue.push_back(it);
      replica.log_work.set();
    }
    void operator()(replication::TruncateLog& it) {
      auto& recent = replica.recent_batches;
      while (!recent.empty() && recent.back()->headers.back().op > it.last_kept) {
        replica.recent_bytes -= recent.back()->bytes.size();
        recent.pop_back();
      }
      replica.unapplied_bytes = 0;
      replica.log.info("replica.tail_cut", {{"last_kept", it.last_kept}});
      replica.log_queue.push_back(it);
      replica.log_work.set();
    }
    void operator()(replication::Send& it) { replica.send(std::move(it)); }
    void operator()(replication::Coordinate& it) { replica.watch->perform(std::move(it)); }
    void operator()(replication::ReadLog& it) {
      replica.tasks.spawn(replica.read_log(std::move(it)));
    }
    void operator()(replication::NeedNoOp&) {
      if (replica.group->wants_no_op()) replica.propose_no_op();
    }
    void operator()(replication::Commit& it) {
      replica.apply_goal = std::max(replica.apply_goal, it.op);
      replica.finish_committed(it.op);
      if (replica.apply_due()) replica.apply_work.set();
    }
    void operator()(replication::ReadsConfirmed& it) {
      replica.rounds_confirmed = it.round;
      replica.round_commit = it.commit;
      replica.round_running = false;
      replica.rounds_changed.wake_all();
      // What comes next in the same step may be the end of the leadership, and of who waits.
      const bool again = std::exchange(replica.round_wanted, false);
      if (again && replica.group->can_propose()) replica.begin_read_round();
    }
    void operator()(replication::CopyNeeded& it) {
      replica.tasks.spawn(replica.copy_from(it.leader));
    }
    void operator()(replication::Changed& it) { replica.changed(it); }
    void operator()(replication::Divergent& it) {
      replica.fail("following the leader", std::make_exception_ptr(Error(Code::corrupt, it.what)));
    }
  };
  std::visit(Perform{*this}, effect);
}

void Replica::Impl::changed(const replication::Changed& change) {
  leads->set(change.to == replication::State::leader_functional ? 1 : 0);
  store->cache_writes(change.to == replication::State::leader_functional);
  const bool lead_changes = replication::role_of(change.from) == replication::Role::leader ||
                            replication::role_of(change.to) == replication::Role::leader;
  const telemetry::Fields fields = {{"from", name(change.from)},
                                    {"to", name(change.to)},
                                    {"cause", name(change.cause)},
                                    {"term", change.term},
                                    {"op", group->last().op}};
  lead_changes ? log.info("replica.state", fields) : log.debug("replica.state", fields);
  if (change.to == replication::State::leader_functional) {
    serve_from = group->commit();
    want_applied(serve_from);
    closed_sessions.clear();
    rounds_begun = rounds_confirmed = 0;
    round_running = round_wanted = false;
  } else if (replication::role_of(change.from) == replication::Role::leader) {
    abandon_clients();
  } else if (change.to == replication::State::follower_functional) {
    journal->declare_head_certain();  // the leader has supplied the tail
  }
}

void Replica::Impl::send(replication::Send message) {
  Buffer entries;
  if (message.entries) entries = message.entries->bytes;
  shared.post->send(message.service, message.message, std::move(entries));
}

void Replica::Impl::receive(const protocol::GroupMessage& message, Buffer entries) {
  if (!trouble.empty() || stopping) return;
  replication::Batch batch;
  // What does not fit is as good as lost on the way: the leader sends it again.
  if (!entries.empty() && unwritten_bytes + entries.size() <= most_unwritten()) {
    batch = std::make_shared<const protocol::EntryBatch>(
        protocol::parse_batch(std::move(entries), volume.id));
  }
  const auto* append = std::get_if<protocol::Append>(&message.body);
  if (append != nullptr && leader_fingerprint_op == Op(0)) {
    leader_fingerprint_op = append->fingerprint_op;
    leader_fingerprint = append->fingerprint;
    compare_fingerprint();
  }
  perform(group->receive(now(), message, std::move(batch)));
}

// A leader sends a window ahead of the acks, and one batch. More comes only from several leaders,
// one after the other, or from one that began anew after a loss.
std::size_t Replica::Impl::most_unwritten() const {
  return window_bytes() + options.journal.max_batch_bytes;
}

// The proof that replicas are equal: same op, same fingerprint.
void Replica::Impl::compare_fingerprint() {
  if (leader_fingerprint_op > store->applied_op()) return;
  const Op op = std::exchange(leader_fingerprint_op, Op(0));
  const std::optional<std::uint64_t> here = store->fingerprint_at(op);
  if (op == Op(0) || !here || divergence_reported) return;
  if (*here == leader_fingerprint) {
    care->fingerprint_agrees();
    return;
  }
  if (care->count_anew()) return;  // one of the two may only have been counted wrongly
  divergence_reported = true;
  log.error("replica.divergent", {{"op", op}, {"here", *here}, {"leader", leader_fingerprint}},
            "this replica's blocks differ from the leader's");
}

void Replica::Impl::tick() {
  if (stopping) return;
  if (runtime::Time(group->next_tick()) <= loop().now()) perform(group->tick(now()));
  const runtime::Time soonest = loop().now() + std::chrono::milliseconds(1);
  group_tick.at(std::max(runtime::Time(group->next_tick()), soonest));
}

Task<void> Replica::Impl::save_promise(Term term) {
  std::exception_ptr error;
  try {
    co_await store->promise(term);
  } catch (...) {
    error = std::current_exception();
  }
  if (error) {
    fail("saving a promise", error);
  } else {
    perform(group->promise_saved(now(), term));
  }
}

// The journal's only writer.
Task<void> Replica::Impl::write_log() {
  std::exception_ptr error;
  try {
    while (trouble.empty()) {
      if (log_queue.empty()) {
        log_busy = false;
        proposal_work.set();
        if (stopping) break;
        log_work.clear();
        co_await log_work.wait();
        continue;
      }
      log_busy = true;
      const auto next = std::move(log_queue.front());
      log_queue.pop_front();
      const runtime::Mutex::Holder turn = co_await journal_access.lock();
      if (!trouble.empty()) break;  // a copy failed that was to empty the journal for this
      if (const auto* write = std::get_if<replication::WriteLog>(&next)) {
        co_await journal->append(*write->batch);
        bytes_since_checkpoint += write->batch->bytes.size();
        bytes_since_trim += write->batch->bytes.size();
        last_append = loop().now();
        // Little by little, so that what is freed is what comes next.
        if (bytes_since_trim >= options.journal.segment_bytes && !stopping && !trimming) {
          tasks.spawn(trim_in_background());
        }
        unwritten_bytes -= write->batch->bytes.size();
        perform(group->log_written(now(), write->batch->headers.back().id()));
      } else {
        co_await journal->truncate_after(std::get<replication::TruncateLog>(next).last_kept);
        perform(group->log_truncated(now()));
      }
    }
  } catch (...) {
    error = std::current_exception();
  }
  if (error) fail("writing the journal", error);
}

void Replica::Impl::keep_recent(replication::Batch batch) {
  recent_bytes += batch->bytes.size();
  recent_batches.push_back(std::move(batch));
  drop_recent();
}

std::size_t Replica::Impl::most_recent() const {
  return most_unwritten() + 2 * options.journal.max_batch_bytes;
}

// What is still to be applied stays, so that it need not be read from the journal.
void Replica::Impl::drop_recent() {
  const std::size_t usual = 2 * options.journal.max_batch_bytes;
  while (recent_bytes > usual && recent_batches.size() > 1) {
    const protocol::EntryBatch& oldest = *recent_batches.front();
    const bool wanted = oldest.headers.back().op > store->applied_op();
    if (wanted && recent_bytes <= most_recent()) break;
    recent_bytes -= oldest.bytes.size();
    recent_batches.pop_front();
  }
}

// A batch in memory that begins with that op; nullptr if there is none.
replication::Batch Replica::Impl::recent(Op first) const {
  const auto found = first_recent(first);
  if (found == recent_batches.end() || (*found)->headers.front().op != first) return nullptr;
  return *found;
}

// The first batch in memory that ends at `op` or behind it.
std::deque<replication::Batch>::const_iterator Replica::Impl::first_recent(Op op) const {
  return std::partition_point(
      recent_batches.begin(), recent_batches.end(),
      [op](const replication::Batch& batch) { return batch->headers.back().op < op; });
}

Task<void> Replica::Impl::read_log(replication::ReadLog request) {
  replication::Batch batch = recent(request.first);
  bool unreadable = false;
  try {
    const bool kept = request.first >= journal->first_op() && request.first <= journal->last().op;
    if (!batch && kept) {
      batch = std::make_shared<const protocol::EntryBatch>(
          co_await journal->read(request.first, request.max_bytes));
    }
  } catch (const Error& error) {
    log.error("replica.journal_unreadable", {{"op", request.first}}, error.what());
    unreadable = true;
  }
  if (unreadable) co_await care->journal_unreadable(request.first);
  if (stopping) co_return;
  co_await runtime::switch_to(loop());
  perform(group->entries_read(now(), request.follower, std::move(batch)));
}

// Entries behind what is applied, up to the goal: from memory, else from the journal.
Task<std::vector<protocol::Entry>> Replica::Impl::entries_to_apply() {
  const Op first = store->applied_op().next();
  std::vector<protocol::Entry> entries;
  std::size_t bytes = 0;
  Op wanted = first;
  for (auto at = first_recent(first); at != recent_batches.end(); ++at) {
    const protocol::EntryBatch& batch = **at;
    // Not in memory any more, not committed yet, or enough.
    if (batch.headers.front().op > wanted || wanted > apply_goal || bytes > kApplyBytes) break;
    const std::size_t begin = wanted.value() - batch.headers.front().op.value();
    for (std::size_t i = begin; i < batch.headers.size(); ++i) {
      if (wanted > apply_goal || bytes > kApplyBytes) break;
      entries.push_back(batch.entry(i));
      bytes += batch.headers[i].frame_bytes();
      wanted = wanted.next();
    }
  }
  if (!entries.empty()) co_return entries;
  protocol::EntryBatch batch;
  try {
    batch = co_await journal->read(first, kApplyBytes / 4);
  } catch (const Error& error) {
    // A tail behind the committed entries was cut meanwhile: read again.
    if (error.code() != Code::unavailable) throw;
  }
  for (std::size_t i = 0; i < batch.headers.size(); ++i) {
    if (batch.headers[i].op <= apply_goal) entries.push_back(batch.entry(i));
  }
  co_return entries;
}

// Bytes of frames: what padding a batch has is not applied.
void Replica::Impl::note_unapplied(const protocol::EntryBatch& batch) {
  unapplied_bytes += batch.frame_offsets.back() + batch.headers.back().frame_bytes();
}

// Nobody waits for what is committed to be applied, but for readers of the same blocks and those
// who say so. So it is held back until some of it has come together: the blocks go to the device in
// one call, seldom by itself but with the next batch of the journal, and what applying costs beside
// is shared by all.
bool Replica::Impl::apply_due() {
  const Op done = store->applied_op();
  if (apply_blocked || done >= apply_goal) return false;
  const bool enough =
      apply_goal.value() - done.value() >= kHeldOps || unapplied_bytes >= kHeldBytes;
  if (enough || hold_over || stopping || copying || done < apply_wanted || ranges.contended()) {
    return true;
  }
  if (hold_tick.due() == runtime::Time::max()) {
    held_since = done;
    hold_tick.at(next_multiple(loop().now() + kHoldLook, kHoldLook));
  }
  return false;
}

void Replica::Impl::want_applied(Op op) {
  if (op <= apply_wanted) return;
  apply_wanted = op;
  apply_work.set();
}

// Whether an entry up to `op` that is not applied yet changes blocks of the range, or may: it is
// not in memory any more.
bool Replica::Impl::changes_ahead(std::uint64_t offset, std::uint64_t length, Op op) const {
  Op next = store->applied_op().next();
  for (auto at = first_recent(next); at != recent_batches.end() && next <= op; ++at) {
    const std::vector<protocol::EntryHeader>& headers = (*at)->headers;
    if (headers.front().op > next) return true;
    for (; next <= headers.back().op && next <= op; next = next.next()) {
      const protocol::EntryHeader& header = headers[next.value() - headers.front().op.value()];
      if (header.offset < offset + length && offset < header.offset + header.length) return true;
    }
  }
  return next <= op;
}

Task<void> Replica::Impl::apply_committed() {
  std::exception_ptr error;
  try {
    while (trouble.empty()) {
      if (checkpoint_due()) {
        // Its snapshot is taken at once, between two applies: blocks and sessions as of one op.
        runtime::Mutex::Holder turn = co_await superblock.lock();
        if (stopping) continue;  // stop() takes the last one
        checkpointing = true;
        tasks.spawn(checkpoint(std::move(turn)));
      }
      if (!apply_due()) {
        if (stopping) break;
        apply_work.clear();
        co_await apply_work.wait();
        continue;
      }
      co_await apply_next();
    }
  } catch (...) {
    error = std::current_exception();
  }
  if (error) fail("applying", error);
}

// Sessions and blocks move to the same op while apply_access is held.
Task<void> Replica::Impl::apply_next() {
  const runtime::Mutex::Holder turn = co_await apply_access.lock();
  if (store->applied_op() >= apply_goal) co_return;
  std::vector<protocol::Entry> entries = co_await entries_to_apply();
  if (entries.empty()) co_return;
  hold_over = false;
  for (protocol::Entry& entry : entries) {
    unapplied_bytes -= std::min(unapplied_bytes, entry.header.frame_bytes());
    if (!sessions.apply(entry)) entry.header.kind = protocol::EntryKind::no_op;
  }
  const Op last = entries.back().header.op;
  co_await store->apply(std::move(entries));
  note_applied(last);
}

void Replica::Impl::note_applied(Op op) {
  if (store->fingerprint_known()) group->set_fingerprint(op, store->fingerprint());
  compare_fingerprint();
  drop_recent();
  applied.reach(op);
  ranges.applied(op);
}

bool Replica::Impl::checkpoint_due() const {
  if (checkpointing || stopping || apply_blocked) return false;
  if (store->applied_op() == store->checkpoint_op() && store->dirty_bytes() == 0) return false;
  const auto interval = seams.properties->get(properties::kCheckpointInterval);
  return bytes_since_checkpoint >= kCheckpointBytes || store->dirty_bytes() >= kMaxDirtyTable ||
         loop().now() - last_checkpoint >= interval;
}

Task<void> Replica::Impl::checkpoint(runtime::Mutex::Holder turn) {
  std::exception_ptr error;
  try {
    block_store::ReplicaState state = store->state();
    state.sessions = sessions.encode();
    bytes_since_checkpoint = 0;
    last_checkpoint = loop().now();
    co_await store->checkpoint(std::move(state));
    {
      // The journal is not waited for with the superblock held: a copy takes them the other way.
      const runtime::Mutex::Holder released = std::move(turn);
    }
    co_await trim_journal();
  } catch (...) {
    error = std::current_exception();
  }
  checkpointing = false;
  {
    const runtime::Mutex::Holder released = std::move(turn);
  }
  apply_work.set();
  if (error) fail("taking a checkpoint", error);
}

// What lies below the checkpoint may go, but for what followers that are away will ask for.
Task<void> Replica::Impl::trim_journal() {
  bytes_since_trim = 0;
  const Op before = journal->base().op;
  const std::uint64_t retention = seams.properties->get(properties::kJournalRetention);
  const std::uint64_t spare = journal_idle() ? 0 : retention;
  co_await journal->trim_through(pinned(store->checkpoint_op()), retention, spare);
  if (journal->base().op > before) group->log_trimmed(journal->base().op);
}

// Once a second: space, a checkpoint that time asks for, journal that a changed retention or the
// end of a follower's copy frees. Costs next to nothing where nothing is to be done.
void Replica::Impl::keep_house() {
  if (stopping) return;
  house_tick.at(next_multiple(loop().now(), kHouseInterval));
  if (checkpoint_due()) apply_work.set();
  term_gauge->set(static_cast<double>(group->promised().value()));
  applied_gauge->set(static_cast<double>(store->applied_op().value()));
  const std::uint64_t counted = std::exchange(disk_read_counted, store->bytes_from_disk());
  disk_read_bytes_total->add(static_cast<double>(disk_read_counted - counted));
  space_left = 0;  // looked up anew by the next write
  group->configure(now(), group_options());
  if (trim_due()) tasks.spawn(trim_in_background());
}

// Nobody writes to the volume: its disk space is for those that are written to.
bool Replica::Impl::journal_idle() const {
  return loop().now() - last_append >= kJournalIdle;
}

// Whether something lies below the checkpoint, or is ready for entries, that need not be kept.
bool Replica::Impl::trim_due() const {
  if (!trouble.empty() || apply_blocked || trimming) return false;
  if (journal_idle() && journal->bytes_spare() > options.journal.segment_bytes) return true;
  return journal->base().op < store->checkpoint_op() &&
         journal->bytes_kept() > seams.properties->get(properties::kJournalRetention);
}

Task<void> Replica::Impl::trim_in_background() {
  trimming = true;
  std::exception_ptr error;
  try {
    co_await trim_journal();
  } catch (...) {
    error = std::current_exception();
  }
  trimming = false;
  if (error) fail("trimming the journal", error);
}

}  // namespace datom::volume

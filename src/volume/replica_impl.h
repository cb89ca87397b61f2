// The parts of a Replica, for replica*.cc only:
//   replica.cc         opening, stopping, status
//   replica_steps.cc   performs the group protocol's effects: journal, apply, checkpoint, messages
//   replica_serve.cc   the leader's clients: sessions, proposals, reads
//   block_care.h       damage is found and repaired, replicas are compared
//   replica_members.cc  the leader is asked to change who keeps the volume
//   replica_copy.cc    copying blocks: the follower, who asks
//   replica_copy_source.cc  the leader, who answers
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <variant>

#include "block_store/block_store.h"
#include "journal/journal.h"
#include "properties/properties.h"
#include "protocol/volume.pb.h"
#include "replication/group.h"
#include "replication/sessions.h"
#include "runtime/task_group.h"
#include "runtime/wait.h"
#include "volume/block_care.h"
#include "volume/group_watch.h"
#include "volume/op_waiters.h"
#include "volume/range_locks.h"
#include "volume/replica.h"
#include "volume/throttle.h"
#include "volume/ticks.h"

namespace datom::volume {

using runtime::Task;

inline constexpr std::size_t kMaxQueuedBytes = 64 << 20;     // clients' payload not yet proposed
inline constexpr std::uint64_t kSpaceReserve = 32 << 20;     // bytes of disk never given to clients
inline constexpr std::uint64_t kCheckpointBytes = 64 << 20;  // journal between two checkpoints
inline constexpr runtime::Duration kHouseInterval = std::chrono::seconds(1);

// Counts a client's or peer's request while it is under way.
class Serving {
 public:
  Serving(std::size_t& count, runtime::Event& none) : count_(count), none_(none) { ++count_; }
  ~Serving() {
    if (--count_ == 0) none_.wake_all();
  }
  Serving(const Serving&) = delete;
  Serving& operator=(const Serving&) = delete;

 private:
  std::size_t& count_;
  runtime::Event& none_;
};

struct Replica::Impl {
  Impl(Seams seams, Shared shared, protocol::VolumeRecord volume, protocol::ReplicaRecord self,
       ReplicaOptions options);

  // ---- replica.cc
  void make_metrics();
  Task<void> load();
  Task<void> make_files();
  void check_files() const;
  void make_group();
  replication::Options group_options() const;
  Task<void> apply_next();
  void begin(coordination::Client& client);
  Task<void> leave();
  void fail(std::string_view doing, std::exception_ptr error);
  void wake_workers();
  Task<void> stop();
  block_store::ReplicaState store_state() const;
  protocol::ReplicaStatus status() const;

  // ---- replica_steps.cc
  void perform(replication::Effects effects);
  void perform_one(replication::Effect effect);
  void changed(const replication::Changed& change);
  void send(replication::Send message);
  void tick();
  Task<void> write_log();
  Task<void> save_promise(Term term);
  Task<void> read_log(replication::ReadLog request);
  replication::Batch recent(Op first) const;
  std::deque<replication::Batch>::const_iterator first_recent(Op op) const;
  void note_unapplied(const protocol::EntryBatch& batch);
  bool apply_due();
  void want_applied(Op op);
  bool changes_ahead(std::uint64_t offset, std::uint64_t length, Op op) const;
  Task<void> apply_committed();
  Task<std::vector<protocol::Entry>> entries_to_apply();
  void note_applied(Op op);
  bool checkpoint_due() const;
  Task<void> checkpoint(runtime::Mutex::Holder superblock);
  Task<void> trim_journal();
  bool journal_idle() const;
  bool trim_due() const;
  Task<void> trim_in_background();
  void keep_house();
  void receive(const protocol::GroupMessage& message, Buffer entries);
  std::size_t most_unwritten() const;
  void keep_recent(replication::Batch batch);
  std::size_t most_recent() const;
  void drop_recent();
  void compare_fingerprint();

  // ---- replica_serve.cc
  // An entry that a client waits for; lives in the waiting task's frame.
  struct Proposal {
    protocol::EntryHeader header;
    Buffer payload;
    Op op;  // once proposed
    bool committed = false;
    std::exception_ptr error;  // why it was not proposed
    std::coroutine_handle<> task;
  };
  Task<rpc::Message> serve(const protocol::ClientIo& request, Buffer payload);
  Task<rpc::Message> serve_read(const protocol::ClientIo& request);
  Task<rpc::Message> serve_extents(const protocol::ClientIo& request);
  Task<rpc::Message> serve_attach(const protocol::ClientIo& request);
  Task<rpc::Message> serve_change(const protocol::ClientIo& request, Buffer payload);
  Task<Op> change(const protocol::ClientIo& request, Buffer payload);
  void note_refused(const protocol::ClientIo& request);
  Task<Buffer> complete_blocks(const protocol::ClientIo& request, Buffer payload);
  Task<bool> holder_lives(Op session, replication::Session holder);
  Task<Op> propose(protocol::EntryHeader header, Buffer payload);
  Task<void> pump_proposals();
  Task<void> propose_batch();
  bool stays_open(Op session) const;
  void note_attach(const Buffer& payload);
  void finish(Proposal* proposal);
  void finish_committed(Op op);
  void propose_no_op();
  Task<Op> confirm_read();
  void begin_read_round();
  template <typename Value, typename Read>
  Task<Value> read_current(std::uint64_t offset, std::uint64_t length, Read read);
  Task<void> await_applied(std::uint64_t offset, std::uint64_t length, Op op);
  Task<void> check_space(std::uint64_t bytes);
  Task<void> admit(const protocol::ClientIo& request);
  void check_serves() const;
  void check_leads() const;
  bool serves() const;
  void abandon_clients();

  // ---- replica_members.cc
  Task<rpc::Message> replace(protocol::ReplaceReplicaRequest request);
  Task<rpc::Message> cancel_replace(protocol::CancelReplaceRequest request);
  void told(replication::Group::Answer answer);

  // ---- replica_copy.cc
  // Where a copy comes from: it holds for one leadership.
  struct CopySource {
    std::string leader;
    Term term;
    Op base;  // blocks up to this op are copied, entries behind it come through the journal
    Op last;  // end of the leader's journal when the copy began
  };
  Task<void> copy_from(std::string leader);
  Task<void> copy_everything(std::string leader);
  Task<void> adopt_base(CopySource source, protocol::CopyBeginReply begin);
  Task<void> count_blocks(const CopySource& source);
  Task<Op> copy_blocks(const CopySource& source);
  Task<void> copy_listed(const CopySource& source, std::vector<block_store::BlockNumber> blocks,
                         Op& newest);
  Task<void> finish_copy(const CopySource& source, Op newest);
  void check_copy(const CopySource& source) const;
  protocol::NewerBlocksRequest newer_request(std::uint64_t from) const;
  Task<rpc::Message> ask_source(const CopySource& source, rpc::Method method, std::string request);
  Task<std::vector<block_store::BlockNumber>> missing(const CopySource& source,
                                                      const protocol::NewerBlocksReply& page);
  // Of what is copied: what one answer of the leader holds.
  struct CopyPiece {
    std::vector<block_store::PeerBlock> blocks;
    Op applied;                 // there, afterwards
    runtime::Duration pause{};  // that the leader asks for
  };
  Task<void> ask_piece(const CopySource& source,
                       const std::vector<block_store::BlockNumber>& blocks, std::size_t at,
                       CopyPiece& piece, runtime::Duration pause = {});
  Task<void> copy_pause(runtime::Duration pause);

  // ---- replica_copy_source.cc
  void pin_journal(const std::string& replica, std::optional<Op> op);
  Op pinned(Op limit) const;
  bool clients_active() const;
  std::size_t copy_chunk() const;
  runtime::Duration pace_copy(std::size_t bytes, runtime::Duration took);
  Task<void> read_run(const std::vector<block_store::BlockVersion>& versions, std::size_t first,
                      std::size_t end, std::byte* into, std::vector<std::size_t>& changed);
  Task<void> read_versions(std::vector<block_store::BlockVersion>& versions, std::byte* into);
  Task<rpc::Message> begin_copy(protocol::CopyBeginRequest request);
  Task<rpc::Message> newer_blocks(protocol::NewerBlocksRequest request);
  Task<rpc::Message> read_blocks(protocol::ReadBlocksRequest request);

  runtime::Loop& loop() const { return *seams.loop; }
  std::size_t window_bytes() const { return 4 * options.journal.max_batch_bytes; }
  replication::Instant now() const { return seams.loop->now().time_since_epoch(); }

  const Seams seams;
  const Shared shared;
  const protocol::VolumeRecord volume;
  const protocol::ReplicaRecord self;
  const ReplicaOptions options;
  const telemetry::Log log;

  std::unique_ptr<journal::Journal> journal;
  std::unique_ptr<block_store::BlockStore> store;
  std::optional<replication::Group> group;
  std::unique_ptr<GroupWatch> watch;
  std::unique_ptr<BlockCare> care;  // once the files are open
  replication::Sessions sessions;
  std::string trouble;  // why this replica stopped; "" when it has not
  bool stopping = false;

  // The journal's writer and what it has to do, in order.
  std::deque<std::variant<replication::WriteLog, replication::TruncateLog>> log_queue;
  runtime::Event log_work;
  bool log_busy = false;
  std::size_t unwritten_bytes = 0;     // of entries in `log_queue`, or being written
  runtime::Mutex journal_access;       // append, truncate, reset exclude each other
  std::uint64_t bytes_since_trim = 0;  // appended
  runtime::Time last_append;           // or when this replica was opened

  // Entries in memory that are not applied yet, or were written just now.
  std::deque<replication::Batch> recent_batches;
  std::size_t recent_bytes = 0;

  // Applying.
  Op apply_goal;                    // committed and durable here
  Op apply_wanted;                  // somebody waits for it
  std::size_t unapplied_bytes = 0;  // of journaled entries, about
  runtime::Event apply_work;
  Tick hold_tick;
  Op held_since;           // applied when the tick was asked for
  bool hold_over = false;  // what is held has been for long enough
  OpWaiters applied;
  runtime::Mutex apply_access;  // blocks and sessions are as of one op while it is free
  bool apply_blocked = false;   // the base is incomplete and no copy has begun
  runtime::Mutex superblock;    // checkpoint, copy: one at a time
  std::uint64_t bytes_since_checkpoint = 0;
  runtime::Time last_checkpoint;
  bool checkpointing = false;
  bool trimming = false;

  // Time.
  Tick group_tick;  // of the group protocol
  Tick house_tick;  // once a second

  // Clients.
  std::deque<Proposal*> proposals;  // not proposed yet
  std::deque<Proposal*> in_commit;  // proposed, by op
  std::size_t queued_bytes = 0;     // in `proposals`
  runtime::Event proposal_work;
  runtime::Event proposal_room;
  RangeLocks ranges;
  Throttle throttle;
  // (session, sequence) whose client was told of a refusal: another copy must not take effect.
  std::set<std::pair<Op, std::uint64_t>> refused_changes;
  std::set<std::pair<Op, std::uint64_t>> in_flight;  // (session, sequence) under way
  runtime::Event in_flight_changed;
  std::set<Op> closed_sessions;  // of this leadership: by attach entries in its journal
  runtime::Mutex attaching;
  std::uint64_t leaderships = 0;   // counts: a task that spans two must not go on
  Op serve_from;                   // of this leadership: nothing is served before this is applied
  std::uint64_t rounds_begun = 0;  // of this leadership
  std::uint64_t rounds_confirmed = 0;
  bool round_wanted = false;
  bool round_running = false;
  Op round_commit;
  runtime::Event rounds_changed;
  std::int64_t space_left = 0;  // bytes that clients may still write, as last looked up
  std::size_t serving = 0;      // client requests under way
  runtime::Event served;

  // Copying: the follower.
  bool copying = false;
  runtime::Timer copy_timer;
  std::uint64_t sync_done = 0;   // blocks
  std::uint64_t sync_total = 0;  // blocks; 0: not counted yet
  std::uint64_t sync_bytes = 0;  // received since this replica was opened
  // The leader.
  struct CopyPin {
    Op op;
    runtime::Time until;
  };
  std::map<Uuid, CopyPin> copy_pins;  // replicas that copy: the journal above these ops is kept
  runtime::Mutex copy_reads;          // one chunk at a time is in memory
  runtime::Time copy_free_at{};       // when the next chunk may be asked for
  std::optional<runtime::Time> client_seen;  // the last request of a client

  // What the leader said last of its blocks, to compare with once that op is applied here.
  Op leader_fingerprint_op;  // 0: nothing, or compared
  std::uint64_t leader_fingerprint = 0;
  bool divergence_reported = false;

  // Shown on the metrics page.
  std::unique_ptr<telemetry::Counter> reads_total;
  std::unique_ptr<telemetry::Counter> read_bytes_total;
  std::unique_ptr<telemetry::Counter> disk_read_bytes_total;
  std::uint64_t disk_read_counted = 0;  // of the store's
  std::unique_ptr<telemetry::Counter> changes_total;
  std::unique_ptr<telemetry::Counter> change_bytes_total;
  std::unique_ptr<telemetry::Histogram> change_seconds;
  std::unique_ptr<telemetry::Counter> sync_bytes_total;
  std::unique_ptr<telemetry::Gauge> leads;
  std::unique_ptr<telemetry::Gauge> term_gauge;
  std::unique_ptr<telemetry::Gauge> applied_gauge;

  // Effects not performed yet: performing one may give more.
  std::deque<replication::Effect> effects;
  bool performing = false;

  runtime::TaskGroup tasks;
};

}  // namespace datom::volume

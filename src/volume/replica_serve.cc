// The leader's clients: sessions, changes, reads. Rules C1-C5, R1.
#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "common/error.h"
#include "protocol/methods.h"
#include "volume/replica_impl.h"

namespace datom::volume {
namespace {

constexpr runtime::Duration kProbeTimeout = std::chrono::seconds(1);
constexpr std::size_t kMaxExtents = 65536;

std::uint64_t block_of(std::uint64_t offset) {
  return offset / kBlockSize;
}
bool whole_blocks(std::uint64_t offset, std::uint64_t length) {
  return offset % kBlockSize == 0 && length % kBlockSize == 0;
}

Uuid uuid_of(const std::string& bytes) {
  Uuid uuid;
  if (bytes.size() != uuid.bytes.size()) {
    throw Error(Code::invalid_argument, "a uuid of {} bytes, expected 16", bytes.size());
  }
  std::copy(bytes.begin(), bytes.end(), uuid.bytes.begin());
  return uuid;
}

rpc::Message message_of(const protocol::ClientIoReply& reply) {
  return {reply.SerializeAsString(), {}};
}
// A ClientIoReply without any field has no bytes.
rpc::Message empty_reply(Buffer payload = {}) {
  return {{}, std::move(payload)};
}

protocol::EntryKind entry_kind(protocol::IoKind kind) {
  switch (kind) {
    case protocol::IO_ZERO:
      return protocol::EntryKind::zero;
    case protocol::IO_TRIM:
      return protocol::EntryKind::trim;
    default:
      return protocol::EntryKind::write;
  }
}

// Holds a request's place among those under way, and tells whoever waits for it.
class InFlight {
 public:
  using Key = std::pair<Op, std::uint64_t>;
  InFlight(std::set<Key>& all, runtime::Event& changed, Key key)
      : all_(all), changed_(changed), key_(key) {
    all_.insert(key_);
  }
  ~InFlight() {
    all_.erase(key_);
    changed_.wake_all();
  }
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;

 private:
  std::set<Key>& all_;
  runtime::Event& changed_;
  Key key_;
};

}  // namespace

bool Replica::Impl::serves() const {
  return trouble.empty() && !stopping && group->can_propose() && store->applied_op() >= serve_from;
}

void Replica::Impl::check_serves() const {
  if (serves()) return;
  throw Error(Code::not_leader, "{}", group->leader());  // the message is the leader's name
}

// For followers that copy: what is applied is committed. A leader that waits for a quorum may be
// waiting for just that copy.
void Replica::Impl::check_leads() const {
  const bool leads_group = replication::role_of(group->state()) == replication::Role::leader;
  if (trouble.empty() && !stopping && leads_group) return;
  throw Error(Code::not_leader, "{}", group->leader());
}

Task<rpc::Message> Replica::Impl::serve(const protocol::ClientIo& request, Buffer payload) {
  const Serving counted(serving, served);
  const std::uint64_t end = request.offset() + request.length();
  if (end < request.offset() || end > volume.size) {
    throw Error(Code::invalid_argument, "volume {}: bytes {} to {} of {}", volume.name,
                request.offset(), end, volume.size);
  }
  check_serves();
  client_seen = loop().now();
  switch (request.kind()) {
    case protocol::IO_READ:
      co_return co_await serve_read(request);
    case protocol::IO_BLOCK_STATUS:
      co_return co_await serve_extents(request);
    case protocol::IO_ATTACH:
      co_return co_await serve_attach(request);
    case protocol::IO_WRITE:
    case protocol::IO_ZERO:
    case protocol::IO_TRIM:
      co_return co_await serve_change(request, std::move(payload));
    default:
      throw Error(Code::unsupported, "volume {}: request kind {}", volume.name,
                  static_cast<int>(request.kind()));
  }
}

// ---- reads --------------------------------------------------------------------------------------

void Replica::Impl::begin_read_round() {
  ++rounds_begun;
  round_running = true;
  perform(group->begin_read_round(now()));
}

// R1: a read joins only a round begun after it arrived; then it reads what was committed before.
Task<Op> Replica::Impl::confirm_read() {
  const std::uint64_t leadership = leaderships;
  const std::uint64_t round = rounds_begun + 1;
  if (round_running) {
    round_wanted = true;
  } else {
    begin_read_round();
  }
  while (leadership == leaderships && rounds_confirmed < round) co_await rounds_changed.wait();
  if (leadership != leaderships) throw Error(Code::not_leader, "{}", group->leader());
  co_return round_commit;
}

// Until the blocks of the range are as of `op`, or newer.
Task<void> Replica::Impl::await_applied(std::uint64_t offset, std::uint64_t length, Op op) {
  if (!changes_ahead(offset, length, op)) co_return;
  want_applied(op);
  const bool reached = co_await applied.wait(op);
  if (!reached) throw Error(Code::not_leader, "{}", group->leader());
}

// What `read` gives, as current as the request: under the lease, or confirmed by a round. Under the
// lease the data are read first, and the lease is tested then (rule R3): a pause in between is
// seen.
template <typename Value, typename Read>
Task<Value> Replica::Impl::read_current(std::uint64_t offset, std::uint64_t length, Read read) {
  const std::uint64_t leadership = leaderships;
  if (group->lease_holds(now())) {
    co_await await_applied(offset, length, group->commit());
    Value value = co_await read();
    if (leadership == leaderships && group->lease_holds(now())) co_return value;
  }
  check_serves();
  const Op commit = co_await confirm_read();
  co_await await_applied(offset, length, commit);
  Value value = co_await read();
  co_return value;
}

// Within the volume's limits. Who waited may have to ask another leader.
Task<void> Replica::Impl::admit(const protocol::ClientIo& request) {
  const bool moves_data =
      request.kind() == protocol::IO_READ || request.kind() == protocol::IO_WRITE;
  co_await throttle.admit(Op(request.session()), moves_data ? request.length() : 0);
  check_serves();
}

Task<rpc::Message> Replica::Impl::serve_read(const protocol::ClientIo& request) {
  if (request.length() > protocol::kMaxEntryPayload) {
    throw Error(Code::too_large, "a read of {} bytes, at most {}", request.length(),
                protocol::kMaxEntryPayload);
  }
  if (throttle.limited()) co_await admit(request);
  const std::uint64_t from = block_of(request.offset()) * kBlockSize;
  const std::uint64_t end = request.offset() + request.length();
  const std::uint64_t to = (end + kBlockSize - 1) / kBlockSize * kBlockSize;
  const Buffer blocks = co_await read_current<Buffer>(
      from, to - from, [this, from, to] { return care->read(from, to - from); });
  reads_total->add();
  read_bytes_total->add(static_cast<double>(request.length()));
  co_return empty_reply(blocks.slice(request.offset() - from, request.length()));
}

Task<rpc::Message> Replica::Impl::serve_extents(const protocol::ClientIo& request) {
  const std::uint64_t from = block_of(request.offset()) * kBlockSize;
  const std::uint64_t end = request.offset() + request.length();
  const std::uint64_t to = (end + kBlockSize - 1) / kBlockSize * kBlockSize;
  const std::size_t most = std::clamp<std::size_t>(request.max_extents(), 1, kMaxExtents);
  const auto extents = co_await read_current<std::vector<block_store::Extent>>(
      from, to - from, [this, from, to, most] { return care->extents(from, to - from, most); });
  protocol::ClientIoReply reply;
  for (const block_store::Extent& extent : extents) {
    protocol::ClientIoReply::Extent* out = reply.add_extents();
    out->set_length(extent.length);
    out->set_kind(static_cast<std::uint32_t>(extent.kind));
  }
  co_return message_of(reply);
}

// ---- sessions -----------------------------------------------------------------------------------

// Whether the client of another session is still attached somewhere. A service that cannot be
// reached although coordination knows it is no answer: the caller tries again.
Task<bool> Replica::Impl::holder_lives(Op session, replication::Session holder) {
  protocol::ProbeSessionRequest probe;
  probe.set_volume(volume.id.bytes.data(), volume.id.bytes.size());
  probe.set_client(holder.client.bytes.data(), holder.client.bytes.size());
  Code failed{};
  try {
    rpc::Message question;
    question.header = probe.SerializeAsString();
    const rpc::Message answer = co_await seams.caller->call(
        holder.service, protocol::method::kProbeSession, std::move(question), kProbeTimeout);
    protocol::ProbeSessionReply reply;
    if (!reply.ParseFromString(answer.header)) co_return true;
    co_return reply.alive();
  } catch (const Error& error) {
    failed = error.code();
  }
  log.info("session.probe",
           {{"session", session}, {"service", holder.service}, {"code", name(failed)}});
  if (failed == Code::not_found || failed == Code::unavailable) co_return false;
  throw Error(Code::unavailable, "volume {}: the client at {} that writes to it cannot be probed",
              volume.name, holder.service);
}

Task<rpc::Message> Replica::Impl::serve_attach(const protocol::ClientIo& request) {
  const Uuid client = uuid_of(request.client());
  if (!protocol::valid_name(request.service())) {
    throw Error(Code::invalid_argument, "attach: \"{}\" is no service name", request.service());
  }
  const std::uint64_t leadership = leaderships;
  const runtime::Mutex::Holder turn = co_await attaching.lock();
  protocol::ClientIoReply reply;
  if (const std::optional<Op> open = sessions.find(client)) {
    reply.set_session(open->value());
    co_return message_of(reply);
  }
  replication::Attach attach{client, request.service(), Op(0)};
  const std::map<Op, replication::Session> others = sessions.all();
  if (others.contains(Op(request.session()))) attach.closes = Op(request.session());
  for (const auto& [session, holder] : others) {
    const bool room = !sessions.full() || attach.closes > Op(0);
    if (volume.access == protocol::Access::shared && room) break;
    const bool lives = co_await holder_lives(session, holder);
    if (lives && volume.access == protocol::Access::exclusive) {
      throw Error(Code::permission_denied,
                  "volume {}: a client attached at {} writes to it; access is exclusive",
                  volume.name, holder.service);
    }
    if (!lives) attach.closes = session;
    if (!lives && volume.access == protocol::Access::shared) break;
  }
  if (sessions.full() && attach.closes == Op(0)) {
    throw Error(Code::unavailable, "volume {}: {} clients write to it, no more are possible",
                volume.name, replication::kMaxSessions);
  }
  if (leadership != leaderships) check_serves();
  protocol::EntryHeader header;
  header.kind = protocol::EntryKind::attach;
  const Op op = co_await propose(header, Buffer::copy_of(as_bytes(attach.encode())));
  want_applied(op);
  const bool reached = co_await applied.wait(op);
  if (!reached) throw Error(Code::outcome_unknown, "volume {}: the leader changed", volume.name);
  reply.set_session(op.value());
  co_return message_of(reply);
}

// ---- changes ------------------------------------------------------------------------------------

Task<rpc::Message> Replica::Impl::serve_change(const protocol::ClientIo& request, Buffer payload) {
  const bool write = request.kind() == protocol::IO_WRITE;
  const std::uint64_t most = write ? protocol::kMaxEntryPayload : block_store::kMaxRangeBytes;
  if (request.length() == 0 || request.length() > most ||
      payload.size() != (write ? request.length() : 0) ||
      (!write && !whole_blocks(request.offset(), request.length()))) {
    throw Error(Code::invalid_argument, "volume {}: a change of {} bytes at {} with {} of payload",
                volume.name, request.length(), request.offset(), payload.size());
  }
  const InFlight::Key key{Op(request.session()), request.sequence()};
  for (;;) {
    switch (sessions.verdict(key.first, key.second, request.first_incomplete())) {
      case replication::Sessions::Verdict::done:
        co_return empty_reply();
      case replication::Sessions::Verdict::refused:
        throw Error(Code::session_expired,
                    "volume {}: session {} is not open, or request {} not in "
                    "its window",
                    volume.name, request.session(), request.sequence());
      case replication::Sessions::Verdict::fresh:
        break;
    }
    if (!in_flight.contains(key)) break;
    co_await in_flight_changed.wait();
    check_serves();
  }
  if (refused_changes.contains(key)) {
    throw Error(Code::no_space, "volume {}: request {} of session {} was refused already",
                volume.name, request.sequence(), request.session());
  }
  const InFlight place(in_flight, in_flight_changed, key);
  // In its place already: asked again, it is not counted again.
  if (throttle.limited()) co_await admit(request);
  const runtime::Time begun = loop().now();
  const auto length = static_cast<double>(request.length());
  try {
    co_await change(request, std::move(payload));
  } catch (const Error& error) {
    if (error.code() == Code::no_space) note_refused(request);
    throw;
  }
  changes_total->add();
  change_bytes_total->add(length);
  change_seconds->observe(std::chrono::duration<double>(loop().now() - begun).count());
  co_return empty_reply();
}

// C4: the client was told that the change does not happen, and goes on in its session. What lies
// below its lowest incomplete number needs no note: an entry that says so closes it.
void Replica::Impl::note_refused(const protocol::ClientIo& request) {
  const Op session(request.session());
  std::erase_if(refused_changes, [&](const auto& old) {
    return old.first == session ? old.second < request.first_incomplete()
                                : !sessions.all().contains(old.first);
  });
  refused_changes.emplace(session, request.sequence());
}

// Orders the change among those to the same blocks and has it committed.
Task<Op> Replica::Impl::change(const protocol::ClientIo& request, Buffer payload) {
  const std::uint64_t leadership = leaderships;
  const std::uint64_t end = request.offset() + request.length();
  const bool partial = !whole_blocks(request.offset(), request.length());
  co_await check_space(request.kind() == protocol::IO_TRIM ? 0 : request.length());
  const RangeLocks::Handle range = co_await ranges.acquire(
      block_of(request.offset()), block_of(end - 1), partial, [this] { apply_work.set(); });
  std::exception_ptr error;
  Op op;
  try {
    if (leadership != leaderships) check_serves();
    if (partial) {
      payload = co_await complete_blocks(request, std::move(payload));
      if (leadership != leaderships) check_serves();
    }
    protocol::EntryHeader header;
    header.kind = entry_kind(request.kind());
    header.session = Op(request.session());
    header.sequence = request.sequence();
    header.first_incomplete = request.first_incomplete();
    header.offset = block_of(request.offset()) * kBlockSize;
    header.length = (block_of(end - 1) + 1) * kBlockSize - header.offset;
    op = co_await propose(header, std::move(payload));
  } catch (...) {
    error = std::current_exception();
  }
  if (error) {
    ranges.release(range);
    std::rethrow_exception(error);
  }
  ranges.release_at(range, op);
  co_return op;
}

// Entries hold whole blocks: the bytes around the payload are read from the block store, where
// every earlier write to these blocks has been applied.
Task<Buffer> Replica::Impl::complete_blocks(const protocol::ClientIo& request, Buffer payload) {
  const std::uint64_t from = block_of(request.offset()) * kBlockSize;
  const std::uint64_t end = request.offset() + request.length();
  const std::uint64_t last = block_of(end - 1) * kBlockSize;
  Buffer blocks = Buffer::allocate(last + kBlockSize - from);
  for (const std::uint64_t edge : {from, last}) {
    const Buffer block = co_await care->read(edge, kBlockSize);
    std::memcpy(blocks.mutable_data() + (edge - from), block.data(), kBlockSize);
  }
  std::memcpy(blocks.mutable_data() + (request.offset() - from), payload.data(), payload.size());
  co_return blocks;
}

// S6: refuses before anything is appended.
Task<void> Replica::Impl::check_space(std::uint64_t bytes) {
  const auto wanted = static_cast<std::int64_t>(bytes);
  if (space_left < wanted) {
    const runtime::SpaceInfo space = co_await seams.files->space(options.directory);
    space_left =
        static_cast<std::int64_t>(space.available) - static_cast<std::int64_t>(kSpaceReserve);
  }
  if (space_left < wanted) {
    throw Error(Code::no_space, "volume {}: the disk of {} is full ({} bytes below its reserve)",
                volume.name, options.service, -std::min<std::int64_t>(space_left, 0));
  }
  space_left -= wanted;
}

// ---- proposals ----------------------------------------------------------------------------------

// Waits until the entry is committed. Error{outcome_unknown} if the leadership ended first;
// Error{not_leader} or {no_space} if it was certainly not appended.
Task<Op> Replica::Impl::propose(protocol::EntryHeader header, Buffer payload) {
  const std::uint64_t leadership = leaderships;
  const std::size_t bytes = protocol::frame_bytes(payload.size());
  while (queued_bytes >= kMaxQueuedBytes && leadership == leaderships) {
    co_await proposal_room.wait();
  }
  if (leadership != leaderships || !group->can_propose()) {
    throw Error(Code::not_leader, "{}", group->leader());
  }
  Proposal proposal;
  proposal.header = header;
  proposal.payload = std::move(payload);
  struct Wait {
    Impl& replica;
    Proposal& proposal;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> task) {
      proposal.task = task;
      replica.proposals.push_back(&proposal);
      replica.proposal_work.set();
    }
    void await_resume() const noexcept {}
  };
  queued_bytes += bytes;
  co_await Wait{*this, proposal};
  if (proposal.error) std::rethrow_exception(proposal.error);
  if (!proposal.committed) {
    throw Error(Code::outcome_unknown, "volume {}: the leader changed before op {} was committed",
                volume.name, proposal.op.value());
  }
  co_return proposal.op;
}

void Replica::Impl::finish(Proposal* proposal) {
  loop().post([task = proposal->task] { task.resume(); });
}

void Replica::Impl::finish_committed(Op op) {
  while (!in_commit.empty() && in_commit.front()->op <= op) {
    in_commit.front()->committed = true;
    finish(in_commit.front());
    in_commit.pop_front();
  }
}

// C4: on stepping down all queues are dropped; what was appended has an unknown outcome.
void Replica::Impl::abandon_clients() {
  ++leaderships;
  for (Proposal* proposal : std::exchange(proposals, {})) {
    proposal->error = std::make_exception_ptr(Error(Code::not_leader, "{}", group->leader()));
    finish(proposal);
  }
  queued_bytes = 0;
  for (Proposal* proposal : std::exchange(in_commit, {})) finish(proposal);
  applied.abandon();
  ranges.abandon_proposed();
  rounds_changed.wake_all();
  in_flight_changed.wake_all();
  proposal_room.wake_all();
  throttle.abandon();
}

// Group commit: while one journal write is on its way, what arrives becomes the next one.
Task<void> Replica::Impl::pump_proposals() {
  std::exception_ptr error;
  try {
    while (!stopping && trouble.empty()) {
      if (proposals.empty() || log_busy || !log_queue.empty()) {
        proposal_work.clear();
        co_await proposal_work.wait();
        continue;
      }
      co_await propose_batch();
    }
  } catch (...) {
    error = std::current_exception();
  }
  if (error) fail("proposing", error);
}

// Whether a change of that session takes effect if it is the next entry. An attach that is in the
// journal and not applied yet may have closed the session since the change was admitted: then the
// change would be committed, and change nothing.
bool Replica::Impl::stays_open(Op session) const {
  if (session == Op(0)) return true;
  return sessions.all().contains(session) && !closed_sessions.contains(session);
}

void Replica::Impl::note_attach(const Buffer& payload) {
  const auto attach = replication::Attach::decode(as_text(payload.view()));
  DATOM_CHECK(attach.has_value());
  std::erase_if(closed_sessions, [this](Op session) { return !sessions.all().contains(session); });
  for (const auto& [session, open] : sessions.all()) {
    const bool closes = volume.access == protocol::Access::exclusive || session == attach->closes ||
                        open.client == attach->client;
    if (closes) closed_sessions.insert(session);
  }
}

Task<void> Replica::Impl::propose_batch() {
  const std::uint64_t leadership = leaderships;
  std::size_t bytes = 0;
  std::size_t reserved = 0;  // each frame in whole blocks, as the journal counts
  std::size_t count = 0;
  const std::size_t most = options.journal.max_batch_bytes / 2;
  for (const Proposal* proposal : proposals) {
    const std::size_t frame = protocol::frame_bytes(proposal->payload.size());
    if (count > 0 && bytes + frame > most) break;
    bytes += frame;
    reserved += (frame + kBlockSize - 1) / kBlockSize * kBlockSize;
    ++count;
  }
  std::exception_ptr no_space;
  try {
    co_await journal->reserve(reserved);
  } catch (const Error& error) {
    if (error.code() != Code::no_space) throw;
    no_space = std::current_exception();
  }
  if (leadership != leaderships || proposals.size() < count) co_return;  // they were dropped
  protocol::BatchBuilder builder(bytes, volume.id);
  protocol::EntryId last = group->last();
  for (std::size_t i = 0; i < count; ++i) {
    Proposal* proposal = proposals.front();
    proposals.pop_front();
    queued_bytes -= protocol::frame_bytes(proposal->payload.size());
    if (no_space) {
      proposal->error = no_space;
      finish(proposal);
      continue;
    }
    if (!stays_open(proposal->header.session)) {
      proposal->error =
          std::make_exception_ptr(Error(Code::session_expired, "volume {}: session {} was closed",
                                        volume.name, proposal->header.session.value()));
      finish(proposal);
      continue;
    }
    if (proposal->header.kind == protocol::EntryKind::attach) note_attach(proposal->payload);
    proposal->header.term = group->term();
    proposal->header.op = last.op.next();
    proposal->header.previous = last.checksum;
    proposal->header.commit_hint = group->commit();
    last = builder.add(proposal->header, proposal->payload.view());
    proposal->op = last.op;
    proposal->payload = {};
    in_commit.push_back(proposal);
  }
  proposal_room.wake_all();
  if (builder.empty()) co_return;
  perform(group->propose(now(), std::make_shared<const protocol::EntryBatch>(builder.finish())));
}

void Replica::Impl::propose_no_op() {
  const protocol::EntryId last = group->last();
  protocol::EntryHeader header;
  header.kind = protocol::EntryKind::no_op;
  header.term = group->term();
  header.op = last.op.next();
  header.previous = last.checksum;
  header.commit_hint = group->commit();
  protocol::BatchBuilder builder(protocol::kEntryHeaderBytes, volume.id);
  builder.add(header, {});
  perform(group->propose(now(), std::make_shared<const protocol::EntryBatch>(builder.finish())));
}

}  // namespace datom::volume

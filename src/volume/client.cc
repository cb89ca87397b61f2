#include "volume/client.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include "common/check.h"
#include "common/error.h"
#include "properties/properties.h"
#include "protocol/entry.h"
#include "protocol/methods.h"
#include "replication/sessions.h"
#include "volume/client_impl.h"

namespace datom::volume {

using runtime::Task;

namespace {

constexpr std::uint64_t kPiece = protocol::kMaxEntryPayload;
constexpr runtime::Duration kShortestPause = std::chrono::milliseconds(5);
constexpr runtime::Duration kLongestPause = std::chrono::milliseconds(50);

std::uint64_t round_up(std::uint64_t bytes) {
  return (bytes + kBlockSize - 1) / kBlockSize * kBlockSize;
}
std::uint64_t round_down(std::uint64_t bytes) {
  return bytes / kBlockSize * kBlockSize;
}

// Whether the same request may be tried again, here or elsewhere: it is numbered, or it is a read.
bool worth_another_try(Code code) {
  switch (code) {
    case Code::not_leader:
    case Code::unavailable:
    case Code::outcome_unknown:
    case Code::timeout:
    case Code::closed:
    case Code::not_found:
    case Code::stale_term:
      return true;
    default:
      return false;
  }
}

}  // namespace

struct AttachedClient::UnderWay {
  explicit UnderWay(AttachedClient& client_) : client(client_) { ++client.under_way_; }
  ~UnderWay() {
    --client.under_way_;
    client.progress_.wake_all();
  }
  UnderWay(const UnderWay&) = delete;
  UnderWay& operator=(const UnderWay&) = delete;
  AttachedClient& client;
};

// A change's number, incomplete as long as this lives.
class AttachedClient::Numbered {
 public:
  Numbered(AttachedClient& client, std::uint64_t sequence) : client_(client), sequence_(sequence) {
    client_.incomplete_.insert(sequence_);
  }
  ~Numbered() {
    client_.incomplete_.erase(sequence_);
    client_.progress_.wake_all();
  }
  Numbered(const Numbered&) = delete;
  Numbered& operator=(const Numbered&) = delete;

 private:
  AttachedClient& client_;
  std::uint64_t sequence_;
};

AttachedClient::AttachedClient(Seams seams, std::string service, protocol::VolumeRecord volume,
                               ClientHost& host)
    : seams_(std::move(seams)),
      service_(std::move(service)),
      volume_(std::move(volume)),
      host_(host),
      attaching_(*seams_.loop),
      progress_(*seams_.loop) {
  draw_identity();
}

AttachedClient::~AttachedClient() {
  DATOM_CHECK(closed_ && under_way_ == 0);
}

void AttachedClient::draw_identity() {
  const Uuid before = identity_;
  identity_ = Uuid::from_random(seams_.random->next(), seams_.random->next());
  host_.renamed(before, identity_);
}

void AttachedClient::check_open() const {
  if (closed_) throw Error(Code::closed, "volume {}: the client has gone", volume_.name);
  if (host_.record(volume_.id) == nullptr) {
    throw Error(Code::not_found, "volume {} was removed", volume_.name);
  }
}

// ---- requests
// -------------------------------------------------------------------------------------

// Until it is answered: whoever leads, however often that changes. `repeated` is set once it is
// asked again.
Task<rpc::Message> AttachedClient::ask(const protocol::ClientIo& io, Buffer payload,
                                       bool* repeated) {
  const runtime::Time begun = seams_.loop->now();
  for (runtime::Duration wait = kShortestPause;; wait = std::min(2 * wait, kLongestPause)) {
    check_open();
    const std::string target = choose_leader();
    std::exception_ptr failure;
    Code code{};
    try {
      rpc::Message reply = co_await attempt(target, io, payload);
      leader_ = target;
      co_return reply;
    } catch (const Error& error) {
      code = error.code();
      failure = std::current_exception();
      // Another request may know better meanwhile.
      if (leader_ == target || leader_.empty()) {
        leader_ = code == Code::not_leader ? error.what() : "";
        if (leader_ == target || !protocol::valid_name(leader_)) leader_.clear();
      }
      silent_ = code == Code::not_leader ? "" : target;
    }
    if (!worth_another_try(code)) std::rethrow_exception(failure);
    const runtime::Duration limit = seams_.properties->get(properties::kClientTimeout);
    if (limit.count() > 0 && seams_.loop->now() - begun >= limit) {
      throw Error(Code::unavailable, "volume {}: no leader answered within {} ms", volume_.name,
                  std::chrono::duration_cast<std::chrono::milliseconds>(limit).count());
    }
    if (repeated != nullptr) *repeated = true;
    const bool told_who = code == Code::not_leader && !leader_.empty();
    if (!told_who || wait > kShortestPause) co_await pause(wait);
  }
}

Task<rpc::Message> AttachedClient::attempt(std::string service, const protocol::ClientIo& io,
                                           Buffer payload) {
  if (service == service_) {
    Replica* replica = host_.replica(volume_.id);
    if (replica == nullptr) throw Error(Code::not_leader, "{}", "");
    co_return co_await replica->serve(io, std::move(payload));
  }
  // Who is silent for longer does not lead any more.
  const runtime::Duration limit =
      seams_.properties->get(properties::kGroupElectionTimeout) + wait_of_limits();
  protocol::ClientIo whole = io;
  whole.set_volume(volume_.id.bytes.data(), volume_.id.bytes.size());
  rpc::Message request{whole.SerializeAsString(), std::move(payload)};
  co_return co_await seams_.caller->call(std::move(service), protocol::method::kClientIo,
                                         std::move(request), limit);
}

// So long the volume's limits let a request wait at most, if this is the only client.
runtime::Duration AttachedClient::wait_of_limits() const {
  const protocol::VolumeRecord* now = host_.record(volume_.id);
  const protocol::Limits limits = now != nullptr ? now->limits : protocol::Limits{};
  double seconds = 0;  // of one request
  if (limits.iops > 0) seconds = 1.0 / static_cast<double>(limits.iops);
  if (limits.mib > 0) seconds = std::max(seconds, 1.0 / static_cast<double>(limits.mib));
  seconds = std::min(seconds * static_cast<double>(under_way_ + 1), 30.0);
  return std::chrono::nanoseconds(static_cast<std::int64_t>(seconds * 1e9));
}

std::string AttachedClient::choose_leader() {
  if (!leader_.empty()) return leader_;
  if (Replica* replica = host_.replica(volume_.id)) {
    const std::string known = replica->leader();
    if (!known.empty() && known != silent_ && next_guess_ % 2 == 0) {
      ++next_guess_;
      return known;
    }
  }
  // Replicas move: asked are those that there are now.
  const protocol::VolumeRecord* now = host_.record(volume_.id);
  const auto& replicas = (now != nullptr ? *now : volume_).replicas;
  const std::string& guess = replicas[next_guess_++ / 2 % replicas.size()].service;
  return guess != silent_ ? guess : replicas[next_guess_++ / 2 % replicas.size()].service;
}

// Ends early when the client closes.
Task<void> AttachedClient::pause(runtime::Duration duration) {
  runtime::Timer timer(*seams_.loop);
  co_await timer.sleep_for(duration);
}

Task<void> AttachedClient::run_all(std::vector<Task<void>> pieces) {
  std::exception_ptr first;
  runtime::TaskGroup group(*seams_.loop, [&first](std::exception_ptr error) {
    if (!first) first = error;
  });
  for (Task<void>& piece : pieces) group.spawn(std::move(piece));
  co_await group.close();
  if (first) std::rethrow_exception(first);
}

// ---- reads
// ----------------------------------------------------------------------------------------

Task<Buffer> AttachedClient::read(std::uint64_t offset, std::uint32_t length) {
  const UnderWay counted(*this);
  if (length <= kPiece) {
    protocol::ClientIo io;
    io.set_kind(protocol::IO_READ);
    io.set_offset(offset);
    io.set_length(length);
    rpc::Message reply = co_await ask(io, {});
    if (reply.payload.size() != length) {
      throw Error(Code::corrupt, "a read of {} bytes was answered with {}", length,
                  reply.payload.size());
    }
    co_return std::move(reply.payload);
  }
  Buffer whole = Buffer::allocate(length);
  std::vector<Task<void>> pieces;
  for (std::uint64_t at = 0; at < length; at += kPiece) {
    const std::uint64_t size = std::min<std::uint64_t>(kPiece, length - at);
    pieces.push_back(read_piece(offset + at, whole.mutable_view().subspan(at, size)));
  }
  co_await run_all(std::move(pieces));
  co_return whole;
}

Task<void> AttachedClient::read_piece(std::uint64_t offset, MutableBytes into) {
  const Buffer piece = co_await read(offset, static_cast<std::uint32_t>(into.size()));
  std::memcpy(into.data(), piece.data(), into.size());
}

Task<std::vector<block_store::Extent>> AttachedClient::extents(std::uint64_t offset,
                                                               std::uint64_t length,
                                                               std::size_t max_extents) {
  const UnderWay counted(*this);
  protocol::ClientIo io;
  io.set_kind(protocol::IO_BLOCK_STATUS);
  io.set_offset(offset);
  io.set_length(length);
  io.set_max_extents(static_cast<std::uint32_t>(std::min<std::size_t>(max_extents, 65536)));
  const rpc::Message answer = co_await ask(io, {});
  protocol::ClientIoReply reply;
  if (!reply.ParseFromString(answer.header) || reply.extents().empty()) {
    throw Error(Code::corrupt, "a block status reply does not parse");
  }
  // The answer covers whole blocks; the question may begin and end inside one.
  std::uint64_t skip = offset - round_down(offset);
  std::uint64_t left = length;
  std::vector<block_store::Extent> extents;
  for (const auto& extent : reply.extents()) {
    const std::uint64_t size = std::min(extent.length() - std::min(skip, extent.length()), left);
    skip -= std::min(skip, extent.length());
    left -= size;
    if (size > 0) extents.push_back({size, static_cast<block_store::BlockKind>(extent.kind())});
  }
  co_return extents;
}

// ---- changes
// --------------------------------------------------------------------------------------

// The number of the open session; the first change opens it.
Task<Op> AttachedClient::session() {
  const runtime::Mutex::Holder turn = co_await attaching_.lock();
  if (fenced_) {
    throw Error(Code::permission_denied, "volume {}: another client has taken it over",
                volume_.name);
  }
  if (session_ > Op(0)) co_return session_;
  protocol::ClientIo io;
  io.set_kind(protocol::IO_ATTACH);
  io.set_client(identity_.bytes.data(), identity_.bytes.size());
  io.set_service(service_);
  io.set_session(closes_.value());
  const rpc::Message answer = co_await ask(io, {});
  protocol::ClientIoReply reply;
  if (!reply.ParseFromString(answer.header) || reply.session() == 0) {
    throw Error(Code::corrupt, "an attach reply does not parse");
  }
  session_ = Op(reply.session());
  closes_ = Op(0);
  co_return session_;
}

Task<void> AttachedClient::change(protocol::IoKind kind, std::uint64_t offset, std::uint64_t length,
                                  Buffer payload) {
  const UnderWay counted(*this);
  const Op session_number = co_await session();
  while (!incomplete_.empty() &&
         next_sequence_ - *incomplete_.begin() >= replication::kSessionWindow) {
    co_await progress_.wait();
  }
  check_open();
  if (session_number != session_) {
    throw Error(Code::unavailable, "volume {}: the session ended while this change waited",
                volume_.name);
  }
  protocol::ClientIo io;
  io.set_kind(kind);
  io.set_session(session_number.value());
  io.set_sequence(next_sequence_++);
  const Numbered number(*this, io.sequence());
  io.set_first_incomplete(*incomplete_.begin());
  io.set_offset(offset);
  io.set_length(length);
  bool repeated = false;
  std::exception_ptr failure;
  Code code{};
  try {
    co_await ask(io, std::move(payload), &repeated);
  } catch (const Error& error) {
    code = error.code();
    failure = std::current_exception();
  }
  if (!failure) co_return;
  if (code == Code::session_expired && session_number == session_) {
    fenced_ = true;
    throw Error(Code::permission_denied, "volume {}: another client has taken it over",
                volume_.name);
  }
  if ((code == Code::unavailable || repeated) && session_number == session_) {
    // C4: the outcome is unknown, also where the last attempt was refused (no space): the first may
    // still be on its way. What comes next belongs to another session, which closes this one.
    closes_ = std::exchange(session_, Op(0));
    draw_identity();
  }
  std::rethrow_exception(failure);
}

Task<void> AttachedClient::write(std::uint64_t offset, Buffer data) {
  const UnderWay counted(*this);
  if (data.empty()) co_return;
  const std::uint64_t end = offset + data.size();
  if (offset / kPiece == (end - 1) / kPiece) {
    const std::uint64_t size = data.size();
    co_await change(protocol::IO_WRITE, offset, size, std::move(data));
    co_return;
  }
  std::vector<Task<void>> pieces;
  for (std::uint64_t at = offset; at < end;) {
    const std::uint64_t until = std::min(end, (at / kPiece + 1) * kPiece);
    pieces.push_back(
        change(protocol::IO_WRITE, at, until - at, data.slice(at - offset, until - at)));
    at = until;
  }
  co_await run_all(std::move(pieces));
}

Task<void> AttachedClient::change_range(protocol::IoKind kind, std::uint64_t offset,
                                        std::uint64_t length) {
  const std::uint64_t end = offset + length;
  while (offset < end) {
    const std::uint64_t size = std::min(end - offset, block_store::kMaxRangeBytes);
    co_await change(kind, offset, size, {});
    offset += size;
  }
}

Task<void> AttachedClient::trim(std::uint64_t offset, std::uint64_t length) {
  const UnderWay counted(*this);
  const std::uint64_t from = round_up(offset);
  const std::uint64_t to = round_down(offset + length);
  if (from < to) co_await change_range(protocol::IO_TRIM, from, to - from);
}

Task<void> AttachedClient::write_zeroes(std::uint64_t offset, std::uint64_t length,
                                        bool keep_allocated) {
  const UnderWay counted(*this);
  const std::uint64_t end = offset + length;
  const std::uint64_t from = std::min(round_up(offset), end);
  const std::uint64_t to = std::max(round_down(end), from);
  if (offset < from) co_await write(offset, Buffer::zeroed(from - offset));
  const auto kind = keep_allocated ? protocol::IO_ZERO : protocol::IO_TRIM;
  if (from < to) co_await change_range(kind, from, to - from);
  if (to < end) co_await write(to, Buffer::zeroed(end - to));
}

Task<void> AttachedClient::close() {
  if (!std::exchange(closed_, true)) host_.renamed(identity_, Uuid{});
  progress_.wake_all();
  while (under_way_ > 0) co_await progress_.wait();
}

}  // namespace datom::volume

#include "replication/sessions.h"

#include <algorithm>
#include <cstring>

#include "common/bytes.h"
#include "common/error.h"

namespace datom::replication {
namespace {

constexpr std::size_t kMaxServiceName = 63;

// Little-endian fields one after another; reading stops at the first that does not fit.
class Writer {
 public:
  void number(std::uint64_t value) {
    std::byte bytes[8];
    store_le(bytes, value);
    out.append(reinterpret_cast<const char*>(bytes), sizeof bytes);
  }
  void uuid(const Uuid& value) { out.append(value.bytes.begin(), value.bytes.end()); }
  void text(const std::string& value) {
    out.push_back(static_cast<char>(value.size()));
    out += value;
  }
  std::string out;
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  std::uint64_t number() {
    const std::string_view bytes = take(8);
    return ok_ ? load_le<std::uint64_t>(as_bytes(bytes).data()) : 0;
  }
  Uuid uuid() {
    Uuid value;
    const std::string_view bytes = take(16);
    if (ok_) std::copy(bytes.begin(), bytes.end(), value.bytes.begin());
    return value;
  }
  std::string text() {
    const std::string_view length = take(1);
    return ok_ ? std::string(take(static_cast<unsigned char>(length[0]))) : "";
  }
  bool ok() const { return ok_; }
  bool ended() const { return ok_ && rest_.empty(); }

 private:
  std::string_view take(std::size_t count) {
    ok_ = ok_ && count <= rest_.size();
    if (!ok_) return {};
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace

Sessions::Verdict Sessions::verdict(Op session, std::uint64_t sequence,
                                    std::uint64_t first_incomplete) const {
  const auto found = sessions_.find(session);
  if (found == sessions_.end() || sequence < std::max<std::uint64_t>(first_incomplete, 1)) {
    return Verdict::refused;
  }
  const Session& open = found->second;
  if (sequence < open.first_incomplete) return Verdict::done;
  const std::uint64_t window_begin = std::max(first_incomplete, open.first_incomplete);
  if (sequence - window_begin >= kSessionWindow) return Verdict::refused;
  if (sequence - open.first_incomplete >= kSessionWindow) return Verdict::fresh;
  return open.done.test(sequence % kSessionWindow) ? Verdict::done : Verdict::fresh;
}

bool Sessions::apply(const protocol::Entry& entry) {
  const protocol::EntryHeader& header = entry.header;
  if (header.kind == protocol::EntryKind::attach) {
    open(header.op, as_text(entry.payload.view()));
    return false;
  }
  if (header.session == Op(0)) return true;
  const auto found = sessions_.find(header.session);
  if (found == sessions_.end()) return false;
  Session& session = found->second;
  while (session.first_incomplete < header.first_incomplete) {
    session.done.reset(session.first_incomplete % kSessionWindow);
    ++session.first_incomplete;
    if (session.done.none()) session.first_incomplete = header.first_incomplete;
  }
  if (verdict(header.session, header.sequence, header.first_incomplete) != Verdict::fresh) {
    return false;
  }
  session.done.set(header.sequence % kSessionWindow);
  return true;
}

void Sessions::open(Op op, std::string_view payload) {
  const std::optional<Attach> attach = Attach::decode(payload);
  if (!attach) return;
  if (access_ == protocol::Access::exclusive) sessions_.clear();
  sessions_.erase(attach->closes);
  std::erase_if(sessions_, [&](const auto& item) { return item.second.client == attach->client; });
  if (full()) return;  // the leader refuses before it comes to this
  Session& session = sessions_[op];
  session.client = attach->client;
  session.service = attach->service;
}

std::optional<Op> Sessions::find(const Uuid& client) const {
  for (const auto& [op, session] : sessions_) {
    if (session.client == client) return op;
  }
  return std::nullopt;
}

std::string Sessions::encode() const {
  Writer writer;
  for (const auto& [op, session] : sessions_) {
    writer.number(op.value());
    writer.uuid(session.client);
    writer.text(session.service);
    writer.number(session.first_incomplete);
    for (std::size_t word = 0; word < kSessionWindow / 64; ++word) {
      std::uint64_t bits = 0;
      for (std::size_t bit = 0; bit < 64; ++bit) {
        if (session.done.test(word * 64 + bit)) bits |= std::uint64_t{1} << bit;
      }
      writer.number(bits);
    }
  }
  return std::move(writer.out);
}

void Sessions::decode(std::string_view bytes) {
  sessions_.clear();
  Reader reader(bytes);
  while (reader.ok() && !reader.ended()) {
    const Op op(reader.number());
    Session session;
    session.client = reader.uuid();
    session.service = reader.text();
    session.first_incomplete = reader.number();
    for (std::size_t word = 0; word < kSessionWindow / 64; ++word) {
      const std::uint64_t bits = reader.number();
      for (std::size_t bit = 0; bit < 64; ++bit) {
        session.done.set(word * 64 + bit, ((bits >> bit) & 1) != 0);
      }
    }
    if (reader.ok()) sessions_[op] = std::move(session);
  }
  if (!reader.ok() || sessions_.size() > kMaxSessions) {
    throw Error(Code::corrupt, "session table of {} bytes does not parse", bytes.size());
  }
}

std::string Attach::encode() const {
  Writer writer;
  writer.uuid(client);
  writer.text(service.substr(0, kMaxServiceName));
  writer.number(closes.value());
  return std::move(writer.out);
}

std::optional<Attach> Attach::decode(std::string_view bytes) {
  Reader reader(bytes);
  Attach attach;
  attach.client = reader.uuid();
  attach.service = reader.text();
  attach.closes = Op(reader.number());
  if (!reader.ended() || attach.service.size() > kMaxServiceName) return std::nullopt;
  return attach;
}

}  // namespace datom::replication

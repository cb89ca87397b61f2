// The sessions of a volume: which requests have taken effect. Replicated state: every replica
// changes it by the same entries in the same order, so that a request takes effect once under any
// leader. Rules C1, C2; access exclusive and shared.
#pragma once

#include <bitset>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "common/strong.h"
#include "common/uuid.h"
#include "protocol/entry.h"
#include "protocol/records.h"

namespace datom::replication {

// A client may have this many requests in flight at most: the distance from its first incomplete
// one.
inline constexpr std::uint64_t kSessionWindow = 1024;
// Writers of one volume at the same time (access shared).
inline constexpr std::size_t kMaxSessions = 12;

struct Session {
  Uuid client;
  std::string service;                 // where the client is attached
  std::uint64_t first_incomplete = 1;  // everything below has taken effect, or never will
  std::bitset<kSessionWindow> done;    // by sequence modulo the window, from first_incomplete on
};

class Sessions {
 public:
  explicit Sessions(protocol::Access access) : access_(access) {}

  enum class Verdict {
    fresh,    // not seen: goes ahead
    done,     // took effect before
    refused,  // the session is not open (any more), or the number is out of its window
  };
  // Of a request that says which of its predecessors are still incomplete.
  Verdict verdict(Op session, std::uint64_t sequence, std::uint64_t first_incomplete) const;

  // Takes an entry into account, at its apply. True: the entry takes effect on the blocks; false:
  // it is a repetition or of a session that was closed before it, and must change nothing.
  bool apply(const protocol::Entry& entry);

  // The open session of that client, if any.
  std::optional<Op> find(const Uuid& client) const;
  const std::map<Op, Session>& all() const { return sessions_; }
  bool full() const { return sessions_.size() >= kMaxSessions; }

  // For the superblock; at most block_store::kMaxSessionBytes.
  std::string encode() const;
  // Throws Error{corrupt}.
  void decode(std::string_view bytes);

 private:
  void open(Op op, std::string_view payload);

  protocol::Access access_;
  std::map<Op, Session> sessions_;
};

// The payload of an attach entry: who attaches, and which session it closes (0: with access
// exclusive all others; with shared none).
struct Attach {
  Uuid client;
  std::string service;
  Op closes;

  std::string encode() const;
  // nullopt for what is none.
  static std::optional<Attach> decode(std::string_view bytes);
};

}  // namespace datom::replication

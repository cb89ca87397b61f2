// What goes into the state machine and what comes out: plain values.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "protocol/entry.h"
#include "protocol/group_messages.h"
#include "protocol/records.h"
#include "replication/state.h"

namespace datom::replication {

using Duration = std::chrono::nanoseconds;
// Time since boot, told by the driver at each step.
using Instant = std::chrono::nanoseconds;

// Shared by the journal write and every follower's send.
using Batch = std::shared_ptr<const protocol::EntryBatch>;

// ---- coordination ----------------------------------------------------------------------------

// A member or lock node of the group.
struct Holder {
  std::string path;
  std::string service;
  bool mine = false;  // made by this process in its present session (rule T4)
};

// The group's part of the coordination tree, as read at one time or in pieces at about the same
// time: a hint, never authority.
struct View {
  bool connected = false;
  bool expired = false;  // the session is over; `mine` is false everywhere
  std::optional<protocol::GroupRecord> record;
  std::int32_t record_version = 0;
  std::vector<Holder> members;  // by sequence
  std::vector<Holder> locks;    // by sequence; the first holds the lock
};

// Create an own lock node; in the same multi `dead` (if not empty) is deleted, and the record
// raised to the next term, if one is given (rule T2: who creates the lock holds it).
struct TakeLock {
  std::string dead;
  std::optional<protocol::GroupRecord> raised;
  std::int32_t expected_version = 0;
};
struct ReleaseLock {
  std::string path;
};
struct WriteRecord {  // one multi: check the own lock, set the record, perhaps release the lock
  protocol::GroupRecord record;
  std::int32_t expected_version = 0;
  std::string lock;
  bool release = false;
};
using CoordinationRequest = std::variant<TakeLock, ReleaseLock, WriteRecord>;

enum class Outcome {
  done,
  refused,  // definitely not done: a version, path or session was not as expected
  unknown,  // the connection broke: done or not. The driver syncs and delivers a fresh View first
};

// ---- effects, performed in order -------------------------------------------------------------

struct SavePromise {  // make it durable, then tell promise_saved()
  Term term;
};
struct WriteLog {  // append to the journal, then tell log_written()
  Batch batch;
};
struct TruncateLog {  // cut the journal, then tell log_truncated()
  Op last_kept;
};
struct Send {
  std::string service;
  protocol::GroupMessage message;
  Batch entries;  // of an Append; may be null
};
struct Coordinate {  // then tell coordinated() with the same number
  std::uint64_t number = 0;
  CoordinationRequest request;
};
struct ReadLog {  // read entries from `first` on and tell entries_read() for that follower
  Uuid follower;
  Op first;
  std::size_t max_bytes = 0;
};
struct NeedNoOp {};  // propose() a no-op of the term
struct Commit {      // entries up to `op` are committed and durable here: apply them
  Op op;
};
struct ReadsConfirmed {  // nothing newer than `commit` was committed before this round began
  std::uint64_t round = 0;
  Op commit;
};
struct CopyNeeded {  // the leader no longer has the missing entries: copy blocks, then copied()
  std::string leader;
};
struct Changed {  // the state changed; a leader's clients must be failed when it stops leading
  State from;
  State to;
  Cause cause;
  Term term;
};
struct Divergent {  // the leader's history contradicts what this replica knows as committed: stop
                    // it
  std::string what;
};

using Effect = std::variant<SavePromise, WriteLog, TruncateLog, Send, Coordinate, ReadLog, NeedNoOp,
                            Commit, ReadsConfirmed, CopyNeeded, Changed, Divergent>;
using Effects = std::vector<Effect>;

}  // namespace datom::replication

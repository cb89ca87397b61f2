// One-way messages between the replicas of a group. Encoded as replication.proto's GroupMessage; an
// Append's entries travel beside it as payload (entry.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "common/strong.h"
#include "common/uuid.h"
#include "protocol/entry.h"

namespace datom::protocol {

// Elector to voters: are you there, and do you hear a leader?
struct Probe {};
struct ProbeReply {
  Term promised;              // durable
  bool hears_leader = false;  // a leader spoke within the election timeout, or the sender leads
};

// Elector to voters: promise the envelope's term. A refusal carries the higher term promised.
struct Seal {};
struct SealReply {
  bool sealed = false;
  Term promised;  // durable
  EntryId last;   // durable end of the journal
  Op commit_hint;
  bool base_complete = false;
  bool head_certain = false;
  std::uint64_t incarnation = 0;  // of the process: drawn at its start
};

// Elector to the replica it chose; accepted by that incarnation only, if its journal still ends
// there.
struct BecomeLeader {
  EntryId last;
  std::uint64_t incarnation = 0;
};

// Leader to members: entries (payload) behind `previous`, or the group broadcast when it has none.
struct Append {
  EntryId previous;  // of the entry before the first one sent, or of the last one sent before
  Op commit;
  EntryId leader_last;       // end of the leader's journal when this was sent
  std::uint64_t round = 0;   // the newest read round; the reply confirms it
  bool copy_needed = false;  // the leader no longer has the entries that the member lacks
  Op fingerprint_op;         // 0: none. The leader's fingerprint as of that applied op
  std::uint64_t fingerprint = 0;
};
struct AppendReply {
  bool matched = false;     // whether `previous` is in the member's journal
  Op previous;              // op of the Append's previous: which message this answers
  bool functional = false;  // counts towards the quorum
  Op acked;                 // everything up to it equals the leader's journal and is durable here
  EntryId last;             // end of the member's journal
  Term conflict_term;  // not matched: the member's term at `previous` (or at its end, if shorter)
  Op conflict_first;   // and the first op of that term in its journal
  std::uint64_t round = 0;  // highest round seen in this term
  Op applied;
  bool copying = false;
};

using GroupBody =
    std::variant<Probe, ProbeReply, Seal, SealReply, BecomeLeader, Append, AppendReply>;

struct GroupMessage {
  Uuid volume;
  Uuid from;  // replica
  Uuid to;    // replica: a message meant for a predecessor of this replica is not for it
  Term term;  // of the elector's election, or of the leader; of what is answered in replies
  std::uint64_t config_epoch = 0;
  GroupBody body;
};

std::string encode(const GroupMessage& message);
// Throws Error{corrupt}.
GroupMessage decode_group_message(std::string_view bytes);

}  // namespace datom::protocol

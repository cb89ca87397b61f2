// One-way messages between the replicas of a group. Encoded as replication.proto's GroupMessage; an
// Append's entries travel beside it as payload (entry.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/strong.h"
#include "common/uuid.h"
#include "protocol/entry.h"

namespace datom::protocol {

// No lease is longer: what a replica that restarted reports, not knowing what it granted (rule R2).
inline constexpr std::chrono::nanoseconds kMaxLease = std::chrono::seconds(1);

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
  // Until then an earlier leader may serve reads by the sender's answers; at most kMaxLease.
  std::chrono::nanoseconds lease_left{};
};

// Elector to the replica it chose; accepted by that incarnation only, if its journal still ends
// there, and once it knows the configuration of the envelope.
struct BecomeLeader {
  EntryId last;
  std::uint64_t incarnation = 0;
  std::chrono::nanoseconds lease_left{};  // of earlier leaders: nothing is committed before
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
  std::uint64_t number = 0;  // counts the leader's Appends in its term
  std::uint64_t sent = 0;    // when, by the leader's clock; the reply echoes it
  // So long from the receipt on, the member's seals report a lease (rule R2); at most kMaxLease.
  std::chrono::nanoseconds lease{};
  // AppendReply::uncertain of the member's last answer: this was made after that process was heard.
  std::uint64_t heard = 0;
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
  std::uint64_t answers = 0;    // not matched: number of the Append that is refused
  std::uint64_t echo = 0;       // the newest `sent` of this term's Appends
  std::uint64_t uncertain = 0;  // while its journal's head is that (S2): its incarnation
};

// Leader to members: it leads this term no more, and serves nothing under its lease.
struct Resign {};

using GroupBody =
    std::variant<Probe, ProbeReply, Seal, SealReply, BecomeLeader, Append, AppendReply, Resign>;

struct GroupMessage {
  Uuid volume;
  Uuid from;  // replica
  Uuid to;    // replica: a message meant for a predecessor of this replica is not for it
  Term term;  // of the elector's election, or of the leader; of what is answered in replies
  std::uint64_t config_epoch = 0;  // of the configuration that the sender knows
  GroupBody body;
};

std::string encode(const GroupMessage& message);
// Throws Error{corrupt}.
GroupMessage decode_group_message(std::string_view bytes);

// Those of many groups for one server, in order (replication.proto's GroupMessages).
std::string encode(const std::vector<GroupMessage>& messages);
// Throws Error{corrupt}.
std::vector<GroupMessage> decode_group_messages(std::string_view bytes);

}  // namespace datom::protocol

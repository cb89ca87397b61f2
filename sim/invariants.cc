#include "sim/invariants.h"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

#include "protocol/entry.h"

namespace datom::sim {

using protocol::GroupMessage;

namespace {

// From a failed sync or write on, a replica says nothing more; what was on its way through its code
// has this long.
constexpr runtime::Duration kUntilSilent = std::chrono::milliseconds(500);

std::string text(const protocol::EntryId& id) {
  return fmt::format("(term {}, op {}, {:x})", id.term.value(), id.op.value(), id.checksum);
}

std::vector<Uuid> uuids(const std::vector<protocol::ReplicaRecord>& replicas) {
  std::vector<Uuid> all;
  for (const protocol::ReplicaRecord& one : replicas) all.push_back(one.replica);
  return all;
}

// Whether a majority of the one set and a majority of the other always have a member in common.
bool quorums_meet(const std::vector<Uuid>& one, const std::vector<Uuid>& other) {
  std::set<Uuid> all(one.begin(), one.end());
  all.insert(other.begin(), other.end());
  return one.size() / 2 + 1 + other.size() / 2 + 1 > all.size();
}

}  // namespace

void Invariants::fail(const GroupMessage& message, const std::string& what) {
  verdict_.fail(fmt::format("at {} ms, replica {} in term {}: {}",
                            world_.now().time_since_epoch() / std::chrono::milliseconds(1),
                            message.from.to_string().substr(0, 8), message.term.value(), what));
}

// ConfigSerial: what votes now and what voted before cannot decide apart.
void Invariants::record_is(const protocol::GroupRecord& record) {
  if (!configs_.empty() && record.config_epoch == record_.config_epoch) {
    record_ = record;
    return;
  }
  const bool next = record.config_epoch == record_.config_epoch + 1;
  if (!configs_.empty() && next) {
    const auto before = uuids(record_.voters);
    const auto joint = uuids(record_.next_voters);
    const auto now = uuids(record.voters);
    const bool kept = now == before;
    const bool switched = !joint.empty() && now == joint;
    if (joint.empty() && !record.next_voters.empty()) in_step(record);
    if (switched) holds_what_is_committed(record);
    if (!kept && !switched && !quorums_meet(before, now)) {
      verdict_.fail(
          fmt::format("configuration {} follows one with which it has no voter of every "
                      "quorum in common",
                      record.config_epoch));
    }
  }
  record_ = record;
  configs_.emplace_back(record);
  if (configs_.size() > 2) configs_.pop_front();
}

// SyncingNeverCounts: a replica that is to vote has been in step with the leader that says so.
void Invariants::in_step(const protocol::GroupRecord& record) {
  for (const protocol::ReplicaRecord& voter : record.next_voters) {
    const auto before = uuids(record.voters);
    if (std::count(before.begin(), before.end(), voter.replica) > 0) continue;
    const auto& acks = replicas_[voter.replica].acks;
    const auto of_term = acks.find(record.term);
    if (of_term != acks.end() && of_term->second.functional) continue;
    verdict_.fail(
        fmt::format("SyncingNeverCounts: configuration {} gives {} a vote, which it was "
                    "never in step for",
                    record.config_epoch, voter.service));
  }
}

// ConfigSerial: what was committed under the configurations before is on a quorum of the new one
// when that alone is in force.
void Invariants::holds_what_is_committed(const protocol::GroupRecord& record) {
  const auto leader = leaders_.find(record.term);
  if (leader == leaders_.end() || leaders_.rbegin()->first != record.term) return;
  const bool holds = Quorums(record).all_have([&](const Uuid& replica) {
    if (replica == leader->second.replica) return true;
    const auto& acks = replicas_[replica].acks;
    const auto of_term = acks.find(record.term);
    return of_term != acks.end() && of_term->second.up_to >= announced_;
  });
  if (holds) return;
  verdict_.fail(
      fmt::format("ConfigSerial: configuration {} is in force, and op {} is committed "
                  "without being on a quorum of it",
                  record.config_epoch, announced_.value()));
}

// LogMatching, SameOpSameBytes: a term and op name one entry, and its checksum covers its bytes and
// all that came before.
void Invariants::same_id(const GroupMessage& message, const Id& id) {
  if (id.op == Op(0)) return;
  const auto [known, fresh] = ids_.emplace(std::pair(id.term, id.op), id.checksum);
  if (!fresh && known->second != id.checksum) {
    fail(message, fmt::format("LogMatching: {} is {:x} elsewhere", text(id), known->second));
  }
}

// TermMonotonic, PromiseDurable: also across restarts.
void Invariants::promises(const GroupMessage& message, Term promised) {
  Replica& sender = replicas_[message.from];
  if (promised < sender.promised) {
    fail(message, fmt::format("TermMonotonic: it promised term {} before and now {}",
                              sender.promised.value(), promised.value()));
  }
  sender.promised = std::max(sender.promised, promised);
}

// PromiseDurable, at the moment at which it is asserted.
void Invariants::promise_is_durable(const GroupMessage& message, Term term) {
  if (sender_.promised >= term) return;
  fail(message, fmt::format("PromiseDurable: it asserts a promise of term {}, its superblock says "
                            "{}",
                            term.value(), sender_.promised.value()));
}

// AckDurable: what it acknowledged it has, until the leader of a later term has spoken to it.
void Invariants::keeps_acked(const GroupMessage& message, const Id& last) {
  const Replica& sender = replicas_[message.from];
  if (last.op < sender.acked) {
    fail(message,
         fmt::format("AckDurable: its journal ends at {}, it acknowledged op {} in term {}",
                     text(last), sender.acked.value(), sender.ack_term.value()));
  }
}

void Invariants::is_as_committed(const GroupMessage& message, const Id& id) {
  const auto found = committed_.find(id.op);
  if (found == committed_.end() || found->second.second > message.term) return;
  if (found->second.first != id) {
    fail(message, fmt::format("LeaderCompleteness: it has {} where {} is committed", text(id),
                              text(found->second.first)));
  }
}

void Invariants::entries(const GroupMessage& message, const Buffer& frames) {
  Leadership& leader = leaders_[message.term];
  for (std::size_t at = 0; at + protocol::kEntryHeaderBytes <= frames.size();) {
    const auto header = protocol::decode_header(frames.view().subspan(at), message.volume);
    if (!header) return;  // padding
    if (header->term > message.term) fail(message, "it sends an entry of a later term");
    if (header->term == message.term && leader.first == Op(0)) leader.first = header->op;
    same_id(message, header->id());
    is_as_committed(message, header->id());
    headers_[header->checksum] = {header->id(), header->previous};
    at += header->frame_bytes();
  }
}

// The highest op that a quorum has in the term, in one of the configurations that may be in force;
// entries of earlier terms are committed only together with one of this term.
Op Invariants::may_be_committed(Term term) const {
  const auto leader = leaders_.find(term);
  if (leader == leaders_.end() || leader->second.first == Op(0)) return Op(0);
  Op most;
  for (const Quorums& config : configs_) {
    most = std::max(most, config.reached<Op>([&](const Uuid& replica) {
      if (replica == leader->second.replica) return Op(~std::uint64_t{0});
      const auto known = replicas_.find(replica);
      if (known == replicas_.end()) return Op(0);
      const auto acks = known->second.acks.find(term);
      const bool counts = acks != known->second.acks.end() && acks->second.functional;
      return counts ? acks->second.up_to : Op(0);
    }));
  }
  return most >= leader->second.first ? most : Op(0);
}

// SyncingNeverCounts, NoZombieCommit: committed is what a quorum of functional members
// acknowledged.
void Invariants::commits(const GroupMessage& message, Op commit) {
  if (commit > possible_) {
    fail(message, fmt::format("it says that op {} is committed, but at most op {} can be",
                              commit.value(), possible_.value()));
  }
  if (commit > announced_) note_committed(message, commit);
}

// Follows the chain from the newest committed entry back to those known as committed.
void Invariants::note_committed(const GroupMessage& message, Op commit) {
  const auto newest = ids_.find({message.term, commit});
  if (newest == ids_.end()) return;
  std::uint64_t checksum = newest->second;
  while (true) {
    const auto found = headers_.find(checksum);
    if (found == headers_.end()) break;
    const Id& id = found->second.id;
    const auto [known, fresh] = committed_.emplace(id.op, std::pair(id, message.term));
    if (!fresh) {
      if (known->second.first != id) {
        fail(message, fmt::format("NoCommittedTruncation: {} was committed, now {}",
                                  text(known->second.first), text(id)));
      }
      break;
    }
    checksum = found->second.previous;
  }
  announced_ = commit;
}

// LeaseDisjoint: a leader of an earlier term that a quorum answered may serve reads for so long; a
// little less is demanded than the clocks' drift allows for.
void Invariants::outlives_leases(const GroupMessage& message) {
  for (const auto& [term, earlier] : leaders_) {
    if (term >= message.term) break;
    if (earlier.resigned || configs_.empty()) continue;
    const runtime::Time since = configs_.back().reached<runtime::Time>([&](const Uuid& replica) {
      if (replica == earlier.replica) return runtime::Time::max();
      const auto known = replicas_.find(replica);
      if (known == replicas_.end()) return runtime::Time{};
      const auto answered = known->second.answered.find(term);
      return answered == known->second.answered.end() ? runtime::Time{} : answered->second;
    });
    const runtime::Time until = since + earlier.lease * 97 / 100 - std::chrono::milliseconds(10);
    if (since > runtime::Time{} && since < runtime::Time::max() && world_.now() < until) {
      fail(message,
           fmt::format("LeaseDisjoint: it commits while the leader of term {} may serve reads for "
                       "another {} us",
                       term.value(), (until - world_.now()) / std::chrono::microseconds(1)));
    }
  }
}

bool Invariants::whole(const protocol::SealReply& seal) {
  return seal.base_complete && seal.head_certain;
}

// The first word of a leader. Rules E2 and E3: its journal is the greatest of a quorum's, as far as
// those reports are known, and it is the process that made its own.
void Invariants::leads(const GroupMessage& message, const protocol::Append& append) {
  const Replica& leader = replicas_[message.from];
  const auto process = leader.sealed_by.find(message.term);
  if (process != leader.sealed_by.end() && process->second != sender_.number) {
    fail(message, "OneLeader: another process of it was chosen");
  }
  if (!sender_.base_complete) fail(message, "NoAmnesiacVote: it leads without being whole");
  const auto elector = electors_.find(message.term);
  if (elector == electors_.end() || elector->second.first != message.from) return;
  const auto end = std::pair(append.leader_last.term, append.leader_last.op);
  const auto at_most = [&](const Uuid& replica) {
    const auto& seals = replicas_[replica].seals;
    const auto seal = seals.find(message.term);
    return seal != seals.end() && std::pair(seal->second.last.term, seal->second.last.op) <= end;
  };
  const bool greatest = std::any_of(configs_.begin(), configs_.end(), [&](const auto& config) {
    return config.all_have(
        [&](const Uuid& replica) { return replica == message.from || at_most(replica); });
  });
  if (!greatest) {
    fail(message, fmt::format("LeaderCompleteness: it chose itself, its journal ends at {}, and no "
                              "quorum has at most that",
                              text(append.leader_last)));
  }
}

void Invariants::on_append(const GroupMessage& message, const protocol::Append& append,
                           const Buffer& frames) {
  const auto [found, fresh] = leaders_.try_emplace(message.term);
  Leadership& leader = found->second;
  if (fresh) {
    leader.replica = message.from;
    leader.process = sender_.number;
    leads(message, append);
  }
  if (leader.replica != message.from) fail(message, "OneLeader: the term has another leader");
  if (leader.process != sender_.number) fail(message, "OneLeader: it led before it restarted");
  promise_is_durable(message, message.term);
  const bool newest = leaders_.rbegin()->first == message.term;  // else it was overtaken already
  if (fresh && newest && append.leader_last.op < announced_) {
    fail(message, fmt::format("LeaderCompleteness: op {} is committed, its journal ends at {}",
                              announced_.value(), text(append.leader_last)));
  }
  leader.lease = append.lease;
  leader.sent.emplace(append.sent, world_.now());
  same_id(message, append.previous);
  same_id(message, append.leader_last);
  is_as_committed(message, append.previous);
  entries(message, frames);
  possible_ = std::max(possible_, may_be_committed(message.term));
  const bool own = leader.first > Op(0) && append.commit >= leader.first;
  if (own && append.commit > announced_) outlives_leases(message);
  commits(message, append.commit);
}

void Invariants::on_append_reply(const GroupMessage& message, const protocol::AppendReply& reply) {
  Replica& sender = replicas_[message.from];
  if (reply.last.op == Op(0) && !reply.matched) return;  // it merely says that its term is higher
  same_id(message, reply.last);
  if (reply.copying || reply.functional) sender.copying = reply.copying;
  const bool may_lack = reply.copying || (damaged_.contains(message.from) && !reply.functional);
  if (!may_lack) keeps_acked(message, reply.last);
  if (reply.applied > possible_) {
    fail(message, fmt::format("AppliedLeCommit: it applied op {}, at most op {} can be committed",
                              reply.applied.value(), possible_.value()));
  }
  if (reply.acked > Op(0) || reply.echo > 0) promise_is_durable(message, message.term);
  if (reply.acked > Op(0)) {
    promises(message, message.term);
    sender.ack_term = message.term;
    sender.acked = std::max(sender.acked, reply.acked);
    if (reply.acked > reply.last.op) fail(message, "it acknowledges more than it has");
    Acks& acks = sender.acks[message.term];
    acks.functional = acks.functional || reply.functional;
    if (!reply.copying) acks.up_to = std::max(acks.up_to, reply.acked);
  }
  possible_ = std::max(possible_, may_be_committed(message.term));
}

// Each term has one elector (T2).
void Invariants::on_seal(const GroupMessage& message) {
  const auto self = std::pair(message.from, sender_.number);
  const auto [known, fresh] = electors_.emplace(message.term, self);
  if (!fresh && known->second != self) {
    fail(message, "OneLeader: another process holds an election of that term");
  }
}

void Invariants::on_seal_reply(const GroupMessage& message, const protocol::SealReply& reply) {
  same_id(message, reply.last);
  if (!reply.sealed) return;  // a refusal tells of a term that it may be about to promise: a hint
  promises(message, reply.promised);
  promise_is_durable(message, message.term);
  replicas_[message.from].sealed_by[message.term] = sender_.number;
  if (reply.promised < message.term) fail(message, "it seals a term without having promised it");
  if (reply.base_complete && reply.head_certain) keeps_acked(message, reply.last);
  replicas_[message.from].seals[message.term] = reply;
}

// Rule E2: chosen is one that is whole, of a quorum that has promised the term.
void Invariants::on_become_leader(const GroupMessage& message,
                                  const protocol::BecomeLeader& order) {
  promise_is_durable(message, message.term);
  const auto has_sealed = [&](const Uuid& replica) {
    const auto known = replicas_.find(replica);
    if (known == replicas_.end()) return false;
    const auto seal = known->second.seals.find(message.term);
    return seal != known->second.seals.end() && whole(seal->second);
  };
  const bool quorum = std::any_of(configs_.begin(), configs_.end(),
                                  [&](const auto& config) { return config.all_have(has_sealed); });
  // The elector's own report is no message, but its superblock says whether it counts.
  const bool with_own = std::any_of(configs_.begin(), configs_.end(), [&](const auto& config) {
    return config.all_have([&](const Uuid& replica) {
      return (replica == message.from && sender_.base_complete) || has_sealed(replica);
    });
  });
  if (!quorum && !with_own)
    fail(message, "NoAmnesiacVote: it names a leader, and no quorum that is whole has sealed");
  const auto& seals = replicas_[message.to].seals;
  const auto chosen = seals.find(message.term);
  if (chosen == seals.end()) return;
  if (!whole(chosen->second)) {
    fail(message, "NoAmnesiacVote: it names a leader that is not whole");
  }
  if (chosen->second.last != order.last) fail(message, "it names a leader with another journal");
}

bool Invariants::beyond_repair() const {
  if ((wiped_.empty() && damaged_.empty()) || configs_.empty()) return false;
  return !configs_.back().all_have([&](const Uuid& replica) {
    const auto known = replicas_.find(replica);
    if (wiped_.contains(replica) || damaged_.contains(replica)) return false;
    if (known == replicas_.end() || known->second.copying) return false;
    const auto& seals = known->second.seals;
    return seals.empty() || seals.rbegin()->second.base_complete;
  });
}

void Invariants::sent(const rpc::Message& carried, const Look& look) {
  const GroupMessage message = protocol::decode_group_message(carried.header);
  sender_ = look(message.from);
  const std::optional<runtime::Time>& refused = sender_.refused;
  ++checked_;
  if (wiped_.contains(message.from)) fail(message, "NoAmnesiacVote: its disk was wiped");
  Replica& sender = replicas_[message.from];
  if (sender.first_heard == runtime::Time{}) sender.first_heard = world_.now();
  // A replica that was made there since is another one.
  if (refused && sender.first_heard < *refused && world_.now() - *refused > kUntilSilent) {
    fail(message, "FailStop: it speaks although its disk refused it a sync or a write");
  }
  if (const auto* append = std::get_if<protocol::Append>(&message.body)) {
    on_append(message, *append, carried.payload);
  } else if (const auto* reply = std::get_if<protocol::AppendReply>(&message.body)) {
    on_append_reply(message, *reply);
  } else if (const auto* seal = std::get_if<protocol::SealReply>(&message.body)) {
    on_seal_reply(message, *seal);
  } else if (const auto* probe = std::get_if<protocol::ProbeReply>(&message.body)) {
    promises(message, probe->promised);
    promise_is_durable(message, probe->promised);
  } else if (std::holds_alternative<protocol::Seal>(message.body)) {
    on_seal(message);
  } else if (const auto* order = std::get_if<protocol::BecomeLeader>(&message.body)) {
    on_become_leader(message, *order);
  } else if (std::holds_alternative<protocol::Resign>(message.body)) {
    leaders_[message.term].resigned = true;
  }
}

void Invariants::arrived(const rpc::Message& carried) {
  const GroupMessage message = protocol::decode_group_message(carried.header);
  if (std::holds_alternative<protocol::Append>(message.body)) {
    // A later leader may have shown it a conflict.
    Replica& receiver = replicas_[message.to];
    if (message.term > receiver.ack_term) receiver.acked = Op(0);
  } else if (const auto* reply = std::get_if<protocol::AppendReply>(&message.body)) {
    // The leader knows now that this was answered.
    const auto leader = leaders_.find(message.term);
    if (leader == leaders_.end() || leader->second.replica != message.to) return;
    const auto at = leader->second.sent.find(reply->echo);
    if (at == leader->second.sent.end()) return;
    runtime::Time& answered = replicas_[message.from].answered[message.term];
    answered = std::max(answered, at->second);
  }
}

}  // namespace datom::sim

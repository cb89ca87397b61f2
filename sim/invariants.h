// Watches every message between the replicas, as sent and as arrived, and the group's record, and
// demands what must hold at each step, whatever befalls whom (docs/simulator.md has the table).
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "protocol/group_messages.h"
#include "protocol/records.h"
#include "rpc/rpc.h"
#include "runtime/loop.h"
#include "sim/quorums.h"
#include "sim/verdict.h"

namespace datom::sim {

class Invariants {
 public:
  // `world` shows true time.
  Invariants(const runtime::Loop& world, Verdict& verdict) : world_(world), verdict_(verdict) {}

  void record_is(const protocol::GroupRecord& record);
  // A replica that voted has lost its disk: nobody speaks in its name any more.
  void wiped(const Uuid& replica) { wiped_.insert(replica); }
  // Its disk may have lost entries that it acknowledged. It may say so, and then not count until a
  // leader has supplied them.
  void journal_damaged(const Uuid& replica) { damaged_.insert(replica); }
  // What is known of a sender beside what it says.
  struct Process {
    std::uint64_t number = 0;              // which of its server's processes it is
    std::optional<runtime::Time> refused;  // since when it knows that its disk refused something
    // As its superblock says, on stable storage.
    Term promised;
    bool base_complete = false;
  };
  // Asked for the replica that a message is from.
  using Look = std::function<Process(const Uuid& replica)>;
  void sent(const rpc::Message& message, const Look& look);
  void arrived(const rpc::Message& message);

  // A voter's disk was wiped or its journal damaged, and of the others too few are whole for any
  // election: what is there cannot be proved to be all. Waiting is right then; more was lost than
  // the protocol survives.
  bool beyond_repair() const;

  std::uint64_t checked() const { return checked_; }

 private:
  using Id = protocol::EntryId;
  struct Header {
    Id id;
    std::uint64_t previous = 0;
  };
  struct Acks {               // of one term
    bool functional = false;  // it has said so
    Op up_to;                 // with a whole base
  };
  // What a replica has said of itself.
  struct Replica {
    runtime::Time first_heard{};
    Term promised;
    Term ack_term;
    Op acked;  // everything up to it is durable, and equal to ack_term's leader's
    std::map<Term, Acks> acks;
    std::map<Term, runtime::Time> answered;  // when what it answered of that term was sent
    std::map<Term, protocol::SealReply> seals;
    bool copying = false;                     // its base is not complete
    std::map<Term, std::uint64_t> sealed_by;  // which process of its server
  };
  struct Leadership {
    Uuid replica;
    std::uint64_t process = 0;
    std::map<std::uint64_t, runtime::Time> sent;  // true time, by the leader's own
    runtime::Duration lease{};
    bool resigned = false;
    Op first;  // the first entry of its own
  };

  void fail(const protocol::GroupMessage& message, const std::string& what);
  void same_id(const protocol::GroupMessage& message, const Id& id);
  void promises(const protocol::GroupMessage& message, Term promised);
  void promise_is_durable(const protocol::GroupMessage& message, Term term);
  void keeps_acked(const protocol::GroupMessage& message, const Id& last);
  void entries(const protocol::GroupMessage& message, const Buffer& frames);
  void is_as_committed(const protocol::GroupMessage& message, const Id& id);
  void commits(const protocol::GroupMessage& message, Op commit);
  void outlives_leases(const protocol::GroupMessage& message);
  void note_committed(const protocol::GroupMessage& message, Op commit);
  Op may_be_committed(Term term) const;

  void leads(const protocol::GroupMessage& message, const protocol::Append& append);
  static bool whole(const protocol::SealReply& seal);
  void in_step(const protocol::GroupRecord& record);
  void holds_what_is_committed(const protocol::GroupRecord& record);

  void on_append(const protocol::GroupMessage& message, const protocol::Append& append,
                 const Buffer& frames);
  void on_append_reply(const protocol::GroupMessage& message, const protocol::AppendReply& reply);
  void on_seal(const protocol::GroupMessage& message);
  void on_seal_reply(const protocol::GroupMessage& message, const protocol::SealReply& reply);
  void on_become_leader(const protocol::GroupMessage& message, const protocol::BecomeLeader& order);

  const runtime::Loop& world_;
  Verdict& verdict_;
  std::uint64_t checked_ = 0;
  protocol::GroupRecord record_;
  std::deque<Quorums> configs_;  // the last two
  std::set<Uuid> wiped_;
  std::set<Uuid> damaged_;  // in their journals
  std::map<Uuid, Replica> replicas_;
  Process sender_;                                           // of the message at hand
  std::map<Term, std::pair<Uuid, std::uint64_t>> electors_;  // and its process
  std::map<Term, Leadership> leaders_;
  std::map<std::pair<Term, Op>, std::uint64_t> ids_;
  std::map<std::uint64_t, Header> headers_;      // by checksum
  std::map<Op, std::pair<Id, Term>> committed_;  // and the term of the leader that said so
  Op announced_;                                 // committed, as said by a leader
  Op possible_;                                  // committed at most
};

}  // namespace datom::sim

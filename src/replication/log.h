// What the state machine knows of its replica's journal: the ids of its entries, those being
// written included. The bytes are the journal's.
#pragma once

#include <deque>
#include <optional>
#include <vector>

#include "common/strong.h"
#include "protocol/entry.h"

namespace datom::replication {

using protocol::EntryId;

class Log {
 public:
  // `entries` follow `base` op by op; all of them durable.
  Log(EntryId base, const std::vector<EntryId>& entries);

  EntryId base() const { return base_; }
  EntryId last() const { return ids_.empty() ? base_ : ids_.back(); }
  EntryId durable() const;
  // Of an entry kept or the base; nullopt outside.
  std::optional<EntryId> at(Op op) const;
  bool has(const EntryId& id) const;

  // REQUIRES: follows last().
  void append(const EntryId& id);
  // REQUIRES: base().op <= last_kept <= last().op.
  void truncate_after(Op last_kept);
  // Forgets entries up to `op`, which becomes the base. REQUIRES: kept and durable.
  void trim_through(Op op);
  void reset(EntryId base);
  // Entries up to `id` reached stable storage. A late word of entries cut since is ignored (D2).
  void written(const EntryId& id);

  // First op kept whose term is at least `term`; last().op + 1 if there is none.
  Op first_of_term(Term term) const;
  // Last op kept (or the base) whose term is at most `term`; nullopt if even the base's is greater.
  std::optional<Op> last_up_to_term(Term term) const;

 private:
  EntryId base_;
  std::deque<EntryId> ids_;
  Op durable_;
};

}  // namespace datom::replication

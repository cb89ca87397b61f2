#include "replication/log.h"

#include <algorithm>

#include "common/check.h"

namespace datom::replication {

Log::Log(EntryId base, const std::vector<EntryId>& entries) : base_(base), durable_(base.op) {
  for (const EntryId& id : entries) append(id);
  durable_ = last().op;
}

EntryId Log::durable() const {
  const std::optional<EntryId> id = at(durable_);
  DATOM_CHECK(id.has_value());
  return *id;
}

std::optional<EntryId> Log::at(Op op) const {
  if (op == base_.op) return base_;
  if (op < base_.op || op > last().op) return std::nullopt;
  return ids_[op.value() - base_.op.value() - 1];
}

bool Log::has(const EntryId& id) const {
  return at(id.op) == id;
}

void Log::append(const EntryId& id) {
  DATOM_CHECK(id.op == last().op.next() && id.term >= last().term);
  ids_.push_back(id);
}

void Log::truncate_after(Op last_kept) {
  DATOM_CHECK(last_kept >= base_.op && last_kept <= last().op);
  ids_.resize(last_kept.value() - base_.op.value());
  durable_ = std::min(durable_, last_kept);
}

void Log::trim_through(Op op) {
  const std::optional<EntryId> id = at(op);
  DATOM_CHECK(id.has_value() && op <= durable_);
  ids_.erase(ids_.begin(),
             ids_.begin() + static_cast<std::ptrdiff_t>(op.value() - base_.op.value()));
  base_ = *id;
}

void Log::reset(EntryId base) {
  ids_.clear();
  base_ = base;
  durable_ = base.op;
}

void Log::written(const EntryId& id) {
  if (id.op > durable_ && has(id)) durable_ = id.op;
}

Op Log::first_of_term(Term term) const {
  const auto found = std::lower_bound(ids_.begin(), ids_.end(), term,
                                      [](const EntryId& id, Term t) { return id.term < t; });
  return found == ids_.end() ? last().op.next() : found->op;
}

std::optional<Op> Log::last_up_to_term(Term term) const {
  const Op above = first_of_term(term.next());
  if (above.previous() > base_.op) return above.previous();
  return base_.term <= term ? std::optional(base_.op) : std::nullopt;
}

}  // namespace datom::replication

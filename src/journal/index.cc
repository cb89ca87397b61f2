#include "journal/index.h"

#include <algorithm>

#include "common/check.h"

namespace datom::journal {

protocol::EntryId Index::last() const {
  if (entries_.empty()) return base_;
  const Op op(base_.op.value() + entries_.size());
  return {entries_.back().term, op, entries_.back().checksum};
}

std::optional<protocol::EntryId> Index::id_at(Op op) const {
  if (op == base_.op) return base_;
  if (op < base_.op || op > last().op) return std::nullopt;
  const IndexedEntry& entry = at(op);
  return protocol::EntryId{entry.term, op, entry.checksum};
}

const IndexedEntry& Index::at(Op op) const {
  DATOM_CHECK(op > base_.op && op <= last().op);
  return entries_[op.value() - base_.op.value() - 1];
}

void Index::push(const protocol::EntryHeader& header, std::uint32_t segment, std::size_t offset) {
  DATOM_CHECK(header.op == last().op.next());
  IndexedEntry entry;
  entry.term = header.term;
  entry.checksum = header.checksum;
  entry.commit_hint = header.commit_hint;
  entry.segment = segment;
  entry.offset = static_cast<std::uint32_t>(offset);
  entry.payload_length = header.payload_length;
  entries_.push_back(entry);
  highest_commit_hint_ = std::max(highest_commit_hint_, header.commit_hint);
}

void Index::drop_through(Op op) {
  const std::optional<protocol::EntryId> id = id_at(op);
  DATOM_CHECK(id.has_value());
  const auto count = static_cast<std::ptrdiff_t>(op.value() - base_.op.value());
  entries_.erase(entries_.begin(), entries_.begin() + count);
  base_ = *id;
  // The highest hint stays true though its entry may be gone: it would cost a look at all the rest.
}

void Index::cut_after(Op op) {
  DATOM_CHECK(op >= base_.op && op <= last().op);
  entries_.resize(op.value() - base_.op.value());
  find_highest_commit_hint();
}

void Index::find_highest_commit_hint() {
  highest_commit_hint_ = Op();
  for (const IndexedEntry& entry : entries_) {
    highest_commit_hint_ = std::max(highest_commit_hint_, entry.commit_hint);
  }
}

}  // namespace datom::journal

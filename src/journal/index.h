// The entries kept, in memory: 40 bytes each.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "common/strong.h"
#include "protocol/entry.h"

namespace datom::journal {

struct IndexedEntry {
  Term term;
  std::uint64_t checksum = 0;
  Op commit_hint;
  std::uint32_t segment = 0;  // sequence of its segment
  std::uint32_t offset = 0;   // of its frame in the segment
  std::uint32_t payload_length = 0;

  std::uint32_t frame_bytes() const {
    return static_cast<std::uint32_t>(protocol::frame_bytes(payload_length));
  }
  std::uint32_t end() const { return offset + frame_bytes(); }
};
static_assert(sizeof(IndexedEntry) == 40);

class Index {
 public:
  explicit Index(protocol::EntryId base) : base_(base) {}

  const protocol::EntryId& base() const { return base_; }
  protocol::EntryId last() const;  // base() when empty
  bool empty() const { return entries_.empty(); }
  std::optional<protocol::EntryId> id_at(Op op) const;
  // REQUIRES: base().op < op <= last().op.
  const IndexedEntry& at(Op op) const;
  // Of the entries kept, or dropped since.
  Op highest_commit_hint() const { return highest_commit_hint_; }

  // REQUIRES: header follows last().
  void push(const protocol::EntryHeader& header, std::uint32_t segment, std::size_t offset);
  // Forgets the entries up to `op`, which becomes the base. REQUIRES: base().op <= op <= last().op.
  void drop_through(Op op);
  // Forgets the entries above `op`. REQUIRES: base().op <= op <= last().op.
  void cut_after(Op op);

 private:
  void find_highest_commit_hint();

  protocol::EntryId base_;
  std::deque<IndexedEntry> entries_;
  Op highest_commit_hint_;
};

}  // namespace datom::journal

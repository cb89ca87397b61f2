// The journal of one replica: an append-only log of ops in preallocated segment files, written
// O_DIRECT | O_DSYNC. Its tail can be rolled back; its oldest segments go once they are below the
// checkpoint and the retention, and are written again. Format: docs/formats.md. Belongs to one
// loop.
#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/strong.h"
#include "common/uuid.h"
#include "protocol/entry.h"
#include "runtime/file.h"
#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::journal {

struct JournalOptions {
  // Multiples of 4 KiB; a segment holds two batches at least, and at most 1 GiB.
  std::uint64_t segment_bytes = 8 << 20;
  std::size_t max_batch_bytes = 4 << 20;
};

class Journal {
 public:
  // Makes a journal, durably. `base` is the id of the entry before its first; of a new group: all
  // zero. What an interrupted creation left is replaced. Throws Error{already_exists} where a
  // journal is.
  static runtime::Task<void> create(runtime::Filesystem& files, std::string directory, Uuid volume,
                                    protocol::EntryId base, JournalOptions options);

  // Reads headers and payload checksums of every segment and finds the end. A torn last batch (a
  // crash interrupted its write: it was never acknowledged) is cut. Anything else that fails its
  // checksum leaves the entries before it and makes head_certain() false. Throws Error{not_found}
  // where there is no journal, Error{corrupt} where even its beginning is unreadable.
  static runtime::Task<std::unique_ptr<Journal>> open(runtime::Filesystem& files,
                                                      runtime::Loop& loop, std::string directory,
                                                      Uuid volume, JournalOptions options);
  ~Journal();

  // `hears` is called on the loop when what the journal does by itself (segments made ahead) fails
  // in a way that ends it, so that a replica that appends nothing hears of it as well (rule S1).
  // It may be called from inside any call of the journal, and must not make one.
  void on_failure(std::function<void(std::exception_ptr)> hears);

  // False: entries may be missing at the end that this replica once acknowledged (rule S2). It must
  // not vote or count until a leader has supplied the tail and declare_head_certain() was called.
  bool head_certain() const;
  void declare_head_certain();

  // Ids and headers come from an index in memory (bytes a retained entry: see journal.cc).
  protocol::EntryId base() const;  // of the entry before the first one kept
  Op first_op() const;             // base().op + 1; above last_op() when nothing is kept
  protocol::EntryId last() const;  // base() when nothing is kept
  // Of an entry kept, or of the base; nullopt outside.
  std::optional<protocol::EntryId> id_at(Op op) const;
  // Highest commit hint among the entries kept, or dropped since opening: all up to it were once
  // committed (rule S3).
  Op highest_commit_hint() const;
  // Of the segments' content, padding included.
  std::uint64_t bytes_kept() const;
  // Of files that are ready for entries to come.
  std::uint64_t bytes_spare() const;

  // Appends; returns once the batch is on stable storage. One append or truncation at a time.
  // REQUIRES: the first entry follows last() in op and chain; bytes within max_batch_bytes. On
  // Error (io_error, no_space) the tail is undefined: the caller stops this replica (rule S1).
  runtime::Task<void> append(protocol::EntryBatch batch);

  // Takes care that one more entry, a frame of `bytes`, can certainly be appended, however it will
  // be batched with others that were reserved for: space for all of them is allocated. Call before
  // an entry is made (rule S6); every append gives back what its entries had reserved. Promises 16
  // batches of the largest size at most. Throws Error{no_space} when the disk is full, nothing
  // changed: the journal goes on, and a later call may succeed.
  runtime::Task<void> reserve(std::uint64_t bytes);

  // Entries from `first` on, as many as fit into `max_bytes` and one batch, at least one. Also
  // beside other calls. REQUIRES: first is kept and at most last().op. Throws Error{corrupt} where
  // an entry fails its checksum, Error{unavailable} if it was cut meanwhile.
  runtime::Task<protocol::EntryBatch> read(Op first, std::size_t max_bytes);

  // Cuts all entries above `last_kept`, durably: they cannot reappear. One at a time, not beside an
  // append. REQUIRES: base().op <= last_kept <= last().op.
  runtime::Task<void> truncate_after(Op last_kept);

  // Drops whole segments that hold only entries up to `op`, the oldest first, as long as
  // `keep_bytes` of the rest stay (as bytes_kept() counts). Also beside other calls.
  // Of what goes, some files stay for another life, with those that are ready for it already: of
  // `spare_bytes` at most, but one.
  runtime::Task<void> trim_through(Op op, std::uint64_t keep_bytes = 0,
                                   std::uint64_t spare_bytes = UINT64_MAX);

  // Empties the journal: it goes on behind `base`. For a replica that was copied. A crash leaves
  // the old journal or the new one. One at a time, not beside an append or truncation.
  runtime::Task<void> reset(protocol::EntryId base);

  // Waits for what is under way; use nothing afterwards.
  runtime::Task<void> close();

 private:
  struct Impl;
  explicit Journal(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace datom::journal

#include "journal/journal.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "common/check.h"
#include "common/error.h"
#include "journal/index.h"
#include "journal/reader.h"
#include "journal/recovery.h"
#include "journal/segment.h"
#include "journal/segment_header.h"
#include "runtime/task_group.h"
#include "runtime/wait.h"

namespace datom::journal {
namespace {

using protocol::EntryBatch;
using protocol::EntryHeader;
using protocol::EntryId;
using runtime::Task;

// What reserve() promises at most, in batches of the largest size: a caller that reserves and then
// does not append cannot make the journal fill the disk.
constexpr std::uint64_t kMaxReservedBatches = 16;
// Held beyond what is reserved, for entries that nobody reserves space for: a leader's no-op, an
// attach.
constexpr std::uint64_t kUnreservedBytes = 64 << 10;
// Segments kept for another life: what is written between two checkpoints, with the usual size.
constexpr std::size_t kMaxSpares = 8;
// A batch of more than this part of a segment is large.
constexpr std::uint64_t kLargeBatch = 8;

void check_options(const JournalOptions& options) {
  const bool usable =
      options.segment_bytes % kBlockSize == 0 && options.max_batch_bytes % kBlockSize == 0 &&
      options.max_batch_bytes > 0 && options.segment_bytes >= 2 * options.max_batch_bytes &&
      options.segment_bytes >= content_begin(options.segment_bytes) + options.max_batch_bytes &&
      options.segment_bytes <= kMaxSegmentBytes;
  if (usable) return;
  throw Error(Code::invalid_argument,
              "journal segments of {} bytes with batches up to {}, expected multiples of {}, a "
              "segment above two batches and at most {}",
              options.segment_bytes, options.max_batch_bytes, kBlockSize, kMaxSegmentBytes);
}

std::string parent_of(const std::string& directory) {
  const std::size_t end = directory.find_last_not_of('/');
  const std::size_t slash = directory.find_last_of('/', end);
  if (slash == std::string::npos || end == std::string::npos) return ".";
  return slash == 0 ? "/" : directory.substr(0, slash);
}

// Our own mistakes, all of them: a batch from a peer went through parse_batch.
void check_batch(const EntryBatch& batch, const EntryId& last, std::size_t max_bytes) {
  DATOM_CHECK(!batch.empty() && batch.headers.size() == batch.frame_offsets.size());
  DATOM_CHECK(batch.bytes.size() % kBlockSize == 0 && batch.bytes.size() <= max_bytes);
  EntryId before = last;
  std::size_t at = 0;
  for (std::size_t i = 0; i < batch.headers.size(); ++i) {
    const EntryHeader& header = batch.headers[i];
    DATOM_CHECK(header.op == before.op.next() && header.previous == before.checksum);
    DATOM_CHECK(header.term >= before.term && batch.frame_offsets[i] == at);
    at += header.frame_bytes();
    before = header.id();
  }
  DATOM_CHECK(round_up_to_blocks(at) == batch.bytes.size());
}

// Whether it can be written O_DIRECT: a part of a larger message need not begin on a block.
bool aligned(const Buffer& buffer) {
  return reinterpret_cast<std::uintptr_t>(buffer.data()) % kBlockSize == 0;
}

// What reserve() counted for these entries, one by one.
std::uint64_t reserved_for(const EntryBatch& batch) {
  std::uint64_t bytes = 0;
  for (const EntryHeader& header : batch.headers) bytes += round_up_to_blocks(header.frame_bytes());
  return bytes;
}

// Where the write ends that begins with the frame at `begin`. No frame but a write's first begins
// at a block's start, so that recovery can tell two writes from one (docs/formats.md, "Recovery").
std::size_t end_of_write(const EntryBatch& batch, std::size_t begin) {
  for (const std::size_t offset : batch.frame_offsets) {
    if (offset > begin && offset % kBlockSize == 0) return offset;
  }
  return batch.bytes.size();
}

}  // namespace

struct Journal::Impl {
  Impl(runtime::Filesystem& files_, runtime::Loop& loop_, std::string directory_, Uuid volume_,
       JournalOptions options_)
      : files(files_),
        loop(loop_),
        directory(std::move(directory_)),
        volume(volume_),
        options(options_),
        layout(loop),
        preparing(loop),
        background(loop, [this](std::exception_ptr error) { note(error); }) {}

  // Set while the tail or the beginning changes on disk: unless that ends well, nobody knows what
  // is there, and the journal takes nothing more (rule S1).
  class Change {
   public:
    explicit Change(Impl& journal) : journal_(journal) {}
    Change(const Change&) = delete;
    Change& operator=(const Change&) = delete;
    ~Change() {
      if (!done_) journal_.failed = true;
    }
    void done() { done_ = true; }

   private:
    Impl& journal_;
    bool done_ = false;
  };

  // One append, truncation or reset at a time is the caller's part of the contract.
  class TailHolder {
   public:
    explicit TailHolder(bool& held) : held_(held) {
      DATOM_CHECK(!held_);
      held_ = true;
    }
    TailHolder(const TailHolder&) = delete;
    TailHolder& operator=(const TailHolder&) = delete;
    ~TailHolder() { held_ = false; }

   private:
    bool& held_;
  };

  runtime::Filesystem& files;
  runtime::Loop& loop;
  const std::string directory;
  const Uuid volume;
  const JournalOptions options;

  Index index{EntryId{}};
  std::deque<std::shared_ptr<Segment>> segments;  // in order; the last is written to
  std::deque<std::shared_ptr<Segment>> spares;    // not begun, ready for it
  std::uint32_t next_number = 1;
  std::uint32_t next_sequence = 1;
  std::uint64_t reserved = 0;
  std::uint64_t cuts = 0;  // how often entries went away at the end
  bool tail_held = false;
  bool failed = false;
  std::exception_ptr background_error;
  std::function<void(std::exception_ptr)> hears_failure;
  bool spare_tried = false;  // in the background, for the segment being written

  bool certain = true;
  bool marker = false;              // the file that says that the head is uncertain
  bool damaged = false;             // the tail holds what recovery did not understand
  std::uint64_t damage_begins = 0;  // in the last segment
  std::vector<std::string> lost;    // segments behind the damage

  runtime::Mutex layout;     // who removes segments
  runtime::Mutex preparing;  // who makes spares
  runtime::TaskGroup background;

  Segment& current() { return *segments.back(); }

  // A failure outside the tail; it ends the journal like one inside (rule S1), but for a full disk.
  void note(std::exception_ptr error) {
    try {
      std::rethrow_exception(error);
    } catch (const Error& thrown) {
      // Whoever needs the space next meets the full disk himself.
      if (thrown.code() == Code::no_space) return;
    } catch (...) {
    }
    if (background_error) return;
    background_error = error;
    if (hears_failure) hears_failure(error);
  }

  void check_usable() const {
    if (background_error) std::rethrow_exception(background_error);
    if (failed) {
      throw Error(Code::io_error, "the journal in {} failed earlier and takes nothing more",
                  directory);
    }
  }

  // --- space ---

  // Whether entries of `bytes` in all fit, however they are batched: at each segment's end nearly a
  // batch may be left unused.
  bool has_space(std::uint64_t bytes) {
    const std::uint64_t largest_batch = std::min<std::uint64_t>(bytes, options.max_batch_bytes);
    const std::uint64_t waste = largest_batch - kBlockSize;
    std::uint64_t usable = 0;
    std::uint64_t free = current().free_bytes();
    for (const auto& spare : spares) {
      usable += free > waste ? free - waste : 0;
      free = spare->free_bytes();
    }
    return usable + free >= bytes;
  }

  std::uint64_t margin() const {
    return std::min<std::uint64_t>(kUnreservedBytes, options.max_batch_bytes);
  }

  Task<void> ensure_spares(std::size_t count) {
    const runtime::Mutex::Holder holder = co_await preparing.lock();
    while (spares.size() < count) {
      const std::uint32_t number = next_number++;
      try {
        std::shared_ptr<Segment> spare =
            co_await make_segment(files, directory, number, options.segment_bytes);
        spares.push_back(std::move(spare));
      } catch (...) {
        note(std::current_exception());
        throw;
      }
    }
  }

  Task<void> reserve(std::uint64_t bytes) {
    check_usable();
    const std::uint64_t more = round_up_to_blocks(bytes);
    const std::uint64_t limit = kMaxReservedBatches * options.max_batch_bytes;
    if (more > limit) {
      throw Error(Code::too_large, "{} bytes of journal asked for, at most {} at once", bytes,
                  limit);
    }
    while (!has_space(std::min(reserved + more, limit) + margin())) {
      co_await ensure_spares(spares.size() + 1);
      check_usable();
    }
    reserved = std::min(reserved + more, limit);
  }

  // So that the next segment is there before this one is full; two if batches are so large that one
  // soon follows the other.
  void prepare_ahead(std::size_t batch_bytes) {
    const bool half_full = current().end >= current().bytes / 2;
    const std::size_t wanted = batch_bytes > current().bytes / kLargeBatch ? 2 : 1;
    if (!half_full || spare_tried || spares.size() >= wanted || background.closing()) return;
    spare_tried = true;
    background.spawn(ensure_spares(wanted));
  }

  // One to be begun behind `base`.
  Task<std::shared_ptr<Segment>> take_spare(EntryId base) {
    while (spares.empty()) co_await ensure_spares(1);
    std::shared_ptr<Segment> spare = std::move(spares.front());
    spares.pop_front();
    spare_tried = false;
    DATOM_CHECK(spare->highest_stale <= base.op);
    spare->sequence = next_sequence++;
    spare->base = base;
    co_return spare;
  }

  // --- tail ---

  Task<void> append(EntryBatch batch) {
    check_usable();
    check_batch(batch, index.last(), options.max_batch_bytes);
    const TailHolder tail(tail_held);
    if (damaged) co_await cut_damage();
    if (!aligned(batch.bytes)) batch.bytes = Buffer::copy_of(batch.bytes.view());
    if (current().free_bytes() >= batch.bytes.size()) {
      const std::shared_ptr<Segment> segment = segments.back();
      Change change(*this);
      co_await write_from(*segment, batch, 0);
      change.done();
    } else {
      co_await append_in_next_segment(batch);
    }
    take_in(batch, current());
    prepare_ahead(batch.bytes.size());
  }

  // From the frame at `begin` on, one write after the other.
  Task<void> write_from(Segment& segment, const EntryBatch& batch, std::size_t begin) {
    while (begin < batch.bytes.size()) {
      const std::size_t end = end_of_write(batch, begin);
      co_await write_content(segment, segment.end + begin,
                             batch.bytes.view().subspan(begin, end - begin));
      begin = end;
    }
  }

  // The first two writes to a segment, under way at the same time. What they need lives as long as
  // either does: the append does not wait for the second to end when the first has failed.
  struct Beginning {
    Beginning(runtime::Loop& loop, std::shared_ptr<Segment> segment_, Buffer bytes_)
        : segment(std::move(segment_)), bytes(std::move(bytes_)), decided(loop) {}

    const std::shared_ptr<Segment> segment;
    const Buffer bytes;
    std::size_t under_way = 2;
    std::exception_ptr error;
    runtime::Event decided;  // one has failed, or both have ended
  };

  static Task<void> take_part(std::shared_ptr<Beginning> beginning, Task<void> write) {
    try {
      co_await std::move(write);
    } catch (...) {
      beginning->error = std::current_exception();
    }
    --beginning->under_way;
    if (beginning->error || beginning->under_way == 0) beginning->decided.set();
  }

  // The header goes beside the first write: without it the file is none of the journal's. Whichever
  // fails first ends the append, so that a replica whose disk refuses falls silent at once (rule
  // S1) even where the disk keeps the other write.
  Task<void> append_in_next_segment(const EntryBatch& batch) {
    const std::shared_ptr<Segment> next = co_await take_spare(index.last());
    const std::size_t end = end_of_write(batch, 0);
    Change change(*this);
    const auto beginning = std::make_shared<Beginning>(loop, next, batch.bytes);
    background.spawn(take_part(beginning, begin_segment(*next, volume, /*origin=*/false)));
    background.spawn(
        take_part(beginning, write_content(*next, next->end, beginning->bytes.view().first(end))));
    co_await beginning->decided.wait();
    if (beginning->error) std::rethrow_exception(beginning->error);
    co_await write_from(*next, batch, end);
    change.done();
    segments.push_back(next);
  }

  void take_in(const EntryBatch& batch, Segment& segment) {
    for (std::size_t i = 0; i < batch.headers.size(); ++i) {
      index.push(batch.headers[i], segment.sequence, segment.end + batch.frame_offsets[i]);
    }
    segment.end += batch.bytes.size();
    segment.content_end = std::max(segment.content_end, segment.end);
    reserved -= std::min(reserved, reserved_for(batch));
  }

  Task<void> truncate_after(Op last_kept) {
    check_usable();
    const TailHolder tail(tail_held);
    const runtime::Mutex::Holder holder = co_await layout.lock();
    DATOM_CHECK(last_kept >= index.base().op && last_kept <= index.last().op);
    if (damaged) co_await cut_damage();
    if (last_kept == index.last().op) co_return;

    std::uint32_t kept_segment = segments.front()->sequence;
    std::uint64_t keep = content_begin(segments.front()->bytes);
    if (last_kept > index.base().op) {
      kept_segment = index.at(last_kept).segment;
      keep = index.at(last_kept).end();
    }
    const std::vector<std::uint64_t> starts = writes_behind(last_kept, kept_segment);
    Change change(*this);
    index.cut_after(last_kept);
    ++cuts;
    while (segments.back()->sequence != kept_segment) {
      const std::string path = segments.back()->path;
      segments.pop_back();
      co_await remove_segment(files, directory, path);
    }
    co_await cut_segment(current(), keep, starts);
    change.done();
  }

  // Where in that segment the writes began that hold only entries above `op`.
  std::vector<std::uint64_t> writes_behind(Op op, std::uint32_t segment) const {
    std::vector<std::uint64_t> starts;
    for (Op each = op.next(); each <= index.last().op; each = each.next()) {
      const IndexedEntry& entry = index.at(each);
      if (entry.segment != segment) break;
      if (entry.offset % kBlockSize == 0) starts.push_back(entry.offset);
    }
    return starts;
  }

  // --- an uncertain head ---

  // Clears away what recovery did not understand. While the head is uncertain the marker file goes
  // first: with the damage goes the evidence, and a restart must not forget it.
  Task<void> cut_damage() {
    if (!certain && !marker) {
      co_await write_marker();
      marker = true;
    }
    Change change(*this);
    for (auto path = lost.rbegin(); path != lost.rend(); ++path) {
      co_await remove_segment(files, directory, *path);
    }
    co_await cut_segment(current(), damage_begins, {});
    lost.clear();
    damaged = false;
    change.done();
  }

  Task<void> write_marker() {
    const std::string path = path_in(directory, kUncertainMarker);
    const std::unique_ptr<runtime::File> file = co_await files.open(path, {.create = true});
    co_await file->sync();
    co_await files.sync_directory(directory);
  }

  void declare_head_certain() {
    certain = true;
    if (std::exchange(marker, false)) {
      background.spawn(remove_segment(files, directory, path_in(directory, kUncertainMarker)));
    }
  }

  // --- the beginning ---

  std::uint64_t bytes_kept() const {
    std::uint64_t bytes = 0;
    for (const auto& segment : segments) bytes += segment->end;
    return bytes;
  }

  std::uint64_t bytes_spare() const {
    std::uint64_t bytes = 0;
    for (const auto& spare : spares) bytes += spare->bytes;
    return bytes;
  }

  Task<void> trim_through(Op op, std::uint64_t keep_bytes, std::uint64_t spare_bytes) {
    check_usable();
    const runtime::Mutex::Holder holder = co_await layout.lock();
    while (segments.size() > 1 && segments[1]->base.op <= op &&
           bytes_kept() - segments.front()->end >= keep_bytes) {
      index.drop_through(segments[1]->base.op);
      std::shared_ptr<Segment> freed = std::move(segments.front());
      segments.pop_front();
      // One after the other, each durably: a crash leaves no gap.
      Change change(*this);
      co_await give_up(std::move(freed), index.base().op, spare_bytes);
      change.done();
    }
    co_await give_up_spares(spare_bytes);
  }

  // Those above that size, but for what reserve() has promised. They are none of the journal's: one
  // that a crash brings back is a spare again.
  Task<void> give_up_spares(std::uint64_t spare_bytes) {
    while (spares.size() > most_spares(spare_bytes)) {
      std::shared_ptr<Segment> last = std::move(spares.back());
      spares.pop_back();
      if (!has_space(reserved + margin())) {
        spares.push_back(std::move(last));
        co_return;
      }
      co_await files.remove(last->path);
    }
  }

  std::size_t most_spares(std::uint64_t bytes) const {
    return std::clamp<std::uint64_t>(bytes / options.segment_bytes, 1, kMaxSpares);
  }

  // Makes a spare of a segment with entries up to `last`, which has left the journal, or removes
  // it.
  Task<void> give_up(std::shared_ptr<Segment> segment, Op last, std::uint64_t spare_bytes) {
    const bool being_read = segment.use_count() > 1;
    if (!segment->recyclable || being_read || spares.size() >= most_spares(spare_bytes)) {
      co_await remove_segment(files, directory, segment->path);
    } else {
      co_await make_spare(*segment, volume, last);
      spares.push_back(std::move(segment));
    }
  }

  Task<void> reset(EntryId base) {
    check_usable();
    const TailHolder tail(tail_held);
    const runtime::Mutex::Holder holder = co_await layout.lock();
    co_await remove_spares_newer_than(base.op);
    const std::shared_ptr<Segment> origin = co_await take_spare(base);
    Change change(*this);
    co_await begin_segment(*origin, volume, /*origin=*/true);
    std::vector<std::string> old = std::exchange(lost, {});
    for (const auto& segment : segments) old.push_back(segment->path);
    segments.assign(1, origin);
    index = Index(base);
    ++cuts;
    damaged = false;
    for (const std::string& path : old) co_await files.remove(path);
    co_await files.sync_directory(directory);
    change.done();
  }

  // What a spare holds must never look like the successor of an entry.
  Task<void> remove_spares_newer_than(Op op) {
    std::vector<std::string> paths;
    for (const auto& spare : spares) {
      if (spare->highest_stale > op) paths.push_back(spare->path);
    }
    std::erase_if(spares, [op](const auto& spare) { return spare->highest_stale > op; });
    for (const std::string& path : paths) co_await files.remove(path);
  }

  // --- reading ---

  Task<EntryBatch> read(Op first, std::size_t max_bytes) {
    check_usable();
    DATOM_CHECK(first > index.base().op && first <= index.last().op);
    std::vector<ReadPiece> pieces = pieces_from(first, max_bytes);
    const std::uint64_t cuts_before = cuts;
    try {
      EntryBatch batch = co_await read_pieces(std::move(pieces), volume);
      co_return batch;
    } catch (const Error&) {
      if (cuts == cuts_before) throw;
    }
    throw Error(Code::unavailable, "entries from {} on in {} were cut while they were read",
                first.value(), directory);
  }

  std::vector<ReadPiece> pieces_from(Op first, std::size_t max_bytes) const {
    const std::size_t limit = std::min(max_bytes, options.max_batch_bytes);
    std::vector<ReadPiece> pieces;
    std::size_t used = 0;
    auto segment = segments.begin();
    for (Op op = first; op <= index.last().op; op = op.next()) {
      const IndexedEntry& entry = index.at(op);
      used += entry.frame_bytes();
      if (op != first && round_up_to_blocks(used) > limit) break;
      while ((*segment)->sequence != entry.segment) ++segment;
      const bool near = !pieces.empty() && pieces.back().segment == *segment &&
                        round_up_to_blocks(entry.end()) - pieces.back().begin() <= kMaxPieceBytes;
      if (!near) pieces.push_back({*segment, {}});
      pieces.back().entries.push_back(entry);
    }
    return pieces;
  }

  // --- life ---

  // What recovery found, made ready for use.
  Task<void> adopt(Recovered recovered) {
    index = std::move(recovered.index);
    segments = std::move(recovered.segments);
    next_number = recovered.next_number;
    next_sequence = recovered.next_sequence;
    marker = recovered.marker;
    damaged = recovered.damaged;
    damage_begins = recovered.keep;
    lost = std::move(recovered.lost);
    certain = !marker && !damaged;
    if (recovered.torn) co_await cut_segment(current(), recovered.keep, {});
    for (const std::string& path : recovered.obsolete) co_await files.remove(path);
    if (!recovered.obsolete.empty()) co_await files.sync_directory(directory);
  }

  Task<void> close() {
    co_await background.close();
    spares.clear();
    segments.clear();
  }
};

Journal::Journal(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Journal::~Journal() = default;

Task<void> Journal::create(runtime::Filesystem& files, std::string directory, Uuid volume,
                           EntryId base, JournalOptions options) {
  check_options(options);
  co_await files.make_directories(directory);
  const bool there = co_await journal_exists(files, directory);
  if (there) throw Error(Code::already_exists, "there is a journal in {}", directory);
  // What an interrupted creation left.
  const std::vector<std::string> names = co_await files.list(directory);
  for (const std::string& name : names) {
    if (segment_number(name)) co_await files.remove(path_in(directory, name));
  }
  const std::shared_ptr<Segment> segment =
      co_await make_segment(files, directory, 1, options.segment_bytes);
  segment->sequence = 1;
  segment->base = base;
  co_await begin_segment(*segment, volume, /*origin=*/true);
  co_await files.sync_directory(parent_of(directory));
}

Task<std::unique_ptr<Journal>> Journal::open(runtime::Filesystem& files, runtime::Loop& loop,
                                             std::string directory, Uuid volume,
                                             JournalOptions options) {
  check_options(options);
  Recovered recovered = co_await recover(files, directory, volume);
  auto impl = std::make_unique<Impl>(files, loop, std::move(directory), volume, options);
  co_await impl->adopt(std::move(recovered));
  std::unique_ptr<Journal> journal(new Journal(std::move(impl)));
  co_return journal;
}

void Journal::on_failure(std::function<void(std::exception_ptr)> hears) {
  impl_->hears_failure = std::move(hears);
}
bool Journal::head_certain() const {
  return impl_->certain;
}
void Journal::declare_head_certain() {
  impl_->declare_head_certain();
}
EntryId Journal::base() const {
  return impl_->index.base();
}
Op Journal::first_op() const {
  return base().op.next();
}
EntryId Journal::last() const {
  return impl_->index.last();
}
std::optional<EntryId> Journal::id_at(Op op) const {
  return impl_->index.id_at(op);
}
Op Journal::highest_commit_hint() const {
  return impl_->index.highest_commit_hint();
}

std::uint64_t Journal::bytes_kept() const {
  return impl_->bytes_kept();
}
std::uint64_t Journal::bytes_spare() const {
  return impl_->bytes_spare();
}

Task<void> Journal::append(EntryBatch batch) {
  return impl_->append(std::move(batch));
}
Task<void> Journal::reserve(std::uint64_t bytes) {
  return impl_->reserve(bytes);
}
Task<EntryBatch> Journal::read(Op first, std::size_t max_bytes) {
  return impl_->read(first, max_bytes);
}
Task<void> Journal::truncate_after(Op last_kept) {
  return impl_->truncate_after(last_kept);
}
Task<void> Journal::trim_through(Op op, std::uint64_t keep_bytes, std::uint64_t spare_bytes) {
  return impl_->trim_through(op, keep_bytes, spare_bytes);
}
Task<void> Journal::reset(EntryId base) {
  return impl_->reset(base);
}
Task<void> Journal::close() {
  return impl_->close();
}

}  // namespace datom::journal

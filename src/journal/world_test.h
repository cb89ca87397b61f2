// For the tests of this room: a disk, a journal on it, processes that end in a power cut, and a
// model of what must be found afterwards.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "journal/journal.h"
#include "runtime/memory_files.h"
#include "runtime/virtual_loop.h"

namespace datom::journal::testing {

inline const Uuid kVolume = Uuid::from_random(7, 8);
inline const std::string kDirectory = "/replica/journal";
// Small, so that segments end often.
inline constexpr JournalOptions kSmall{.segment_bytes = 64 << 10, .max_batch_bytes = 28 << 10};

// An entry to be made: whole blocks are a write, nothing is a trim, anything else an attach.
struct Spec {
  std::size_t payload = kBlockSize;
  int fill = 0x5a;
};

protocol::EntryBatch make_batch(const protocol::EntryId& last, const std::vector<Spec>& specs,
                                Term term = Term(1), const Uuid& volume = kVolume);

// What was done to a journal.
struct Model {
  protocol::EntryId base;
  std::vector<protocol::EntryId> ids;  // of the entries behind it
  Op trimmed;                          // what may be missing at the beginning

  protocol::EntryId last() const { return ids.empty() ? base : ids.back(); }
  protocol::EntryId at(Op op) const;  // REQUIRES: base.op <= op <= last().op
  void append(const protocol::EntryBatch& batch);
  void cut_after(Op op);
};

// Expects that the journal holds a part of `model` that ends between these ops.
void expect_part_of(const Model& model, const Journal& journal, Op lowest_last, Op highest_last);

// One disk and the processes that use it, one after another. Every call runs the loop until it is
// done, throws what it threw, and brings the model up to date.
class World {
 public:
  explicit World(std::uint64_t seed = 1, JournalOptions options = kSmall);
  ~World();

  runtime::MemoryDisk& disk() { return disk_; }
  runtime::SeededRandom& random() { return random_; }
  runtime::VirtualLoop& loop() { return loop_; }
  runtime::Filesystem& files() { return *files_; }
  Journal& journal() { return *journal_; }
  const Model& model() const { return model_; }

  // Runs the loop until `task` ends.
  void run(runtime::Task<void> task);

  void create(protocol::EntryId base = {});
  void open();
  // Also after a power cut.
  void close();
  void reopen();

  void append(const std::vector<Spec>& specs, Term term = Term(1));
  void append_batch(protocol::EntryBatch batch);
  void reserve(std::uint64_t bytes);
  void truncate_after(std::uint64_t op);
  void trim_through(std::uint64_t op);
  void reset(protocol::EntryId base);
  protocol::EntryBatch read(std::uint64_t first, std::size_t max_bytes);

  // Expects the model in the journal, all of it, and that all can be read.
  void check();
  std::vector<std::string> segments();
  // The file that was written to last.
  std::string newest_segment();
  Buffer contents(const std::string& name);
  void overwrite(const std::string& name, std::uint64_t offset, ByteView bytes);
  // Flips a bit in the segment file, counted from the first.
  void flip_bit(std::size_t segment, std::uint64_t byte);
  // Writes zeros over a sector of it.
  void clear_sector(std::size_t segment, std::uint64_t byte);

  // Runs `step`, one of the calls above; after `turns` turns of the loop the power fails. Then a
  // new process opens the journal, and the model becomes what it found, which must lie between the
  // state before and the state after. False if the step ended in time.
  bool cut_power_during(const std::function<void(World&)>& step, std::size_t turns);
  // Only the power cut; then begin_process() and open() are the caller's.
  bool power_fails_during(const std::function<void()>& step, std::size_t turns);
  void begin_process();

 private:
  void find_between(const Model& before, const Model& after);

  runtime::VirtualLoop loop_;
  runtime::MemoryDisk disk_;
  runtime::SeededRandom random_;
  JournalOptions options_;
  std::unique_ptr<runtime::Filesystem> files_;
  std::unique_ptr<Journal> journal_;
  Model model_;
  std::optional<std::size_t> turns_left_;  // before the power fails
  Model intended_;                         // as it will be when the call under way has ended
};

}  // namespace datom::journal::testing

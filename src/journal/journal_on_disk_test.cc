// The journal on real files, through whatever this machine allows: io_uring or threads.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "journal/journal.h"
#include "journal/world_test.h"
#include "runtime/event_loop.h"
#include "runtime/thread_files.h"

namespace datom::journal::testing {
namespace {

using protocol::EntryBatch;
using protocol::EntryId;
using runtime::Task;

class JournalOnDisk : public ::testing::Test {
 protected:
  JournalOnDisk() {
    std::string name = (std::filesystem::temp_directory_path() / "datom-journal-XXXXXX").string();
    root_ = ::mkdtemp(name.data());
  }
  ~JournalOnDisk() override { std::filesystem::remove_all(root_); }

  // A process of its own for each life.
  void live(Task<void> (*life)(runtime::Filesystem*, runtime::Loop*, std::string)) {
    runtime::EventLoop loop;
    std::string chosen;
    const std::unique_ptr<runtime::Filesystem> files = runtime::make_filesystem(loop, &chosen);
    loop.run(life(files.get(), &loop, root_ + "/replica/journal"));
  }

  std::string root_;
};

Task<void> append_entries(Journal* journal, std::size_t batches, std::size_t entries, Term term) {
  for (std::size_t i = 0; i < batches; ++i) {
    EntryBatch batch = make_batch(journal->last(), std::vector<Spec>(entries), term);
    co_await journal->append(std::move(batch));
  }
}

Task<void> expect_readable(Journal* journal) {
  Op next = journal->first_op();
  while (next <= journal->last().op) {
    const EntryBatch batch = co_await journal->read(next, 1 << 20);
    for (std::size_t i = 0; i < batch.headers.size(); ++i) {
      EXPECT_EQ(batch.headers[i].id(), journal->id_at(next));
      next = next.next();
    }
  }
}

Task<void> first_life(runtime::Filesystem* files, runtime::Loop* loop, std::string directory) {
  co_await Journal::create(*files, directory, kVolume, EntryId{}, kSmall);
  const std::unique_ptr<Journal> journal =
      co_await Journal::open(*files, *loop, directory, kVolume, kSmall);
  co_await append_entries(journal.get(), 60, 3, Term(1));
  co_await journal->reserve(100000);
  co_await expect_readable(journal.get());
  EXPECT_EQ(journal->last().op, Op(180));
  co_await journal->close();
}

Task<void> second_life(runtime::Filesystem* files, runtime::Loop* loop, std::string directory) {
  const std::unique_ptr<Journal> journal =
      co_await Journal::open(*files, *loop, directory, kVolume, kSmall);
  EXPECT_TRUE(journal->head_certain());
  EXPECT_EQ(journal->last().op, Op(180));
  co_await expect_readable(journal.get());
  co_await journal->truncate_after(Op(100));
  co_await append_entries(journal.get(), 10, 5, Term(2));
  co_await journal->trim_through(Op(60));
  co_await expect_readable(journal.get());
  co_await journal->close();
}

Task<void> third_life(runtime::Filesystem* files, runtime::Loop* loop, std::string directory) {
  const std::unique_ptr<Journal> journal =
      co_await Journal::open(*files, *loop, directory, kVolume, kSmall);
  EXPECT_TRUE(journal->head_certain());
  EXPECT_EQ(journal->last().op, Op(150));
  EXPECT_GT(journal->first_op(), Op(30));
  EXPECT_EQ(journal->id_at(Op(100))->term, Term(1));
  EXPECT_EQ(journal->id_at(Op(101))->term, Term(2));
  co_await expect_readable(journal.get());
  co_await journal->reset(EntryId{Term(5), Op(1000), 1});
  co_await append_entries(journal.get(), 1, 1, Term(5));
  co_await journal->close();
}

Task<void> fourth_life(runtime::Filesystem* files, runtime::Loop* loop, std::string directory) {
  const std::unique_ptr<Journal> journal =
      co_await Journal::open(*files, *loop, directory, kVolume, kSmall);
  EXPECT_EQ(journal->first_op(), Op(1001));
  EXPECT_EQ(journal->last().op, Op(1001));
  co_await expect_readable(journal.get());
  co_await journal->close();
}

TEST_F(JournalOnDisk, HoldsItsEntriesOverManyLives) {
  live(first_life);
  live(second_life);
  live(third_life);
  live(fourth_life);
}

}  // namespace
}  // namespace datom::journal::testing

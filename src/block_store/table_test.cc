#include "block_store/table.h"

#include <gmock/gmock.h>

#include "block_store/store_fixture.h"

namespace datom::block_store {
namespace {

BlockVersion version(BlockNumber block, std::uint64_t op, BlockKind kind, std::uint64_t checksum) {
  BlockVersion made;
  made.block = block;
  made.op = Op(op);
  made.kind = kind;
  made.checksum = checksum;
  return made;
}

RawEntry with_flipped_bit(RawEntry entry, int bit) {
  if (bit < 64) {
    entry.op_and_kind ^= std::uint64_t{1} << bit;
  } else {
    entry.sealed_checksum ^= std::uint64_t{1} << (bit - 64);
  }
  return entry;
}

TEST(TableEntry, ComesBackAsItWasEncoded) {
  for (BlockKind kind : {BlockKind::hole, BlockKind::zero, BlockKind::data}) {
    const std::uint64_t checksum = kind == BlockKind::data ? 77 : 0;
    const RawEntry entry = encode_entry(version(3, kMaxOp, kind, checksum));
    const std::optional<BlockVersion> decoded = decode_entry(3, entry);
    ASSERT_TRUE(decoded);
    EXPECT_EQ(decoded->op, Op(kMaxOp));
    EXPECT_EQ(decoded->kind, kind);
    EXPECT_EQ(decoded->checksum, checksum);
  }
}

TEST(TableEntry, OfAllZerosIsABlockNeverWritten) {
  const std::optional<BlockVersion> decoded = decode_entry(9, RawEntry{});
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->op, Op(0));
  EXPECT_EQ(decoded->kind, BlockKind::hole);
}

// It is damaged, or has become a data block with a checksum that its content cannot have.
TEST(TableEntry, WithOneFlippedBitIsNeverTakenForZeros) {
  for (BlockKind kind : {BlockKind::hole, BlockKind::zero, BlockKind::data}) {
    const RawEntry entry = encode_entry(version(5, 12, kind, kind == BlockKind::data ? 99 : 0));
    for (int bit = 0; bit < 128; ++bit) {
      const std::optional<BlockVersion> decoded = decode_entry(5, with_flipped_bit(entry, bit));
      if (!decoded) continue;
      EXPECT_EQ(decoded->kind, BlockKind::data) << bit;
      EXPECT_NE(decoded->checksum, 99u) << bit;
    }
  }
}

TEST(TableEntry, OfAnotherBlockDoesNotPass) {
  EXPECT_FALSE(decode_entry(6, encode_entry(version(5, 12, BlockKind::hole, 0))));
}

constexpr std::uint64_t kPages = 600;
constexpr std::uint64_t kBlocks = kPages * kEntriesPerPage - 10;

class TableOfManyPages : public ::testing::Test {
 protected:
  TableOfManyPages() : files_(runtime::make_memory_filesystem(loop_, disk_)) { open(); }

  void open() {
    const runtime::OpenOptions options{.create = true};
    std::unique_ptr<runtime::File> file = run(loop_, files_->open("/table", options));
    run(loop_, file->resize(table_file_bytes(kBlocks)));
    table_ = std::make_unique<Table>(loop_, std::move(file), kBlocks, 16 * kBlockSize);
  }

  void set(BlockNumber block, std::uint64_t op) {
    Table::Pin page = run(loop_, table_->pin(Table::page_of(block)));
    page.set(version(block, op, BlockKind::data, op * 3));
  }
  std::uint64_t op_of(BlockNumber block) {
    const Table::Pin page = run(loop_, table_->pin(Table::page_of(block)));
    return require_entry(block, page.get(block)).op.value();
  }
  void write() { run(loop_, table_->write(table_->freeze())); }
  // Blocks with their ops, of those ever written.
  std::vector<std::pair<BlockNumber, std::uint64_t>> scanned(BlockNumber first, BlockNumber end) {
    std::vector<std::pair<BlockNumber, std::uint64_t>> found;
    const auto collect = [&found](BlockNumber from, std::span<const RawEntry> entries) {
      for (std::size_t i = 0; i < entries.size(); ++i) {
        const BlockVersion entry = require_entry(from + i, entries[i]);
        if (entry.op > Op(0)) found.emplace_back(entry.block, entry.op.value());
      }
      return true;
    };
    run(loop_, table_->scan(first, end, collect));
    return found;
  }

  runtime::VirtualLoop loop_;
  runtime::MemoryDisk disk_;
  std::unique_ptr<runtime::Filesystem> files_;
  std::unique_ptr<Table> table_;
};

TEST_F(TableOfManyPages, KeepsChangedPagesBeyondTheCacheUntilTheyAreWritten) {
  for (std::uint64_t page = 0; page < kPages; page += 2) set(page * kEntriesPerPage + 3, page + 1);
  EXPECT_EQ(table_->dirty_bytes(), kPages / 2 * kBlockSize);
  for (std::uint64_t page = 0; page < kPages; page += 2) {
    EXPECT_EQ(op_of(page * kEntriesPerPage + 3), page + 1);
  }
  open();
  EXPECT_EQ(op_of(3), 0u) << "a page reached the file by itself";
}

TEST_F(TableOfManyPages, WrittenPagesAreReadAgainAfterEviction) {
  for (std::uint64_t page = 0; page < kPages; ++page) set(page * kEntriesPerPage, page + 1);
  write();
  EXPECT_EQ(table_->dirty_bytes(), 0u);
  EXPECT_EQ(table_->bytes_in_memory(), 16 * kBlockSize);
  for (std::uint64_t page = 0; page < kPages; ++page) {
    EXPECT_EQ(op_of(page * kEntriesPerPage), page + 1);
  }
  open();
  for (std::uint64_t page = 0; page < kPages; ++page) {
    EXPECT_EQ(op_of(page * kEntriesPerPage), page + 1);
  }
}

TEST_F(TableOfManyPages, ASnapshotDoesNotSeeLaterChanges) {
  set(1, 10);
  set(300, 11);
  Table::Snapshot snapshot = table_->freeze();
  set(1, 20);
  run(loop_, table_->write(std::move(snapshot)));
  EXPECT_EQ(op_of(1), 20u);
  EXPECT_EQ(table_->dirty_bytes(), kBlockSize) << "the later change is still to be written";
  open();
  EXPECT_EQ(op_of(1), 10u);
  EXPECT_EQ(op_of(300), 11u);
}

TEST_F(TableOfManyPages, AScanSeesWrittenAndUnwrittenPagesAndLeavesOutHoles) {
  set(0, 1);
  set(400 * kEntriesPerPage + 7, 2);
  set(kBlocks - 1, 3);
  write();
  set(400 * kEntriesPerPage + 8, 4);
  set(401 * kEntriesPerPage, 5);
  const std::vector<std::pair<BlockNumber, std::uint64_t>> expected = {
      {0, 1},
      {400 * kEntriesPerPage + 7, 2},
      {400 * kEntriesPerPage + 8, 4},
      {401 * kEntriesPerPage, 5},
      {kBlocks - 1, 3}};
  EXPECT_EQ(scanned(0, kBlocks), expected);
  EXPECT_TRUE(scanned(1, 400 * kEntriesPerPage + 7).empty());
  EXPECT_EQ(scanned(kBlocks - 1, kBlocks).size(), 1u);
}

// Gives what it has read only after a while.
class SlowReads final : public runtime::File {
 public:
  SlowReads(runtime::Loop& loop, std::unique_ptr<runtime::File> file)
      : loop_(loop), file_(std::move(file)) {}

  runtime::Task<std::size_t> read(std::uint64_t offset, MutableBytes into) override {
    const std::size_t found = co_await file_->read(offset, into);
    if (into.size() > kBlockSize) {
      for (int turn = 0; turn < 2000; ++turn) co_await runtime::switch_to(loop_);
    }
    co_return found;
  }
  runtime::Task<void> write(std::uint64_t offset, ByteView from) override {
    return file_->write(offset, from);
  }
  runtime::Task<void> sync() override { return file_->sync(); }
  runtime::Task<std::uint64_t> size() override { return file_->size(); }
  runtime::Task<void> resize(std::uint64_t size) override { return file_->resize(size); }
  runtime::Task<void> allocate(std::uint64_t offset, std::uint64_t length) override {
    return file_->allocate(offset, length);
  }
  runtime::Task<void> punch_hole(std::uint64_t offset, std::uint64_t length) override {
    return file_->punch_hole(offset, length);
  }

 private:
  runtime::Loop& loop_;
  std::unique_ptr<runtime::File> file_;
};

runtime::Task<void> rewrite_and_evict(Table* table, std::uint64_t page) {
  {
    Table::Pin pinned = co_await table->pin(page);
    pinned.set(version(page * kEntriesPerPage, 2, BlockKind::data, 6));
  }
  co_await table->write(table->freeze());
  for (std::uint64_t other = 400; other < 500; ++other) {
    const Table::Pin pinned = co_await table->pin(other);
  }
}

runtime::Task<void> scan_for(Table* table, BlockNumber block, std::uint64_t* op) {
  const auto look = [=](BlockNumber first, std::span<const RawEntry> entries) {
    if (first <= block && block < first + entries.size()) {
      *op = require_entry(block, entries[block - first]).op.value();
    }
    return true;
  };
  co_await table->scan(0, kBlocks, look);
}

// Else it would show what it had read before: old, or half of what was written since.
TEST_F(TableOfManyPages, AScanShowsThePageThatWasChangedAndWrittenWhileItRead) {
  set(100 * kEntriesPerPage, 1);
  write();
  std::unique_ptr<runtime::File> file = run(loop_, files_->open("/table", {}));
  table_ = std::make_unique<Table>(loop_, std::make_unique<SlowReads>(loop_, std::move(file)),
                                   kBlocks, 16 * kBlockSize);
  std::uint64_t seen = 0;
  runtime::TaskGroup tasks(loop_, [](std::exception_ptr error) { std::rethrow_exception(error); });
  tasks.spawn(scan_for(table_.get(), 100 * kEntriesPerPage, &seen));
  tasks.spawn(rewrite_and_evict(table_.get(), 100));
  run(loop_, tasks.close());
  EXPECT_EQ(seen, 2u);
}

TEST_F(TableOfManyPages, ManyWhoWaitForOnePageGetIt) {
  set(5 * kEntriesPerPage, 9);
  write();
  open();
  std::vector<std::uint64_t> seen(10);
  runtime::TaskGroup tasks(loop_, [](std::exception_ptr error) { std::rethrow_exception(error); });
  for (std::uint64_t& op : seen) tasks.spawn(scan_for(table_.get(), 5 * kEntriesPerPage, &op));
  run(loop_, tasks.close());
  EXPECT_THAT(seen, ::testing::Each(9u));
}

}  // namespace
}  // namespace datom::block_store

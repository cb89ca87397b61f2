// The block store on the file system of this machine.
#include <gmock/gmock.h>
#include <stdlib.h>

#include <string>

#include "block_store/store_fixture.h"
#include "common/error.h"
#include "runtime/event_loop.h"
#include "runtime/thread_files.h"

namespace datom::block_store {
namespace {

constexpr std::uint64_t kBlocks = 3000;

class RealFiles : public ::testing::Test {
 protected:
  RealFiles() : files_(runtime::make_filesystem(loop_, &chosen_)) {
    std::string name = ::testing::TempDir() + "block_store_XXXXXX";
    DATOM_CHECK(mkdtemp(name.data()) != nullptr);
    directory_ = name;
  }
  ~RealFiles() override {
    if (store_ != nullptr) close();
    loop_.run(files_->remove_tree(directory_));
  }

  void open() {
    std::optional<std::unique_ptr<BlockStore>> opened;
    loop_.run(keep(BlockStore::open(*files_, loop_, directory_, {}), &opened));
    store_ = std::move(*opened);
  }
  void close() {
    loop_.run(store_->close());
    store_.reset();
  }
  void apply(std::vector<protocol::Entry> entries) { loop_.run(store_->apply(std::move(entries))); }
  Buffer read(BlockNumber first, std::uint64_t count) {
    std::optional<Buffer> content;
    loop_.run(keep(store_->read(first * kBlockSize, count * kBlockSize), &content));
    return *content;
  }

  runtime::EventLoop loop_;
  std::string chosen_;
  std::unique_ptr<runtime::Filesystem> files_;
  std::string directory_;
  std::unique_ptr<BlockStore> store_;
};

TEST_F(RealFiles, KeepWhatWasCheckpointedAndTakeTheRestAgain) {
  loop_.run(BlockStore::format(*files_, directory_, kBlocks * kBlockSize, ReplicaState{}));
  open();
  std::vector<protocol::Entry> first;
  for (std::uint64_t op = 1; op <= 200; ++op) {
    first.push_back(write_entry(op, op * 37 % (kBlocks - 4), 1 + op % 4));
  }
  first.push_back(zero_entry(201, 100, 300));
  first.push_back(trim_entry(202, 1000, 500));
  apply(first);
  ReplicaState state;
  state.promised = Term(4);
  loop_.run(store_->checkpoint(state));
  const std::vector<protocol::Entry> second = {write_entry(203, 150, 200), trim_entry(204, 160, 3),
                                               zero_entry(205, 2990, 10)};
  apply(second);
  const Buffer before = read(0, kBlocks);
  const std::uint64_t fingerprint = store_->fingerprint();
  const std::uint64_t used = store_->bytes_used();
  close();
  open();
  EXPECT_EQ(store_->checkpoint_op(), Op(202));
  EXPECT_EQ(store_->state().promised, Term(4));
  apply(second);
  EXPECT_EQ(as_text(read(0, kBlocks).view()), as_text(before.view()));
  EXPECT_EQ(store_->fingerprint(), fingerprint);
  EXPECT_EQ(store_->bytes_used(), used);
  EXPECT_EQ(as_text(before.slice(200 * kBlockSize, kBlockSize).view()),
            as_text(content_of(203, 200).view()));
  EXPECT_TRUE(all_zero(before.slice(160 * kBlockSize, 3 * kBlockSize).view()));
  EXPECT_TRUE(all_zero(before.slice(1000 * kBlockSize, 500 * kBlockSize).view()));
}

// From where they are in a batch, if the disk takes them from there, or not.
TEST_F(RealFiles, TakePayloadsFromWhereverTheyAreInMemory) {
  loop_.run(BlockStore::format(*files_, directory_, kBlocks * kBlockSize, ReplicaState{}));
  open();
  constexpr std::uint64_t kCount = 256;
  std::uint64_t op = 0;
  for (const std::size_t at : {0, 8, 512, 2560, 4096}) {
    ++op;
    protocol::Entry entry = write_entry(op, op * kCount, kCount);
    Buffer memory = Buffer::allocate(at + entry.payload.size());
    std::memcpy(memory.mutable_data() + at, entry.payload.data(), entry.payload.size());
    const Buffer content = std::exchange(entry.payload, memory.slice(at, entry.payload.size()));
    apply({entry});
    EXPECT_EQ(as_text(read(op * kCount, kCount).view()), as_text(content.view())) << at;
  }
}

}  // namespace
}  // namespace datom::block_store

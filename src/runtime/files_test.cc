// The contract of file.h, held against every implementation.
#include <gmock/gmock.h>
#include <sys/statfs.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/error.h"
#include "runtime/event_loop.h"
#include "runtime/file.h"
#include "runtime/memory_files.h"
#include "runtime/task_group.h"
#include "runtime/thread_files.h"
#include "runtime/uring_files.h"

namespace datom::runtime {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Make {
  std::string name;
  bool in_memory;
  std::function<std::unique_ptr<Filesystem>(EventLoop&, MemoryDisk&)> make;
};

std::unique_ptr<Filesystem> make_uring(EventLoop& loop, MemoryDisk&) {
  std::string why;
  return make_uring_filesystem(loop, &why);
}
std::unique_ptr<Filesystem> make_threads(EventLoop& loop, MemoryDisk&) {
  return make_thread_filesystem(loop, 3);
}
std::unique_ptr<Filesystem> make_memory(EventLoop& loop, MemoryDisk& disk) {
  return make_memory_filesystem(loop, disk);
}

class Files : public ::testing::TestWithParam<Make> {
 protected:
  void SetUp() override {
    files_ = GetParam().make(loop_, disk_);
    if (files_ == nullptr) GTEST_SKIP() << "the kernel refuses io_uring here";
    if (GetParam().in_memory) {
      root_ = "/disk";
      loop_.run(files_->make_directories(root_));
    } else {
      std::string name = (std::filesystem::temp_directory_path() / "datom-files-XXXXXX").string();
      root_ = ::mkdtemp(name.data());
    }
  }
  void TearDown() override {
    if (!GetParam().in_memory && !root_.empty()) std::filesystem::remove_all(root_);
  }

  std::string path(const std::string& name) const { return root_ + "/" + name; }

  EventLoop loop_;
  MemoryDisk disk_;
  std::unique_ptr<Filesystem> files_;
  std::string root_;
};

INSTANTIATE_TEST_SUITE_P(Every, Files,
                         ::testing::Values(Make{"uring", false, make_uring},
                                           Make{"threads", false, make_threads},
                                           Make{"memory", true, make_memory}),
                         [](const auto& parameter) { return parameter.param.name; });

constexpr OpenOptions kCreate{.create = true};
constexpr OpenOptions kReadOnly{.read_only = true};

Task<std::string> read_text(File& file, std::uint64_t offset, std::size_t size) {
  std::string text(size, '?');
  const std::size_t count =
      co_await file.read(offset, {reinterpret_cast<std::byte*>(text.data()), size});
  text.resize(count);
  co_return text;
}

Task<void> write_text(File& file, std::uint64_t offset, std::string text) {
  co_await file.write(offset, as_bytes(text));
}

Task<void> expect_error(Task<void> task, Code code, std::string text) {
  try {
    co_await std::move(task);
    ADD_FAILURE() << "no error; expected " << name(code);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(text));
  }
}

template <typename T>
Task<void> drop(Task<T> task) {
  co_await std::move(task);
}

Task<void> read_what_was_written(Filesystem& files, std::string path) {
  const auto file = co_await files.open(path, kCreate);
  co_await write_text(*file, 0, "hello world");
  co_await write_text(*file, 6, "there, you");
  const std::string all = co_await read_text(*file, 0, 100);
  EXPECT_EQ(all, "hello there, you");
  const std::string part = co_await read_text(*file, 6, 5);
  EXPECT_EQ(part, "there");
  const std::string beyond = co_await read_text(*file, 16, 5);
  EXPECT_EQ(beyond, "");
  const std::uint64_t size = co_await file->size();
  EXPECT_EQ(size, 16u);
  co_await file->sync();
}

TEST_P(Files, ReadGivesWhatWasWritten) {
  loop_.run(read_what_was_written(*files_, path("f")));
}

Task<void> read_a_hole(Filesystem& files, std::string path) {
  const auto file = co_await files.open(path, kCreate);
  co_await write_text(*file, 10'000, "end");
  const std::string hole = co_await read_text(*file, 1, 9'999);
  EXPECT_EQ(hole, std::string(9'999, '\0'));
  const std::string end = co_await read_text(*file, 9'999, 10);
  EXPECT_EQ(end, std::string("\0end", 4));
}

TEST_P(Files, HolesReadAsZeros) {
  loop_.run(read_a_hole(*files_, path("f")));
}

Task<void> large_transfer(Filesystem& files, std::string path) {
  const auto file = co_await files.open(path, kCreate);
  std::string text(5'000'000, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 / 3);
  co_await write_text(*file, 123, text);
  const std::string back = co_await read_text(*file, 123, text.size() + 10);
  EXPECT_TRUE(back == text);
}

TEST_P(Files, MovesMegabytesAtOnce) {
  loop_.run(large_transfer(*files_, path("f")));
}

Task<void> write_block(File& file, std::uint64_t number, char fill) {
  Buffer block = Buffer::allocate(kBlockSize);
  std::memset(block.mutable_data(), fill, kBlockSize);
  co_await file.write(number * kBlockSize, block.view());
}

Task<void> check_block(File& file, std::uint64_t number, char fill) {
  Buffer block = Buffer::zeroed(kBlockSize);
  const std::size_t count = co_await file.read(number * kBlockSize, block.mutable_view());
  EXPECT_EQ(count, kBlockSize);
  EXPECT_EQ(as_text(block.view()), std::string(kBlockSize, fill)) << "block " << number;
}

// More than any queue of an implementation takes at once.
Task<void> many_at_once(Filesystem& files, EventLoop& loop, std::string path, OpenOptions options) {
  constexpr std::uint64_t kBlocks = 1500;
  const auto file = co_await files.open(path, options);
  TaskGroup writers(loop, [](std::exception_ptr error) { std::rethrow_exception(error); });
  for (std::uint64_t i = 0; i < kBlocks; ++i) {
    writers.spawn(write_block(*file, i, static_cast<char>(i)));
  }
  co_await writers.close();
  TaskGroup readers(loop, [](std::exception_ptr error) { std::rethrow_exception(error); });
  for (std::uint64_t i = 0; i < kBlocks; ++i) {
    readers.spawn(check_block(*file, i, static_cast<char>(i)));
  }
  co_await readers.close();
}

TEST_P(Files, ManyOperationsMayBeUnderWayAtOnce) {
  loop_.run(many_at_once(*files_, loop_, path("f"), kCreate));
}

TEST_P(Files, DirectSynchronousFilesCarryWholeBlocks) {
  const OpenOptions options{.create = true, .direct = true, .synchronous = true};
  loop_.run(many_at_once(*files_, loop_, path("f"), options));
}

Task<void> direct_end(Filesystem& files, std::string path) {
  const auto plain = co_await files.open(path, kCreate);
  co_await write_text(*plain, 0, std::string(5000, 'x'));
  const auto file = co_await files.open(path, {.direct = true});
  Buffer buffer = Buffer::zeroed(4 * kBlockSize);
  const std::size_t count = co_await file->read(0, buffer.mutable_view());
  EXPECT_EQ(count, 5000u);
  EXPECT_EQ(as_text(buffer.view().first(5000)), std::string(5000, 'x'));
}

TEST_P(Files, ADirectReadEndsAtTheEndOfAFileThatIsNotWholeBlocks) {
  loop_.run(direct_end(*files_, path("f")));
}

constexpr long kTmpfsMagic = 0x01021994;

TEST_P(Files, DirectFallsBackWhereTheFilesystemRefusesIt) {
  struct statfs status{};
  if (::statfs("/dev/shm", &status) != 0 || status.f_type != kTmpfsMagic) {
    GTEST_SKIP() << "there is no tmpfs here";
  }
  if (!GetParam().in_memory) {
    std::filesystem::remove_all(root_);
    std::string name = "/dev/shm/datom-files-XXXXXX";
    root_ = ::mkdtemp(name.data());
  }
  const OpenOptions options{.create = true, .exclusive = true, .direct = true, .synchronous = true};
  loop_.run(many_at_once(*files_, loop_, path("f"), options));
}

Task<void> change_size(Filesystem& files, std::string path) {
  const auto file = co_await files.open(path, kCreate);
  co_await write_text(*file, 0, "0123456789");
  co_await file->resize(4);
  std::uint64_t size = co_await file->size();
  EXPECT_EQ(size, 4u);
  co_await file->resize(8);
  const std::string text = co_await read_text(*file, 0, 100);
  EXPECT_EQ(text, std::string("0123\0\0\0\0", 8));
  co_await file->allocate(4096, 8192);
  size = co_await file->size();
  EXPECT_EQ(size, 12'288u);
  const std::string zeros = co_await read_text(*file, 8, 20'000);
  EXPECT_EQ(zeros, std::string(12'280, '\0'));
  co_await file->allocate(0, 4096);
  const std::string kept = co_await read_text(*file, 0, 4);
  EXPECT_EQ(kept, "0123");
  co_await file->allocate(0, 0);
}

TEST_P(Files, ResizeAndAllocateKeepWhatIsThereAndAddZeros) {
  loop_.run(change_size(*files_, path("f")));
}

Task<void> punch(Filesystem& files, std::string path) {
  const auto file = co_await files.open(path, kCreate);
  co_await write_text(*file, 0, std::string(20'000, 'x'));
  co_await file->punch_hole(5'000, 10'000);
  const std::string text = co_await read_text(*file, 0, 30'000);
  EXPECT_EQ(text, std::string(5'000, 'x') + std::string(10'000, '\0') + std::string(5'000, 'x'));
  co_await file->punch_hole(19'000, 100'000);
  const std::uint64_t size = co_await file->size();
  EXPECT_EQ(size, 20'000u);
  const std::string end = co_await read_text(*file, 19'000, 10'000);
  EXPECT_EQ(end, std::string(1'000, '\0'));
  co_await file->punch_hole(0, 0);
}

TEST_P(Files, APunchedHoleReadsAsZerosAndTheSizeStays) {
  loop_.run(punch(*files_, path("f")));
}

Task<void> refuse_to_open(Filesystem& files, std::string root) {
  const std::string missing = root + "/missing";
  co_await expect_error(drop(files.open(missing, {})), Code::not_found, missing);
  co_await expect_error(drop(files.open(root + "/no/file", kCreate)), Code::not_found, "no/file");
  co_await expect_error(drop(files.open(root, {})), Code::io_error, root);
  const OpenOptions exclusive{.create = true, .exclusive = true};
  {
    const auto file = co_await files.open(root + "/f", exclusive);
  }
  co_await expect_error(drop(files.open(root + "/f", exclusive)), Code::already_exists, "/f");
  const auto again = co_await files.open(root + "/f", kCreate);
  const auto reader = co_await files.open(root + "/f", kReadOnly);
  co_await expect_error(write_text(*reader, 0, "x"), Code::io_error, "/f");
}

TEST_P(Files, OpenSaysWhatIsWrong) {
  loop_.run(refuse_to_open(*files_, root_));
}

Task<void> make_file(Filesystem& files, std::string path, std::string content) {
  const auto file = co_await files.open(path, kCreate);
  co_await write_text(*file, 0, content);
}

Task<void> names(Filesystem& files, std::string root) {
  co_await files.make_directories(root + "/a/b/c");
  co_await files.make_directories(root + "/a/b/c");
  co_await make_file(files, root + "/a/two", "2");
  co_await make_file(files, root + "/a/one", "1");
  co_await make_file(files, root + "/a/b/deep", "3");
  std::vector<std::string> found = co_await files.list(root + "/a");
  EXPECT_THAT(found, ElementsAre("b", "one", "two"));
  co_await files.rename(root + "/a/one", root + "/a/two");
  found = co_await files.list(root + "/a/");
  EXPECT_THAT(found, ElementsAre("b", "two"));
  const std::string content = co_await read_file(files, root + "/a/two", 10);
  EXPECT_EQ(content, "1");
  co_await files.rename(root + "/a", root + "/moved");
  bool there = co_await files.exists(root + "/moved/b/deep");
  EXPECT_TRUE(there);
  there = co_await files.exists(root + "/a/b/deep");
  EXPECT_FALSE(there);
  there = co_await files.exists(root + "/moved/two/under_a_file");
  EXPECT_FALSE(there);
  co_await files.sync_directory(root + "/moved");
  co_await files.remove(root + "/moved/two");
  co_await files.remove_tree(root + "/moved");
  co_await files.remove_tree(root + "/moved");
  found = co_await files.list(root);
  EXPECT_THAT(found, IsEmpty());
}

TEST_P(Files, NamesAreListedMovedAndRemoved) {
  loop_.run(names(*files_, root_));
}

Task<void> refuse_names(Filesystem& files, std::string root) {
  co_await make_file(files, root + "/file", "x");
  co_await make_file(files, root + "/other", "x");
  co_await files.make_directories(root + "/full/inner");
  co_await expect_error(drop(files.list(root + "/missing")), Code::not_found, "missing");
  co_await expect_error(drop(files.list(root + "/file")), Code::io_error, "file");
  co_await expect_error(files.remove(root + "/missing"), Code::not_found, "missing");
  co_await expect_error(files.remove(root + "/full"), Code::io_error, "full");
  co_await expect_error(files.rename(root + "/missing", root + "/x"), Code::not_found, "missing");
  co_await expect_error(files.rename(root + "/file", root + "/full"), Code::io_error, "full");
  co_await expect_error(files.make_directories(root + "/file/x"), Code::io_error, "file");
  co_await expect_error(files.sync_directory(root + "/missing"), Code::not_found, "missing");
  co_await files.rename(root + "/file", root + "/file");
  const bool there = co_await files.exists(root + "/file");
  EXPECT_TRUE(there);
}

TEST_P(Files, OperationsOnNamesSayWhatIsWrong) {
  loop_.run(refuse_names(*files_, root_));
}

Task<void> use_after_removal(Filesystem& files, std::string path) {
  const auto file = co_await files.open(path, kCreate);
  co_await write_text(*file, 0, "still here");
  co_await files.remove(path);
  const std::string text = co_await read_text(*file, 0, 100);
  EXPECT_EQ(text, "still here");
  const auto other = co_await files.open(path, kCreate);
  const std::uint64_t size = co_await other->size();
  EXPECT_EQ(size, 0u);
}

TEST_P(Files, AnOpenFileOutlivesItsName) {
  loop_.run(use_after_removal(*files_, path("f")));
}

Task<void> space_of(Filesystem& files, std::string root, SpaceInfo& space) {
  space = co_await files.space(root);
}

TEST_P(Files, TellsTheSpaceOfTheFilesystem) {
  SpaceInfo space;
  loop_.run(space_of(*files_, root_, space));
  EXPECT_GT(space.total, 0u);
  EXPECT_LE(space.available, space.total);
}

Task<void> whole_files(Filesystem& files, std::string root) {
  const std::string path = root + "/settings";
  co_await expect_error(drop(read_file(files, path, 10)), Code::not_found, path);
  co_await write_file(files, path, "a long first content");
  co_await make_file(files, path + ".new", "left by an interrupted attempt, longer than all");
  co_await write_file(files, path, "second");
  const std::string content = co_await read_file(files, path, 6);
  EXPECT_EQ(content, "second");
  co_await expect_error(drop(read_file(files, path, 5)), Code::too_large, path);
  const std::vector<std::string> found = co_await files.list(root);
  EXPECT_THAT(found, ElementsAre("settings"));
}

TEST_P(Files, WriteFileReplacesAndReadFileReadsWhole) {
  loop_.run(whole_files(*files_, root_));
}

// The filesystem ends inside the last completion.
Task<void> own_filesystem(std::unique_ptr<Filesystem> files, std::string path) {
  auto file = co_await files->open(path, kCreate);
  co_await file->sync();
  file.reset();
  files.reset();
}

TEST_P(Files, AFilesystemMayEndAsSoonAsItsLastOperationHas) {
  loop_.run(own_filesystem(std::move(files_), path("f")));
}

TEST(MakeFilesystem, SaysWhatItChose) {
  EventLoop loop;
  std::string chosen;
  EXPECT_NE(make_filesystem(loop, &chosen), nullptr);
  EXPECT_THAT(chosen, ::testing::AnyOf("io_uring", ::testing::StartsWith("threads: ")));
}

}  // namespace
}  // namespace datom::runtime

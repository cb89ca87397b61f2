#include "runtime/memory_files.h"

#include <gmock/gmock.h>

#include <set>

#include "common/error.h"
#include "runtime/task_group.h"
#include "runtime/virtual_loop.h"

namespace datom::runtime {
namespace {

using ::testing::Contains;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

constexpr std::size_t kSector = 512;
constexpr OpenOptions kCreate{.create = true};
constexpr OpenOptions kSynchronous{.create = true, .synchronous = true};

Task<std::string> read_some(Filesystem& files, std::string path, std::uint64_t offset,
                            std::size_t size) {
  const auto file = co_await files.open(path, {});
  std::string text(size, '?');
  const std::size_t count =
      co_await file->read(offset, {reinterpret_cast<std::byte*>(text.data()), size});
  text.resize(count);
  co_return text;
}

Task<void> write_to(Filesystem& files, std::string path, OpenOptions options, std::uint64_t offset,
                    std::string text) {
  const auto file = co_await files.open(path, options);
  co_await file->write(offset, as_bytes(text));
}

Task<void> write_and_sync(Filesystem& files, std::string path, std::string text) {
  const auto file = co_await files.open(path, kCreate);
  co_await file->write(0, as_bytes(text));
  co_await file->sync();
}

template <typename T>
Task<void> store(Task<T> task, T& into) {
  into = co_await std::move(task);
}

Task<void> store_code(Task<void> task, Code& code) {
  try {
    co_await std::move(task);
  } catch (const Error& error) {
    code = error.code();
  }
}

// One machine: its disk, and a process on it until the next crash.
class Machine {
 public:
  explicit Machine(std::uint64_t seed = 1) : random_(seed) { restart(); }

  Filesystem& files() { return *files_; }
  MemoryDisk& disk() { return disk_; }
  void run(Task<void> task) { loop_.run(std::move(task)); }
  VirtualLoop& loop() { return loop_; }

  template <typename T>
  T get(Task<T> task) {
    T value{};
    loop_.run(store(std::move(task), value));
    return value;
  }
  Code code_of(Task<void> task) {
    Code code{};
    loop_.run(store_code(std::move(task), code));
    return code;
  }
  void crash() {
    disk_.crash(random_);
    restart();
  }

 private:
  void restart() { files_ = make_memory_filesystem(loop_, disk_); }

  VirtualLoop loop_;
  MemoryDisk disk_;
  SeededRandom random_;
  std::unique_ptr<Filesystem> files_;
};

// A machine with a durable directory and in it a durable file of `size` times 'a'.
Machine& with_file(Machine& machine, std::size_t size) {
  machine.run(machine.files().make_directories("/d"));
  machine.run(write_and_sync(machine.files(), "/d/f", std::string(size, 'a')));
  machine.run(machine.files().sync_directory("/d"));
  return machine;
}

std::string read_all(Machine& machine, const std::string& path) {
  return machine.get(read_file(machine.files(), path, 1 << 20));
}

TEST(MemoryDisk, WhatWasSyncedSurvivesACrash) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Machine machine(seed);
    with_file(machine, 10'000);
    machine.crash();
    EXPECT_EQ(read_all(machine, "/d/f"), std::string(10'000, 'a'));
  }
}

TEST(MemoryDisk, EachUnsyncedSectorSurvivesOrNot) {
  Machine machine;
  with_file(machine, 32 * kSector);
  machine.run(write_to(machine.files(), "/d/f", {}, 0, std::string(32 * kSector, 'b')));
  EXPECT_EQ(read_all(machine, "/d/f"), std::string(32 * kSector, 'b'));
  machine.crash();
  const std::string after = read_all(machine, "/d/f");
  std::set<std::string> kinds;
  for (std::size_t at = 0; at < after.size(); at += kSector)
    kinds.insert(after.substr(at, kSector));
  EXPECT_THAT(kinds, UnorderedElementsAre(std::string(kSector, 'a'), std::string(kSector, 'b')));
}

TEST(MemoryDisk, ACrashDecidesOnceForAll) {
  Machine machine;
  with_file(machine, 32 * kSector);
  machine.run(write_to(machine.files(), "/d/f", {}, 0, std::string(32 * kSector, 'b')));
  machine.crash();
  const std::string after = read_all(machine, "/d/f");
  machine.crash();
  EXPECT_EQ(read_all(machine, "/d/f"), after);
}

TEST(MemoryDisk, TheSameRandomnessGivesTheSameRemains) {
  std::set<std::string> remains;
  for (int i = 0; i < 2; ++i) {
    Machine machine(7);
    with_file(machine, 32 * kSector);
    machine.run(write_to(machine.files(), "/d/f", {}, 0, std::string(40 * kSector, 'b')));
    machine.crash();
    remains.insert(read_all(machine, "/d/f"));
  }
  EXPECT_EQ(remains.size(), 1u);
}

TEST(MemoryDisk, AFinishedSynchronousWriteSurvivesACrash) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Machine machine(seed);
    with_file(machine, 0);
    machine.run(write_to(machine.files(), "/d/f", kSynchronous, 4096, std::string(5'000, 'b')));
    machine.crash();
    EXPECT_EQ(machine.get(read_some(machine.files(), "/d/f", 4096, 9'999)),
              std::string(5'000, 'b'));
  }
}

TEST(MemoryDisk, ASynchronousWriteDoesNotCoverOthers) {
  Machine machine;
  with_file(machine, 64 * kSector);
  machine.run(write_to(machine.files(), "/d/f", {}, 0, std::string(32 * kSector, 'b')));
  machine.run(write_to(machine.files(), "/d/f", kSynchronous, 32 * kSector, "c"));
  machine.crash();
  EXPECT_THAT(read_all(machine, "/d/f").substr(0, 32 * kSector), ::testing::HasSubstr("a"));
}

// Crashes while the write has taken effect but has not completed.
Task<void> crash_under_way(Machine& machine, VirtualLoop& loop, OpenOptions options, bool& failed) {
  auto file = co_await machine.files().open("/d/f", options);
  const std::string text(32 * kSector, 'b');
  TaskGroup group(loop, [&failed](std::exception_ptr) { failed = true; });
  group.spawn(file->write(0, as_bytes(text)));
  co_await switch_to(loop);
  machine.crash();
  co_await group.close();
}

TEST(MemoryDisk, ASynchronousWriteUnderWayIsTornAndFails) {
  Machine machine;
  with_file(machine, 32 * kSector);
  bool failed = false;
  machine.run(crash_under_way(machine, machine.loop(), kSynchronous, failed));
  EXPECT_TRUE(failed);
  const std::string after = read_all(machine, "/d/f");
  EXPECT_THAT(after, Contains('a'));
  EXPECT_THAT(after, Contains('b'));
}

TEST(MemoryDisk, AnUnsyncedSizeSurvivesOrNotAndNothingOldShowsBehindIt) {
  std::set<std::size_t> sizes;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Machine machine(seed);
    with_file(machine, 1'000);
    machine.run(write_to(machine.files(), "/d/f", {}, 6'000, "b"));
    machine.crash();
    const std::string after = read_all(machine, "/d/f");
    sizes.insert(after.size());
    EXPECT_EQ(after.substr(0, 1'000), std::string(1'000, 'a'));
    EXPECT_THAT(after.substr(1'000), Not(Contains('a')));
  }
  EXPECT_THAT(sizes, UnorderedElementsAre(1'000, 6'001));
}

Task<void> resize_to(Filesystem& files, std::string path, std::vector<std::uint64_t> sizes) {
  const auto file = co_await files.open(path, {});
  for (std::uint64_t size : sizes) co_await file->resize(size);
}

TEST(MemoryDisk, AnUnsyncedTruncationSurvivesAsAWholeOrNot) {
  std::set<std::string> remains;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    Machine machine(seed);
    with_file(machine, 10'000);
    machine.run(resize_to(machine.files(), "/d/f", {3'000, 9'000}));
    machine.crash();
    remains.insert(read_all(machine, "/d/f"));
  }
  const std::string kept(3'000, 'a');
  EXPECT_THAT(remains, UnorderedElementsAre(std::string(10'000, 'a'), kept,
                                            kept + std::string(6'000, '\0')));
}

TEST(MemoryDisk, ACreationWithoutSyncOfItsDirectoryMayVanish) {
  std::set<bool> survived;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Machine machine(seed);
    with_file(machine, 1);
    machine.run(write_and_sync(machine.files(), "/d/new", "content"));
    machine.crash();
    const bool there = machine.get(machine.files().exists("/d/new"));
    if (there) EXPECT_EQ(read_all(machine, "/d/new"), "content");
    survived.insert(there);
  }
  EXPECT_EQ(survived.size(), 2u);
}

TEST(MemoryDisk, ARenameWithoutSyncOfItsDirectoryVanishesAsAWholeOrNotAtAll) {
  std::set<std::string> remains;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Machine machine(seed);
    with_file(machine, 1);
    machine.run(write_and_sync(machine.files(), "/d/f.new", "new"));
    machine.run(machine.files().sync_directory("/d"));
    machine.run(machine.files().rename("/d/f.new", "/d/f"));
    machine.crash();
    remains.insert(read_all(machine, "/d/f"));
    EXPECT_EQ(machine.get(machine.files().exists("/d/f.new")), read_all(machine, "/d/f") == "a");
  }
  EXPECT_THAT(remains, UnorderedElementsAre("a", "new"));
}

TEST(MemoryDisk, ARemovalWithoutSyncOfItsDirectoryMayBeUndone) {
  std::set<bool> there;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Machine machine(seed);
    with_file(machine, 3);
    machine.run(machine.files().remove_tree("/d"));
    machine.crash();
    there.insert(machine.get(machine.files().exists("/d/f")));
    if (machine.get(machine.files().exists("/d/f"))) EXPECT_EQ(read_all(machine, "/d/f"), "aaa");
  }
  EXPECT_EQ(there.size(), 2u);
}

TEST(MemoryDisk, NothingSurvivesInADirectoryThatDoesNot) {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Machine machine(seed);
    machine.run(machine.files().make_directories("/x/y"));
    machine.run(write_and_sync(machine.files(), "/x/y/f", "content"));
    machine.crash();
    const bool file = machine.get(machine.files().exists("/x/y/f"));
    const bool directory = machine.get(machine.files().exists("/x/y"));
    EXPECT_LE(file, directory);
    EXPECT_LE(directory, machine.get(machine.files().exists("/x")));
  }
}

TEST(MemoryDisk, WriteFileIsOldOrNewAfterACrashAndNewOnceItReturned) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Machine machine(seed);
    with_file(machine, 1);
    machine.run(write_file(machine.files(), "/d/f", "new"));
    machine.crash();
    EXPECT_EQ(read_all(machine, "/d/f"), "new");
  }
}

TEST(MemoryDisk, OneWhoLivedThroughACrashIsToldSo) {
  Machine machine;
  with_file(machine, 1);
  const auto before = make_memory_filesystem(machine.loop(), machine.disk());
  const auto file = machine.get(before->open("/d/f", {}));
  machine.crash();
  EXPECT_EQ(machine.code_of(file->sync()), Code::io_error);
  EXPECT_EQ(machine.code_of(before->remove("/d/f")), Code::io_error);
  EXPECT_TRUE(machine.get(machine.files().exists("/d/f")));
}

TEST(MemoryDisk, AFailedSyncLeavesItsWritesUnsyncedForEver) {
  Machine machine;
  with_file(machine, 32 * kSector);
  machine.disk().fail_next_sync();
  EXPECT_EQ(machine.code_of(write_and_sync(machine.files(), "/d/f", std::string(16'384, 'b'))),
            Code::io_error);
  const auto file = machine.get(machine.files().open("/d/f", {}));
  machine.run(file->sync());
  machine.crash();
  EXPECT_THAT(read_all(machine, "/d/f"), Contains('a'));
}

TEST(MemoryDisk, AFailedSyncFailsASynchronousWriteToo) {
  Machine machine;
  with_file(machine, 1);
  machine.disk().fail_next_sync();
  EXPECT_EQ(machine.code_of(write_to(machine.files(), "/d/f", kSynchronous, 0, "b")),
            Code::io_error);
  machine.run(write_to(machine.files(), "/d/f", kSynchronous, 0, "b"));
}

Task<void> allocate_at(Filesystem& files, std::string path, std::uint64_t offset,
                       std::uint64_t length) {
  const auto file = co_await files.open(path, kCreate);
  co_await file->allocate(offset, length);
}

Task<void> punch_at(Filesystem& files, std::string path, std::uint64_t offset,
                    std::uint64_t length) {
  const auto file = co_await files.open(path, kCreate);
  co_await file->punch_hole(offset, length);
}

TEST(MemoryDisk, AFullDiskRefusesWhatWouldGrowAndTakesTheRest) {
  Machine machine;
  with_file(machine, 2 * kBlockSize);
  machine.disk().limit(4 * kBlockSize);
  Filesystem& files = machine.files();
  EXPECT_EQ(machine.get(files.space("/d")).available, 2 * kBlockSize);
  machine.run(allocate_at(files, "/d/g", 0, 2 * kBlockSize));
  EXPECT_EQ(machine.code_of(write_to(files, "/d/f", {}, 2 * kBlockSize, "x")), Code::no_space);
  EXPECT_EQ(machine.code_of(allocate_at(files, "/d/h", 0, 1)), Code::no_space);
  machine.run(write_to(files, "/d/f", {}, 0, std::string(2 * kBlockSize, 'y')));
  machine.run(write_to(files, "/d/g", {}, 0, std::string(2 * kBlockSize, 'y')));
  EXPECT_EQ(machine.get(files.space("/d")).available, 0u);
  machine.run(punch_at(files, "/d/f", 0, kBlockSize));
  machine.run(write_to(files, "/d/g", {}, 2 * kBlockSize, "x"));
  machine.run(files.remove("/d/g"));
  EXPECT_EQ(machine.get(files.space("/d")).available, 3 * kBlockSize);
}

TEST(MemoryDisk, AFlippedBitIsReadAndSurvives) {
  Machine machine;
  with_file(machine, 3);
  machine.disk().flip_bit("/d/f", 1, 1);
  EXPECT_EQ(read_all(machine, "/d/f"), "aca");
  machine.crash();
  EXPECT_EQ(read_all(machine, "/d/f"), "aca");
}

}  // namespace
}  // namespace datom::runtime

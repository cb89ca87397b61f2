#include "sim/disk.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include "block_store/superblock.h"
#include "common/error.h"
#include "runtime/wait.h"

namespace datom::sim {

using runtime::Task;

namespace {

constexpr std::string_view kJournal = "/journal/";
constexpr std::string_view kSuperblock = "/superblock";
constexpr std::string_view kNames[] = {"disk: sync failed", "disk: write failed",
                                       "disk: read failed", "disk: misdirected read",
                                       "disk: misdirected write"};

// The operation goes on in the world; whoever waits for it goes on in its process.
template <typename T, typename State>
Task<T> completes_on(State& disk, Task<T> operation) {
  std::optional<T> result;
  std::exception_ptr error;
  try {
    result = co_await std::move(operation);
  } catch (...) {
    error = std::current_exception();
  }
  co_await runtime::switch_to(disk.node);
  if (error) disk.refused();
  if (error) std::rethrow_exception(error);
  co_return std::move(*result);
}
template <typename State>
Task<void> completes_on(State& disk, Task<void> operation) {
  std::exception_ptr error;
  try {
    co_await std::move(operation);
  } catch (...) {
    error = std::current_exception();
  }
  co_await runtime::switch_to(disk.node);
  if (error) disk.refused();
  if (error) std::rethrow_exception(error);
}

}  // namespace

constexpr runtime::Duration kLongestStall = std::chrono::seconds(3);

struct Disk::State {
  State(runtime::VirtualLoop& world_, runtime::Loop& node_, std::uint64_t seed,
        runtime::Duration slowest_, std::uint64_t stall_one_in_)
      : world(world_),
        node(node_),
        delays(seed),
        crashes(seed + 1),
        places(seed + 2),
        slowest(slowest_),
        stall_one_in(stall_one_in_),
        memory(std::make_unique<runtime::MemoryDisk>()) {}

  // What an operation waits before it takes effect.
  Task<void> pass() {
    runtime::Timer timer(world);
    const bool one = stall_one_in > 0 && delays.below(stall_one_in) == 0;
    const bool stalls = one || world.now() < stalls_until;
    const auto most = static_cast<std::uint64_t>((stalls ? kLongestStall : slowest).count());
    co_await timer.sleep_for(std::chrono::nanoseconds(delays.below(most + 1)));
  }
  // Whether the fault befalls this operation.
  bool befalls(DiskFault fault, const std::string& path) {
    const auto found = armed.find(fault);
    if (found == armed.end() || path.find(found->second) == std::string::npos) return false;
    armed.erase(found);
    ++happened[fault];
    return true;
  }
  // The process hears of a failure.
  void refused() {
    if (std::exchange(failing, false) && !failed_since) failed_since = world.now();
  }
  // That is on stable storage.
  void keeps(const std::string& path, ByteView bytes) {
    if (!path.ends_with(kSuperblock) || bytes.size() != block_store::kSuperblockSlotBytes) return;
    const auto found = block_store::decode_superblock(bytes);
    if (!found) return;
    block_store::Superblock& newest = superblocks[found->state.replica];
    if (found->sequence > newest.sequence) newest = *found;
  }
  [[noreturn]] static void fail(const char* operation, const std::string& path) {
    throw_errno(EIO, std::string(operation) + " " + path);
  }

  runtime::VirtualLoop& world;
  runtime::Loop& node;
  runtime::SeededRandom delays;
  runtime::SeededRandom crashes;
  runtime::SeededRandom places;
  const runtime::Duration slowest;
  const std::uint64_t stall_one_in;
  std::unique_ptr<runtime::MemoryDisk> memory;
  std::vector<std::unique_ptr<runtime::MemoryDisk>> replaced;  // somebody may still look at one
  std::map<DiskFault, std::string> armed;
  std::map<DiskFault, std::uint64_t> happened;
  std::map<Uuid, block_store::Superblock> superblocks;  // of each replica, the newest one
  runtime::Time stalls_until{};
  std::optional<Written> journal_written;
  bool failing = false;  // a sync or write has failed, which nobody knows yet
  std::optional<runtime::Time> failed_since;
};

// Every operation: it waits, takes effect, and completes on the process's loop.
class Disk::File final : public runtime::File {
 public:
  File(std::shared_ptr<State> disk, std::unique_ptr<runtime::File> inner, std::string path,
       bool synchronous)
      : disk_(std::move(disk)),
        inner_(std::move(inner)),
        path_(std::move(path)),
        synchronous_(synchronous) {}

  std::size_t memory_alignment() const override { return inner_->memory_alignment(); }
  Task<std::size_t> read(std::uint64_t offset, MutableBytes into) override {
    return done(read_now(offset, into));
  }
  Task<void> write(std::uint64_t offset, ByteView from) override {
    return done(write_now(offset, from));
  }
  Task<void> sync() override { return done(sync_now()); }
  Task<std::uint64_t> size() override { return done(inner_->size()); }
  Task<void> resize(std::uint64_t size) override { return done(later(inner_->resize(size))); }
  Task<void> allocate(std::uint64_t offset, std::uint64_t length) override {
    return done(later(inner_->allocate(offset, length)));
  }
  Task<void> punch_hole(std::uint64_t offset, std::uint64_t length) override {
    return done(later(inner_->punch_hole(offset, length)));
  }

 private:
  template <typename T>
  Task<T> done(Task<T> operation) {
    return completes_on(*disk_, std::move(operation));
  }
  Task<void> later(Task<void> operation) {
    co_await disk_->pass();
    co_await std::move(operation);
  }
  Task<std::size_t> read_now(std::uint64_t offset, MutableBytes into) {
    co_await disk_->pass();
    if (disk_->befalls(DiskFault::read_fails, path_)) State::fail("read", path_);
    if (disk_->befalls(DiskFault::read_misdirected, path_)) offset = elsewhere(offset);
    const std::size_t count = co_await inner_->read(offset, into);
    disk_->keeps(path_, into.first(count));  // read at the start of a process only
    co_return count;
  }
  Task<void> write_now(std::uint64_t offset, ByteView from) {
    co_await disk_->pass();
    if (disk_->befalls(DiskFault::write_fails, path_) ||
        (synchronous_ && disk_->befalls(DiskFault::sync_fails, path_))) {
      // Some of it may have got there.
      disk_->failing = true;
      co_await inner_->write(offset,
                             from.first(disk_->places.below(from.size() + 1) / 4096 * 4096));
      State::fail("write", path_);
    }
    if (disk_->befalls(DiskFault::write_misdirected, path_)) offset = elsewhere(offset);
    co_await inner_->write(offset, from);
    if (synchronous_) disk_->keeps(path_, from);
    if (path_.find(kJournal) != std::string::npos) {
      disk_->journal_written = Disk::Written{path_, offset, from.size()};
    }
  }
  Task<void> sync_now() {
    co_await disk_->pass();
    if (disk_->befalls(DiskFault::sync_fails, path_)) {
      disk_->failing = true;
      disk_->memory->fail_next_sync();
    }
    co_await inner_->sync();
  }
  // Another block near it.
  std::uint64_t elsewhere(std::uint64_t offset) {
    const std::uint64_t block = offset / 4096;
    const std::uint64_t other = disk_->places.below(8);
    return offset % 4096 + (other == block ? block + 1 : other) * 4096;
  }

  std::shared_ptr<State> disk_;
  std::unique_ptr<runtime::File> inner_;
  std::string path_;
  bool synchronous_;
};

class Disk::Files final : public runtime::Filesystem {
 public:
  explicit Files(std::shared_ptr<State> disk)
      : disk_(std::move(disk)),
        inner_(runtime::make_memory_filesystem(disk_->world, *disk_->memory)) {}

  Task<std::unique_ptr<runtime::File>> open(std::string path,
                                            runtime::OpenOptions options) override {
    std::unique_ptr<runtime::File> file = co_await done(inner_->open(path, options));
    co_return std::make_unique<File>(disk_, std::move(file), std::move(path), options.synchronous);
  }
  Task<std::vector<std::string>> list(std::string directory) override {
    return done(inner_->list(std::move(directory)));
  }
  Task<bool> exists(std::string path) override { return done(inner_->exists(std::move(path))); }
  Task<void> make_directories(std::string path) override {
    return done(inner_->make_directories(std::move(path)));
  }
  Task<void> rename(std::string from, std::string to) override {
    return done(later(inner_->rename(std::move(from), std::move(to))));
  }
  Task<void> remove(std::string path) override {
    return done(later(inner_->remove(std::move(path))));
  }
  Task<void> remove_tree(std::string path) override {
    return done(inner_->remove_tree(std::move(path)));
  }
  Task<void> sync_directory(std::string path) override {
    return done(later(inner_->sync_directory(std::move(path))));
  }
  Task<runtime::SpaceInfo> space(std::string path) override {
    return done(inner_->space(std::move(path)));
  }

 private:
  Task<void> later(Task<void> operation) {
    co_await disk_->pass();
    co_await std::move(operation);
  }
  template <typename T>
  Task<T> done(Task<T> operation) {
    return completes_on(*disk_, std::move(operation));
  }

  std::shared_ptr<State> disk_;
  std::unique_ptr<runtime::Filesystem> inner_;
};

Disk::Disk(runtime::VirtualLoop& world, runtime::Loop& node, std::uint64_t seed,
           runtime::Duration slowest, std::uint64_t stall_one_in)
    : state_(std::make_shared<State>(world, node, seed, slowest, stall_one_in)) {}

Disk::~Disk() = default;

std::unique_ptr<runtime::Filesystem> Disk::mount() {
  state_->failing = false;
  state_->failed_since.reset();
  state_->armed.clear();
  return std::make_unique<Files>(state_);
}

std::unique_ptr<runtime::Filesystem> Disk::look() {
  return runtime::make_memory_filesystem(state_->world, *state_->memory);
}

void Disk::crash() {
  state_->memory->crash(state_->crashes);
}

void Disk::replace() {
  state_->superblocks.clear();
  state_->journal_written.reset();
  state_->replaced.push_back(std::move(state_->memory));
  state_->memory = std::make_unique<runtime::MemoryDisk>();
}

void Disk::limit(std::uint64_t bytes) {
  state_->memory->limit(bytes == 0 ? std::uint64_t{1} << 40 : bytes);
}

void Disk::inject(DiskFault fault, std::string path) {
  state_->armed[fault] = std::move(path);
}

void Disk::stall(runtime::Time until) {
  state_->stalls_until = std::max(state_->stalls_until, until);
}

void Disk::calm() {
  state_->stalls_until = {};
  state_->armed.clear();
  limit(0);
}

Task<std::uint64_t> Disk::size_of(std::string path) {
  const std::unique_ptr<runtime::Filesystem> files = look();
  const bool there = co_await files->exists(path);
  if (!there) co_return 0;
  const std::unique_ptr<runtime::File> file = co_await files->open(path, {});
  co_return co_await file->size();
}

Task<std::uint64_t> Disk::used() {
  const std::unique_ptr<runtime::Filesystem> files = look();
  const runtime::SpaceInfo space = co_await files->space("/");
  co_return space.total - space.available;
}

void Disk::flip_bit(const std::string& path, std::uint64_t byte, int bit) {
  // What a slot kept is looked up anew at the next start: the newest may have been the one that is
  // lost now, of a write that had not returned.
  if (path.ends_with(kSuperblock)) state_->superblocks.clear();
  state_->memory->flip_bit(path, byte, bit);
}

void Disk::count_faults(Verdict& verdict) const {
  for (const auto& [fault, many] : state_->happened) {
    verdict.count(kNames[static_cast<int>(fault)], many);
  }
}

block_store::ReplicaState Disk::kept(const Uuid& replica) const {
  const auto found = state_->superblocks.find(replica);
  if (found != state_->superblocks.end()) return found->second.state;
  block_store::ReplicaState none;
  none.base_complete = false;
  return none;
}

std::optional<Disk::Written> Disk::last_journal_write() const {
  return state_->journal_written;
}

std::optional<runtime::Time> Disk::failed_since() const {
  return state_->failed_since;
}

}  // namespace datom::sim

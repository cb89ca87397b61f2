#include "sim/disk.h"

#include "runtime/wait.h"

namespace datom::sim {

using runtime::Task;

namespace {

// When an operation takes effect.
class Delay {
 public:
  Delay(runtime::Loop& loop, runtime::Random& random, runtime::Duration longest)
      : loop_(loop), random_(random), longest_(longest) {}

  Task<void> pass() const {
    runtime::Timer timer(loop_);
    const auto most = static_cast<std::uint64_t>(longest_.count());
    co_await timer.sleep_for(std::chrono::nanoseconds(random_.below(most + 1)));
  }

 private:
  runtime::Loop& loop_;
  runtime::Random& random_;
  runtime::Duration longest_;
};

class SlowFile final : public runtime::File {
 public:
  SlowFile(std::unique_ptr<runtime::File> inner, const Delay& delay)
      : inner_(std::move(inner)), delay_(delay) {}

  Task<std::size_t> read(std::uint64_t offset, MutableBytes into) override {
    co_await delay_.pass();
    co_return co_await inner_->read(offset, into);
  }
  Task<void> write(std::uint64_t offset, ByteView from) override {
    co_await delay_.pass();
    co_await inner_->write(offset, from);
  }
  Task<void> sync() override {
    co_await delay_.pass();
    co_await inner_->sync();
  }
  Task<std::uint64_t> size() override { return inner_->size(); }
  Task<void> resize(std::uint64_t size) override {
    co_await delay_.pass();
    co_await inner_->resize(size);
  }
  Task<void> allocate(std::uint64_t offset, std::uint64_t length) override {
    co_await delay_.pass();
    co_await inner_->allocate(offset, length);
  }
  Task<void> punch_hole(std::uint64_t offset, std::uint64_t length) override {
    co_await delay_.pass();
    co_await inner_->punch_hole(offset, length);
  }

 private:
  std::unique_ptr<runtime::File> inner_;
  const Delay& delay_;
};

class SlowFilesystem final : public runtime::Filesystem {
 public:
  SlowFilesystem(std::unique_ptr<runtime::Filesystem> inner, Delay delay)
      : inner_(std::move(inner)), delay_(delay) {}

  Task<std::unique_ptr<runtime::File>> open(std::string path,
                                            runtime::OpenOptions options) override {
    std::unique_ptr<runtime::File> file = co_await inner_->open(std::move(path), options);
    co_return std::make_unique<SlowFile>(std::move(file), delay_);
  }
  Task<std::vector<std::string>> list(std::string directory) override {
    return inner_->list(std::move(directory));
  }
  Task<bool> exists(std::string path) override { return inner_->exists(std::move(path)); }
  Task<void> make_directories(std::string path) override {
    return inner_->make_directories(std::move(path));
  }
  Task<void> rename(std::string from, std::string to) override {
    co_await delay_.pass();
    co_await inner_->rename(std::move(from), std::move(to));
  }
  Task<void> remove(std::string path) override {
    co_await delay_.pass();
    co_await inner_->remove(std::move(path));
  }
  Task<void> remove_tree(std::string path) override { return inner_->remove_tree(std::move(path)); }
  Task<void> sync_directory(std::string path) override {
    co_await delay_.pass();
    co_await inner_->sync_directory(std::move(path));
  }
  Task<runtime::SpaceInfo> space(std::string path) override {
    return inner_->space(std::move(path));
  }

 private:
  std::unique_ptr<runtime::Filesystem> inner_;
  const Delay delay_;
};

}  // namespace

std::unique_ptr<runtime::Filesystem> make_slow_filesystem(
    std::unique_ptr<runtime::Filesystem> inner, runtime::Loop& loop, runtime::Random& random,
    runtime::Duration longest) {
  return std::make_unique<SlowFilesystem>(std::move(inner), Delay(loop, random, longest));
}

}  // namespace datom::sim

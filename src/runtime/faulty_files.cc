#include "runtime/faulty_files.h"

#include <utility>

#include "common/error.h"

namespace datom::runtime {
namespace {

void check(const Faults& faults, FileOperation operation) {
  const int error = faults(operation);
  if (error != 0) throw_errno(error, std::string(operation.name) + " " + operation.path);
}

class FaultyFile final : public File {
 public:
  FaultyFile(std::unique_ptr<File> below, std::string path, const Faults& faults,
             const Holds& holds)
      : below_(std::move(below)), path_(std::move(path)), faults_(faults), holds_(holds) {}

  std::size_t memory_alignment() const override { return below_->memory_alignment(); }
  Task<std::size_t> read(std::uint64_t offset, MutableBytes into) override {
    check(faults_, {"read", path_, offset, into.size()});
    co_return co_await below_->read(offset, into);
  }
  Task<void> write(std::uint64_t offset, ByteView from) override {
    check(faults_, {"write", path_, offset, from.size()});
    if (holds_) co_await holds_({"write", path_, offset, from.size()});
    co_await below_->write(offset, from);
  }
  Task<void> sync() override {
    check(faults_, {"sync", path_});
    co_await below_->sync();
  }
  Task<std::uint64_t> size() override { return below_->size(); }
  Task<void> resize(std::uint64_t size) override {
    check(faults_, {"resize", path_, 0, size});
    co_await below_->resize(size);
  }
  Task<void> allocate(std::uint64_t offset, std::uint64_t length) override {
    check(faults_, {"allocate", path_, offset, length});
    co_await below_->allocate(offset, length);
  }
  Task<void> punch_hole(std::uint64_t offset, std::uint64_t length) override {
    check(faults_, {"punch_hole", path_, offset, length});
    co_await below_->punch_hole(offset, length);
  }

 private:
  std::unique_ptr<File> below_;
  const std::string path_;
  const Faults& faults_;
  const Holds& holds_;
};

class FaultyFilesystem final : public Filesystem {
 public:
  FaultyFilesystem(std::unique_ptr<Filesystem> below, Faults faults, Holds holds)
      : below_(std::move(below)), faults_(std::move(faults)), holds_(std::move(holds)) {}

  Task<std::unique_ptr<File>> open(std::string path, OpenOptions options) override {
    check(faults_, {options.create ? "create" : "open", path});
    std::unique_ptr<File> file = co_await below_->open(path, options);
    co_return std::make_unique<FaultyFile>(std::move(file), std::move(path), faults_, holds_);
  }
  Task<std::vector<std::string>> list(std::string directory) override {
    check(faults_, {"list", directory});
    co_return co_await below_->list(std::move(directory));
  }
  Task<bool> exists(std::string path) override { return below_->exists(std::move(path)); }
  Task<void> make_directories(std::string path) override {
    check(faults_, {"make_directories", path});
    co_await below_->make_directories(std::move(path));
  }
  Task<void> rename(std::string from, std::string to) override {
    check(faults_, {"rename", from});
    co_await below_->rename(std::move(from), std::move(to));
  }
  Task<void> remove(std::string path) override {
    check(faults_, {"remove", path});
    co_await below_->remove(std::move(path));
  }
  Task<void> remove_tree(std::string path) override {
    check(faults_, {"remove_tree", path});
    co_await below_->remove_tree(std::move(path));
  }
  Task<void> sync_directory(std::string path) override {
    check(faults_, {"sync_directory", path});
    co_await below_->sync_directory(std::move(path));
  }
  Task<SpaceInfo> space(std::string path) override { return below_->space(std::move(path)); }

 private:
  std::unique_ptr<Filesystem> below_;
  const Faults faults_;
  const Holds holds_;
};

}  // namespace

std::unique_ptr<Filesystem> make_faulty_filesystem(std::unique_ptr<Filesystem> below, Faults faults,
                                                   Holds holds) {
  return std::make_unique<FaultyFilesystem>(std::move(below), std::move(faults), std::move(holds));
}

}  // namespace datom::runtime

// What the filesystems of the operating system have in common: all but the files' own reads, writes
// and syncs goes through a thread pool.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/file.h"
#include "runtime/posix_files.h"
#include "runtime/thread_pool.h"

namespace datom::runtime {

class PosixFilesystem : public Filesystem {
 public:
  PosixFilesystem(EventLoop& loop, std::size_t threads) : pool_(loop, threads) {}

  Task<std::unique_ptr<File>> open(std::string path, OpenOptions options) override;
  Task<std::vector<std::string>> list(std::string directory) override;
  Task<bool> exists(std::string path) override;
  Task<void> make_directories(std::string path) override;
  Task<void> rename(std::string from, std::string to) override;
  Task<void> remove(std::string path) override;
  Task<void> remove_tree(std::string path) override;
  Task<void> sync_directory(std::string path) override;
  Task<SpaceInfo> space(std::string path) override;

 protected:
  virtual std::unique_ptr<File> make_file(posix::OpenFile file) = 0;

  ThreadPool& pool() { return pool_; }

 private:
  ThreadPool pool_;
};

}  // namespace datom::runtime

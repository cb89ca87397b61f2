// The names of a MemoryDisk: what they are now and what a power cut would leave of them.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/loop.h"
#include "runtime/memory_inode.h"

namespace datom::runtime {

// Paths are normal (see normal_path); "/" and "." are always there.
class MemoryTree {
 public:
  using Inode = std::shared_ptr<MemoryInode>;
  using Names = std::map<std::string, Inode>;

  static std::string normal_path(const std::string& path);
  static std::string parent_of(const std::string& path);

  const Names& names() const { return names_; }
  // Null if there is nothing.
  Inode find(const std::string& path) const;
  bool is_directory(const std::string& path) const;
  // The paths of all that is in a directory, at any depth.
  std::vector<std::string> below(const std::string& directory) const;

  // One change that survives a crash as a whole or not at all: each name becomes the inode, or is
  // gone where that is null.
  void change(std::vector<std::pair<std::string, Inode>> names);
  // Makes the changes of names in the directory durable, and those that they rest on.
  void sync_directory(const std::string& directory);
  void crash(Random& random);

 private:
  using Change = std::vector<std::pair<std::string, Inode>>;

  static bool related(const Change& one, const Change& other);
  static void apply(const Change& change, Names& names);

  Inode root_ = std::make_shared<MemoryInode>(true);
  Names names_;
  Names durable_;
  std::vector<Change> unsynced_;  // in the order they were made
};

}  // namespace datom::runtime

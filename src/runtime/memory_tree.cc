#include "runtime/memory_tree.h"

#include <algorithm>
#include <filesystem>

namespace datom::runtime {
namespace {

bool is_root(const std::string& path) {
  return path == "/" || path == ".";
}

// Whether `path` is `directory` or somewhere in it.
bool is_within(const std::string& path, const std::string& directory) {
  return path.starts_with(directory) &&
         (path.size() == directory.size() || path[directory.size()] == '/');
}

}  // namespace

std::string MemoryTree::normal_path(const std::string& path) {
  std::string normal = std::filesystem::path(path).lexically_normal().string();
  if (normal.size() > 1 && normal.back() == '/') normal.pop_back();
  return normal.empty() ? "." : normal;
}

std::string MemoryTree::parent_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

MemoryTree::Inode MemoryTree::find(const std::string& path) const {
  if (is_root(path)) return root_;
  const auto found = names_.find(path);
  return found == names_.end() ? nullptr : found->second;
}

bool MemoryTree::is_directory(const std::string& path) const {
  const Inode inode = find(path);
  return inode != nullptr && inode->directory();
}

std::vector<std::string> MemoryTree::below(const std::string& directory) const {
  std::vector<std::string> paths;
  for (const auto& [path, inode] : names_) {
    const bool in_root = is_root(directory) && path.starts_with('/') == (directory == "/");
    if (in_root || (is_within(path, directory) && path != directory)) paths.push_back(path);
  }
  return paths;
}

void MemoryTree::apply(const Change& change, Names& names) {
  for (const auto& [path, inode] : change) {
    if (inode == nullptr) {
      names.erase(path);
    } else {
      names[path] = inode;
    }
  }
}

bool MemoryTree::related(const Change& one, const Change& other) {
  for (const auto& [path, inode] : one) {
    for (const auto& [other_path, other_inode] : other) {
      if (is_within(path, other_path) || is_within(other_path, path)) return true;
    }
  }
  return false;
}

void MemoryTree::change(std::vector<std::pair<std::string, Inode>> names) {
  apply(names, names_);
  unsynced_.push_back(std::move(names));
}

void MemoryTree::sync_directory(const std::string& directory) {
  std::vector<Change> synced;  // latest first
  std::vector<Change> rest;    // latest first
  for (auto change = unsynced_.rbegin(); change != unsynced_.rend(); ++change) {
    const bool inside = std::ranges::any_of(
        *change, [&](const auto& name) { return parent_of(name.first) == directory; });
    const bool needed = inside || std::ranges::any_of(synced, [&](const Change& later) {
                          return related(*change, later);
                        });
    (needed ? synced : rest).push_back(std::move(*change));
  }
  for (auto change = synced.rbegin(); change != synced.rend(); ++change) apply(*change, durable_);
  std::ranges::reverse(rest);
  unsynced_ = std::move(rest);
}

void MemoryTree::crash(Random& random) {
  std::vector<Change> lost;
  for (Change& change : unsynced_) {
    const bool groundless =
        std::ranges::any_of(lost, [&](const Change& before) { return related(before, change); });
    if (!groundless && random.below(2) == 0) {
      apply(change, durable_);
    } else {
      lost.push_back(std::move(change));
    }
  }
  unsynced_.clear();
  names_ = durable_;
  for (auto& [path, inode] : names_) inode->crash(random);
}

}  // namespace datom::runtime

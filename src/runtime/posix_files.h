// Blocking file operations by system call: what the pool's threads do. Errors as in file.h.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/bytes.h"
#include "runtime/file.h"

namespace datom::runtime::posix {

// An open file descriptor; closes it.
class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor();
  int get() const { return number_; }

 private:
  int number_;
};

struct OpenFile {
  Descriptor descriptor;
  std::string path;
  OpenOptions options;
  std::size_t memory_alignment = kBlockSize;  // of File
};

OpenFile open(const std::string& path, const OpenOptions& options);

std::size_t read(const OpenFile& file, std::uint64_t offset, MutableBytes into);
void write(const OpenFile& file, std::uint64_t offset, ByteView from);
void sync(const OpenFile& file);
std::uint64_t size(const OpenFile& file);
void resize(const OpenFile& file, std::uint64_t size);
// `mode` as for fallocate(2).
void allocate(const OpenFile& file, int mode, std::uint64_t offset, std::uint64_t length);

// A read that ended there has met the end of the file: going on is useless, and direct it would be
// refused for its alignment.
bool is_end(const OpenFile& file, std::size_t count);

std::vector<std::string> list(const std::string& directory);
bool exists(const std::string& path);
void make_directories(const std::string& path);
void rename(const std::string& from, const std::string& to);
void remove(const std::string& path);
void remove_tree(const std::string& path);
void sync_directory(const std::string& path);
SpaceInfo space(const std::string& path);

}  // namespace datom::runtime::posix

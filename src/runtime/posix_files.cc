#include "runtime/posix_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "common/error.h"

namespace datom::runtime::posix {
namespace {

constexpr mode_t kFileMode = 0640;
constexpr std::size_t kMaxPerCall = std::size_t{1} << 30;

[[noreturn]] void fail(int error, const char* operation, const std::string& path) {
  throw_errno(error, std::string(operation) + " " + path);
}

void check(int result, const char* operation, const std::string& path) {
  if (result != 0) fail(errno, operation, path);
}

void check(const std::error_code& error, const char* operation, const std::string& path) {
  if (error) fail(error.value(), operation, path);
}

int flags_of(const OpenOptions& options) {
  int flags = O_CLOEXEC | (options.read_only ? O_RDONLY : O_RDWR);
  if (options.create) flags |= O_CREAT;
  if (options.create && options.exclusive) flags |= O_EXCL;
  if (options.synchronous) flags |= O_DSYNC;
  return flags;
}

// What the system asks of memory for O_DIRECT; it may be that it does not say.
std::size_t memory_alignment(const Descriptor& descriptor) {
  struct statx found{};
  const int result = ::statx(descriptor.get(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &found);
  const std::size_t told = found.stx_dio_mem_align;
  const bool usable = result == 0 && (found.stx_mask & STATX_DIOALIGN) != 0 && told > 0;
  return usable && kBlockSize % told == 0 ? told : kBlockSize;
}

}  // namespace

Descriptor::~Descriptor() {
  if (number_ >= 0) ::close(number_);
}

// O_DIRECT is added afterwards: refused at open(), it would leave behind the file just created.
OpenFile open(const std::string& path, const OpenOptions& options) {
  const int flags = flags_of(options);
  OpenFile file{Descriptor(::open(path.c_str(), flags, kFileMode)), path, options};
  if (file.descriptor.get() < 0) fail(errno, "open", path);
  if (options.direct && ::fcntl(file.descriptor.get(), F_SETFL, flags | O_DIRECT) != 0 &&
      errno != EINVAL) {
    fail(errno, "open direct", path);
  }
  if (options.direct) file.memory_alignment = memory_alignment(file.descriptor);
  return file;
}

bool is_end(const OpenFile& file, std::size_t count) {
  return count == 0 || (file.options.direct && count % kBlockSize != 0);
}

std::size_t read(const OpenFile& file, std::uint64_t offset, MutableBytes into) {
  std::size_t done = 0;
  while (done < into.size()) {
    const std::size_t wanted = std::min(into.size() - done, kMaxPerCall);
    const ssize_t count = ::pread(file.descriptor.get(), into.data() + done, wanted,
                                  static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(errno, "read", file.path);
    done += static_cast<std::size_t>(count);
    if (is_end(file, static_cast<std::size_t>(count))) break;
  }
  return done;
}

void write(const OpenFile& file, std::uint64_t offset, ByteView from) {
  std::size_t done = 0;
  while (done < from.size()) {
    const std::size_t wanted = std::min(from.size() - done, kMaxPerCall);
    const ssize_t count = ::pwrite(file.descriptor.get(), from.data() + done, wanted,
                                   static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(errno, "write", file.path);
    if (count == 0) fail(EIO, "write", file.path);
    done += static_cast<std::size_t>(count);
  }
}

void sync(const OpenFile& file) {
  check(::fdatasync(file.descriptor.get()), "sync", file.path);
}

std::uint64_t size(const OpenFile& file) {
  struct stat status{};
  check(::fstat(file.descriptor.get(), &status), "stat", file.path);
  return static_cast<std::uint64_t>(status.st_size);
}

void resize(const OpenFile& file, std::uint64_t size) {
  check(::ftruncate(file.descriptor.get(), static_cast<off_t>(size)), "resize", file.path);
}

void allocate(const OpenFile& file, int mode, std::uint64_t offset, std::uint64_t length) {
  int result = 0;
  do {
    result = ::fallocate(file.descriptor.get(), mode, static_cast<off_t>(offset),
                         static_cast<off_t>(length));
  } while (result != 0 && errno == EINTR);
  check(result, mode == 0 ? "allocate" : "punch hole in", file.path);
}

std::vector<std::string> list(const std::string& directory) {
  std::error_code error;
  std::vector<std::string> names;
  std::filesystem::directory_iterator entry(directory, error);
  check(error, "list", directory);
  while (entry != std::filesystem::directory_iterator()) {
    names.push_back(entry->path().filename().string());
    entry.increment(error);
    check(error, "list", directory);
  }
  std::ranges::sort(names);
  return names;
}

bool exists(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) == 0) return true;
  if (errno == ENOENT || errno == ENOTDIR) return false;
  fail(errno, "stat", path);
}

void make_directories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  check(error, "make directory", path);
}

void rename(const std::string& from, const std::string& to) {
  check(::rename(from.c_str(), to.c_str()), "rename", from + " to " + to);
}

void remove(const std::string& path) {
  check(::remove(path.c_str()), "remove", path);
}

void remove_tree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  check(error, "remove", path);
}

void sync_directory(const std::string& path) {
  const Descriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0) fail(errno, "open directory", path);
  check(::fsync(directory.get()), "sync directory", path);
}

SpaceInfo space(const std::string& path) {
  struct statvfs status{};
  check(::statvfs(path.c_str(), &status), "statvfs", path);
  return {status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize};
}

}  // namespace datom::runtime::posix

#include "service/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "common/error.h"

namespace datom::service {
namespace {

// What the holder wrote, as far as it is a number.
std::string holder(int descriptor) {
  std::array<char, 16> text{};
  const ssize_t length = pread(descriptor, text.data(), text.size(), 0);
  std::string digits;
  for (ssize_t at = 0; at < length && text[static_cast<std::size_t>(at)] >= '0' &&
                       text[static_cast<std::size_t>(at)] <= '9';
       ++at) {
    digits += text[static_cast<std::size_t>(at)];
  }
  return digits.empty() ? "unknown" : digits;
}

}  // namespace

FileLock::FileLock(const std::string& path, const std::string& what) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw_errno(error.value(), "cannot make " + folder.string());
  descriptor_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0) throw_errno(errno, "cannot open " + path);
  if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    const int why = errno;
    const std::string pid = holder(descriptor_);
    close(descriptor_);
    if (why != EWOULDBLOCK) throw_errno(why, "cannot lock " + path);
    throw Error(Code::already_exists, "{} is in use by another process (pid {}, lock {})", what,
                pid, path);
  }
  const std::string pid = std::to_string(getpid()) + "\n";
  // The number is for people: that it could not be written must not keep the service from running.
  if (ftruncate(descriptor_, 0) == 0) (void)!pwrite(descriptor_, pid.data(), pid.size(), 0);
}

FileLock::~FileLock() {
  close(descriptor_);
}

bool FileLock::is_held(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return false;
  const bool held = flock(descriptor, LOCK_SH | LOCK_NB) != 0;
  close(descriptor);
  return held;
}

}  // namespace datom::service

#include "runtime/posix_filesystem.h"

#include <utility>

namespace datom::runtime {

Task<std::unique_ptr<File>> PosixFilesystem::open(std::string path, OpenOptions options) {
  posix::OpenFile file = co_await pool_.run([&] { return posix::open(path, options); });
  co_return make_file(std::move(file));
}

Task<std::vector<std::string>> PosixFilesystem::list(std::string directory) {
  co_return co_await pool_.run([&] { return posix::list(directory); });
}

Task<bool> PosixFilesystem::exists(std::string path) {
  co_return co_await pool_.run([&] { return posix::exists(path); });
}

Task<void> PosixFilesystem::make_directories(std::string path) {
  co_await pool_.run([&] { posix::make_directories(path); });
}

Task<void> PosixFilesystem::rename(std::string from, std::string to) {
  co_await pool_.run([&] { posix::rename(from, to); });
}

Task<void> PosixFilesystem::remove(std::string path) {
  co_await pool_.run([&] { posix::remove(path); });
}

Task<void> PosixFilesystem::remove_tree(std::string path) {
  co_await pool_.run([&] { posix::remove_tree(path); });
}

Task<void> PosixFilesystem::sync_directory(std::string path) {
  co_await pool_.run([&] { posix::sync_directory(path); });
}

Task<SpaceInfo> PosixFilesystem::space(std::string path) {
  co_return co_await pool_.run([&] { return posix::space(path); });
}

}  // namespace datom::runtime

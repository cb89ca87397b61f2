#include "runtime/file.h"

#include <filesystem>
#include <utility>

#include "common/error.h"

namespace datom::runtime {
namespace {

std::string directory_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

Task<void> fill_new_file(Filesystem& files, const std::string& path, const std::string& content) {
  OpenOptions options;
  options.create = true;
  const std::unique_ptr<File> file = co_await files.open(path, options);
  co_await file->resize(0);  // what an interrupted write_file left
  co_await file->write(0, as_bytes(content));
  co_await file->sync();
}

}  // namespace

Task<void> File::write_pieces(std::span<const Piece> pieces) {
  for (const Piece& piece : pieces) co_await write(piece.offset, piece.bytes);
}

Task<std::string> read_file(Filesystem& files, std::string path, std::size_t limit) {
  OpenOptions options;
  options.read_only = true;
  const std::unique_ptr<File> file = co_await files.open(path, options);
  const std::uint64_t size = co_await file->size();
  if (size > limit) {
    throw Error(Code::too_large, "{} has {} bytes, at most {} are expected", path, size, limit);
  }
  std::string content(size, '\0');
  const MutableBytes into(reinterpret_cast<std::byte*>(content.data()), content.size());
  const std::size_t count = co_await file->read(0, into);
  content.resize(count);
  co_return content;
}

Task<void> write_file(Filesystem& files, std::string path, std::string content) {
  const std::string temporary = path + ".new";
  co_await fill_new_file(files, temporary, content);
  co_await files.rename(temporary, path);
  co_await files.sync_directory(directory_of(path));
}

}  // namespace datom::runtime

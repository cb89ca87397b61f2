// A lock that dies with its process: keeps two services off one root.
#pragma once

#include <string>

namespace datom::service {

// flock() on a file. Blocking calls, of microseconds; thread-safe.
class FileLock {
 public:
  // Makes the file (and its folder) if missing and writes this process's id into it. `what` names
  // what is locked in the message of Error{already_exists}, which also tells the holder's process
  // id.
  FileLock(const std::string& path, const std::string& what);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

  // Whether somebody, in this process or another, holds the lock now.
  static bool is_held(const std::string& path);

 private:
  int descriptor_ = -1;
};

}  // namespace datom::service

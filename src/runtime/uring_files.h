// Files through io_uring: submissions of one loop turn go to the kernel in one system call.
#pragma once

#include <memory>

#include "runtime/event_loop.h"
#include "runtime/file.h"

namespace datom::runtime {

// A Filesystem on `loop` over the loop's io_uring, or nullptr where the kernel refuses one (many
// containers); `why` then says so. `loop` must outlive it.
std::unique_ptr<Filesystem> make_uring_filesystem(EventLoop& loop, std::string* why);

}  // namespace datom::runtime

// Files through a small pool of threads with blocking system calls: works everywhere.
#pragma once

#include <memory>

#include "runtime/event_loop.h"
#include "runtime/file.h"

namespace datom::runtime {

// `loop` must outlive it; destruction joins the threads. REQUIRES: threads > 0.
std::unique_ptr<Filesystem> make_thread_filesystem(EventLoop& loop, std::size_t threads);

// io_uring where the kernel allows it, else threads; `chosen` (for the log) is "io_uring" or
// "threads: WHY".
std::unique_ptr<Filesystem> make_filesystem(EventLoop& loop, std::string* chosen);

}  // namespace datom::runtime

// Runs tasks side by side, a bounded number at a time.
#pragma once

#include <cstddef>
#include <functional>

#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::block_store {

// Runs job(0) to job(count - 1), at most `limit` at once, and waits for all that were begun. After
// a failure no more are begun; the first failure is thrown. `job` makes the task and is called on
// the loop.
runtime::Task<void> run_concurrently(runtime::Loop& loop, std::size_t count, std::size_t limit,
                                     std::function<runtime::Task<void>(std::size_t)> job);

}  // namespace datom::block_store

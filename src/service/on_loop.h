// Work on another loop of the process.
#pragma once

#include <exception>
#include <optional>
#include <utility>

#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::service {

// Runs `task` on `there` and goes on, with what it throws, on `here`, the loop of the caller.
inline runtime::Task<void> on_loop(runtime::Loop& here, runtime::Loop& there,
                                   runtime::Task<void> task) {
  std::exception_ptr error;
  co_await runtime::switch_to(there);
  try {
    co_await std::move(task);
  } catch (...) {
    error = std::current_exception();
  }
  co_await runtime::switch_to(here);
  if (error) std::rethrow_exception(error);
}

}  // namespace datom::service

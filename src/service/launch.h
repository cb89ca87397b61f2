// The edge between threads that wait and loops that run.
#pragma once

#include <exception>
#include <functional>

#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::service {

// Runs `task` on `loop`; `done` hears there how it ended. The loop must run until then.
void launch(runtime::Loop& loop, runtime::Task<void> task,
            std::function<void(std::exception_ptr)> done);

}  // namespace datom::service

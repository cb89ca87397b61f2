// A disk that takes its time: every operation waits before it takes effect, so that power cuts find
// writes under way, and later operations overtake earlier ones.
#pragma once

#include <memory>

#include "runtime/file.h"
#include "runtime/loop.h"

namespace datom::sim {

// Wraps `inner`. Each operation on a file waits up to `longest` first. All must outlive it.
std::unique_ptr<runtime::Filesystem> make_slow_filesystem(
    std::unique_ptr<runtime::Filesystem> inner, runtime::Loop& loop, runtime::Random& random,
    runtime::Duration longest);

}  // namespace datom::sim

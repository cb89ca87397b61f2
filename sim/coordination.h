// The way to coordination and back takes time: what was asked for is done later, the answer and the
// watches that fired come later still, in order. A connection that breaks meanwhile leaves a call
// done or not done, and nobody knows which.
#pragma once

#include <memory>

#include "coordination/client.h"
#include "runtime/virtual_loop.h"

namespace datom::sim {

// Wraps `inner`; each way takes up to `longest`. All on `loop`, which outlives it.
std::unique_ptr<coordination::Client> make_slow_client(std::unique_ptr<coordination::Client> inner,
                                                       runtime::Loop& loop, std::uint64_t seed,
                                                       runtime::Duration longest);

}  // namespace datom::sim

// TCP and Unix sockets on an EventLoop.
#pragma once

#include <memory>

#include "runtime/event_loop.h"
#include "runtime/network.h"

namespace datom::runtime {

// `loop` must outlive it and everything it gives out.
std::unique_ptr<Network> make_network(EventLoop& loop);

}  // namespace datom::runtime

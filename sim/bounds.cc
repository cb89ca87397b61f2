#include "sim/bounds.h"

#include <fmt/core.h>

namespace datom::sim {

using runtime::Task;

namespace {
constexpr runtime::Duration kEvery = std::chrono::milliseconds(20);
}  // namespace

Bounds::Bounds(Domain& domain, Verdict& verdict)
    : domain_(domain),
      verdict_(verdict),
      tasks_(domain.loop, [&verdict](std::exception_ptr error) { verdict.task_failed(error); }) {}

void Bounds::start() {
  tasks_.spawn(watch());
}

Task<void> Bounds::close() {
  closing_ = true;
  co_await tasks_.close();
}

Task<void> Bounds::watch() {
  while (!closing_) {
    look();
    co_await domain_.pause(kEvery);
  }
}

void Bounds::look() {
  for (const auto& server : domain_.servers) {
    if (!server->up()) continue;
    for (const volume::Held& held : server->volumes().held()) {
      if (held.is <= held.at_most) continue;
      verdict_.fail(fmt::format("Bounded: {} has {} {}, it promises at most {}", server->name(),
                                held.is, held.what, held.at_most));
    }
  }
}

}  // namespace datom::sim

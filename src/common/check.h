// DATOM_CHECK: for our own mistakes only, in every build. Never for what a peer, a disk or a user
// did; those throw Error.
#pragma once

namespace datom {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace datom

// Aborts, printing the condition and its place, when `condition` is false.
#define DATOM_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::datom::check_failed(#condition, __FILE__, __LINE__))

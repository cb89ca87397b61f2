#include "common/check.h"

#include <cstdio>
#include <cstdlib>

namespace datom {

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "datom: check failed: %s at %s:%d\n", condition, file, line);
  std::abort();
}

}  // namespace datom

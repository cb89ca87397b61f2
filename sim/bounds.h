// Demands again and again that nothing grows beyond what the code promises.
#pragma once

#include "runtime/task.h"
#include "runtime/task_group.h"
#include "sim/domain.h"
#include "sim/verdict.h"

namespace datom::sim {

class Bounds {
 public:
  Bounds(Domain& domain, Verdict& verdict);

  void start();
  runtime::Task<void> close();

 private:
  runtime::Task<void> watch();
  void look();

  Domain& domain_;
  Verdict& verdict_;
  bool closing_ = false;
  runtime::TaskGroup tasks_;
};

}  // namespace datom::sim

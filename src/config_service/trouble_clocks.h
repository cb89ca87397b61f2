// Since when replicas have been lost, as far as this process has seen it without a break. Pure.
#pragma once

#include <map>
#include <string>

#include "common/uuid.h"
#include "config_service/domain.h"
#include "config_service/replica_answers.h"
#include "runtime/loop.h"

namespace datom::config_service {

// A replica is lost while its service is down, that is while the coordination tree says so, or
// while its service says itself that it cannot be used, or does not have the new one that it is to
// make. A service that is up and does not answer
// may be cut off from this process alone: nothing is known of its replicas then.
class TroubleClocks {
 public:
  struct Lost {
    runtime::Time since;
    std::string why;         // "vs1 is down"
    bool service_up = true;  // it is the replica that cannot be used
  };

  // What was read and answered now, all of it. Who is not lost now starts anew next time.
  void observe(runtime::Time now, const Domain& domain, const Answers& answers);
  // Something was not seen: all clocks start anew.
  void forget() { lost_.clear(); }

  // nullptr: not lost.
  const Lost* find(const Uuid& replica) const;

 private:
  std::map<Uuid, Lost> lost_;
};

}  // namespace datom::config_service

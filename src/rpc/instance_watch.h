// Where a service is, as coordination says: looked up on demand, then watched.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "common/error.h"
#include "coordination/client.h"
#include "runtime/network.h"
#include "runtime/task_group.h"
#include "runtime/wait.h"

namespace datom::rpc {

// While coordination cannot be asked, what was known before goes on being what is known.
class InstanceWatch {
 public:
  // A service that is up.
  struct Known {
    runtime::Address address;
    std::string epoch;  // another one: it was started again
    bool operator==(const Known&) const = default;
  };

  // `tasks` runs the lookups; `on_news` hears when one has ended. All must outlive it and belong to
  // `loop`.
  InstanceWatch(runtime::Loop& loop, coordination::Client& coordination, runtime::TaskGroup& tasks,
                std::string domain, std::string service, std::function<void()> on_news);

  const std::optional<Known>& known() const { return known_; }
  // Coordination said that it is not up, and would say if that changed.
  bool certainly_absent() const { return watching_ && !known_; }
  // Why nothing is known. REQUIRES: a lookup has ended, and !known().
  const Error& absence() const { return *absence_; }

  // Looks up unless that is being done, or the watch would tell of any change.
  void refresh();
  // Waits until no lookup is under way, or stop().
  runtime::Task<void> looked_up();
  // Looks up no more.
  void stop();

 private:
  // The answer of one lookup.
  struct Answer {
    std::optional<coordination::Node> node;
    bool registered = false;  // the service exists in the domain
    std::optional<Error> failure;
    coordination::WatchHandle watch;
  };

  runtime::Task<void> look_up();
  runtime::Task<Answer> ask();
  void take(Answer answer);
  void take_instance(const std::string& json);
  void changed();

  runtime::Loop& loop_;
  coordination::Client& coordination_;
  runtime::TaskGroup& tasks_;
  const std::string domain_;
  const std::string service_;
  const std::function<void()> on_news_;

  std::optional<Known> known_;
  std::optional<Error> absence_;
  coordination::WatchHandle watch_;
  bool watching_ = false;  // watch_ has not fired yet
  bool fired_ = false;     // the watch of the lookup under way has
  bool looking_up_ = false;
  bool stopped_ = false;
  runtime::Event ended_;  // a lookup has
};

}  // namespace datom::rpc

// A volume's limits: requests and bytes a second, kept by letting requests of clients wait where
// the leader admits them. Sessions that wait take turns.
#pragma once

#include <coroutine>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>

#include "protocol/records.h"
#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::volume {

// Belongs to one loop.
class Throttle {
 public:
  explicit Throttle(runtime::Loop& loop);
  // Nobody may wait.
  ~Throttle();

  // From now on; those that wait go by the new ones.
  void set(const protocol::Limits& limits);
  bool limited() const { return requests_.interval.count() > 0 || bytes_.per_unit > 0; }

  // Returns when the request may go. REQUIRES: limited().
  runtime::Task<void> admit(Op session, std::uint64_t bytes);
  // All that wait go at once: they are about to be refused.
  void abandon();

 private:
  // What may be used up: full, it lasts for the burst; a request may go while it is not empty, and
  // may leave a debt.
  struct Bucket {
    runtime::Duration interval{};  // of one request
    double per_unit = 0;           // nanoseconds of one byte
    runtime::Time level{};         // empty until then

    void use(runtime::Time now, runtime::Duration burst, runtime::Duration cost);
  };
  struct Waiting {
    std::uint64_t bytes = 0;
    std::coroutine_handle<> task;
  };

  runtime::Time free_at() const;
  void pump();
  void let_go(const Waiting& waiting);

  runtime::Loop& loop_;
  runtime::Duration burst_{};
  Bucket requests_;
  Bucket bytes_;
  std::map<Op, std::deque<Waiting>> waiting_;  // by session
  Op last_;                                    // session that had the last turn
  std::optional<runtime::Loop::TimerId> timer_;
};

}  // namespace datom::volume

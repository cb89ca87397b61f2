// The real loop: one thread that waits in io_uring, or in epoll where the kernel refuses that.
#pragma once

#include <memory>
#include <string>

#include "runtime/loop.h"
#include "runtime/task.h"

namespace datom::runtime {

class Poller;
class Ring;

class EventLoop final : public Loop {
 public:
  enum class Waiting { automatic, epoll };

  explicit EventLoop(Waiting waiting = Waiting::automatic);
  ~EventLoop() override;

  void post(std::function<void()> callback) override;
  bool is_current() const override;
  Time now() const override;
  std::chrono::system_clock::time_point wall_now() const override;
  TimerId start_timer(Time deadline, std::function<void()> callback) override;
  bool cancel_timer(TimerId timer) override;

  // Runs callbacks on the calling thread until stop(); with nothing to do it waits. Always on the
  // same thread.
  void run();
  // run() returns after the callback under way. From any thread.
  void stop();
  // Runs the loop on the calling thread until `task` ends; throws what it throws.
  void run(Task<void> task);

  // For the sockets and files of this folder only.
  Poller& poller();
  // nullptr where it waits by epoll; `why` then says why.
  Ring* ring(std::string* why);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Randomness from the operating system's generator, seeded once.
class SystemRandom final : public Random {
 public:
  SystemRandom();
  std::uint64_t next() override;

 private:
  std::uint64_t state_[4];  // xoshiro256**
};

}  // namespace datom::runtime

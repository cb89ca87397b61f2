// The real loop: one thread, epoll (Boost.Asio) for sockets and timers.
#pragma once

#include <memory>

#include "runtime/loop.h"
#include "runtime/task.h"

namespace boost::asio {
class io_context;
}

namespace datom::runtime {

class EventLoop final : public Loop {
 public:
  EventLoop();
  ~EventLoop() override;

  void post(std::function<void()> callback) override;
  bool is_current() const override;
  Time now() const override;
  std::chrono::system_clock::time_point wall_now() const override;
  TimerId start_timer(Time deadline, std::function<void()> callback) override;
  bool cancel_timer(TimerId timer) override;

  // Runs callbacks on the calling thread until stop(); with nothing to do it waits.
  void run();
  // run() returns after the callback under way. From any thread.
  void stop();
  // Runs the loop on the calling thread until `task` ends; throws what it throws.
  void run(Task<void> task);

  // For the sockets and descriptors of this folder only.
  boost::asio::io_context& context();

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

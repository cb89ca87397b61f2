// One io_uring of a loop, for its sockets and files: all that was begun in one turn of the loop
// goes to the kernel in one system call, the one that waits.
#pragma once

#include <liburing.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "runtime/poller.h"

namespace datom::runtime {

class Ring final : public Poller {
 public:
  // nullptr where the kernel refuses io_uring or lacks what is needed; `why` then says so.
  static std::unique_ptr<Ring> make(std::string* why);
  ~Ring() override;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  struct Operation {
    io_uring_sqe what{};
    int result = 0;  // as the kernel gives it: negative errno
    std::coroutine_handle<> waiter;
    std::size_t* left = nullptr;  // of those that `waiter` waits for together
    unsigned flags = 0;           // of the completion
    bool of_file = false;
  };

  // co_await: queues the operation on a file, gives its result.
  auto perform(const io_uring_sqe& what) {
    struct Awaiter {
      Ring& ring;
      Operation operation;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> waiter) {
        operation.waiter = waiter;
        ring.queue_of_file(operation);
      }
      int await_resume() const noexcept { return operation.result; }
    };
    return Awaiter{*this, {what, 0, {}, nullptr, 0, true}};
  }

  // co_await: queues all of them, resumes once when all have their results. At least one.
  auto perform_all(std::span<Operation> operations) {
    struct Awaiter {
      Ring& ring;
      std::span<Operation> operations;
      std::size_t left;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> waiter) {
        for (Operation& operation : operations) {
          operation.waiter = waiter;
          operation.left = &left;
          ring.queue_of_file(operation);
        }
      }
      void await_resume() const noexcept {}
    };
    return Awaiter{*this, operations, operations.size()};
  }

  std::unique_ptr<Socket> watch(int descriptor, Kind kind) override;
  void on_readable(int descriptor, std::function<void()> callback) override;
  void begin() override;
  void end() override;
  void turn(bool wait, const std::atomic<bool>& stopping) override;

 private:
  class RingSocket;
  // A descriptor of on_readable().
  struct Signal {
    int descriptor;
    std::function<void()> callback;
  };

  Ring(const io_uring& ring, bool has_poll_first) : ring_(ring), has_poll_first_(has_poll_first) {}

  void queue(const io_uring_sqe& what);
  void queue(Operation& operation);
  void queue_of_file(Operation& operation);
  void queue(Signal& signal);
  // Ends an operation that was queued, unless it has ended by itself.
  void queue_cancel(Operation& operation);

  bool try_submission(const io_uring_sqe& what);
  void fill_submissions();
  // Gives the kernel what is queued; whether it has taken everything.
  bool submit_now();
  void enter(bool wait);
  bool kernel_has_news() const;
  void complete(std::uint64_t data, int result, unsigned flags);

  io_uring ring_;
  const bool has_poll_first_;  // and tells whether a socket has more to read
  bool registered_ = false;    // with the thread that is inside begin() and end()
  std::thread::id runner_;     // only this thread may submit

  // What found no place in the submission queue, or is one operation on a file too many.
  std::deque<io_uring_sqe> waiting_;      // at most a few for each socket
  std::deque<Operation*> waiting_files_;  // as many as tasks wait
  std::size_t files_in_flight_ = 0;
  std::vector<std::unique_ptr<Signal>> signals_;
};

}  // namespace datom::runtime

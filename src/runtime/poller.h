// How an EventLoop waits: for sockets, and for what else the kernel does for it. Two of them:
// io_uring (ring.h), and epoll where the kernel refuses that (epoll_poller.h). For this folder
// only.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <coroutine>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "common/bytes.h"

namespace datom::runtime {

// A descriptor that tasks of a loop wait on. One reading and one writing operation may be under way
// at once. Each operation is begun with the task that waits for it: true says that it has ended
// already, otherwise a turn of the loop resumes the task. Then read_result() or write_result() is
// what the system call would give: a count, or a negative errno.
class Socket {
 public:
  // Closes the descriptor. REQUIRES: nothing is under way.
  virtual ~Socket() = default;

  virtual bool receive(std::coroutine_handle<> task, MutableBytes into) = 0;
  // Perhaps not all. The vectors and what they point to must live until it has ended.
  virtual bool send(std::coroutine_handle<> task, std::span<const iovec> from) = 0;
  // The result is 0 or more once the descriptor is readable (as reading) or writable (as writing).
  virtual bool wait_readable(std::coroutine_handle<> task) = 0;
  virtual bool wait_writable(std::coroutine_handle<> task) = 0;
  virtual int read_result() const = 0;
  virtual int write_result() const = 0;

  // What is under way ends soon, and nothing may begin. Idempotent.
  virtual void close() = 0;
  virtual bool is_open() const = 0;
  // REQUIRES: is_open().
  virtual int descriptor() const = 0;
  // The caller closes it. REQUIRES: is_open(), and nothing is under way.
  virtual int release() = 0;
};

// Belongs to one loop.
class Poller {
 public:
  virtual ~Poller() = default;

  // Takes over a socket. Whether a stream's descriptor blocks is up to the poller; a listener's
  // never does.
  enum class Kind { stream, listener };
  virtual std::unique_ptr<Socket> watch(int descriptor, Kind kind) = 0;
  // Runs `callback` in a turn whenever a descriptor that is no socket becomes readable. It need not
  // be read; it must outlive the poller. At most a few.
  virtual void on_readable(int descriptor, std::function<void()> callback) = 0;

  // Around the turns of one thread.
  virtual void begin() {}
  virtual void end() {}
  // Resumes the tasks whose operations have ended, as far as `stopping` stays false. With `wait`:
  // waits for one of them, or for a descriptor of on_readable(), if there is none yet.
  virtual void turn(bool wait, const std::atomic<bool>& stopping) = 0;
};

}  // namespace datom::runtime

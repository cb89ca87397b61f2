// A real loop on a thread of its own, with its sockets and files.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "runtime/event_loop.h"
#include "runtime/file.h"
#include "runtime/network.h"
#include "service/seams.h"

namespace datom::service {

class LoopThread {
 public:
  // `file_access` tells how files are reached: "io_uring", or "threads: WHY".
  explicit LoopThread(std::string* file_access);
  // Ends the loop and joins the thread. What was made on the loop must be gone.
  ~LoopThread();
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;

  LoopSeams seams();

 private:
  runtime::EventLoop loop_;
  runtime::SystemRandom random_;
  std::unique_ptr<runtime::Network> network_;
  std::unique_ptr<runtime::Filesystem> files_;
  std::thread thread_;
};

}  // namespace datom::service

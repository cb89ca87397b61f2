#include "service/loop_thread.h"

#include "runtime/socket_network.h"
#include "runtime/thread_files.h"

namespace datom::service {

LoopThread::LoopThread(std::string* file_access)
    : network_(runtime::make_network(loop_)),
      files_(runtime::make_filesystem(loop_, file_access)),
      thread_([this] { loop_.run(); }) {}

LoopThread::~LoopThread() {
  loop_.stop();
  thread_.join();
}

LoopSeams LoopThread::seams() {
  return {&loop_, network_.get(), files_.get(), &random_};
}

}  // namespace datom::service

#include "runtime/thread_pool.h"

#include <pthread.h>

#include <csignal>

#include "common/check.h"

namespace datom::runtime {

// Signals are for the program's own threads.
ThreadPool::ThreadPool(EventLoop& loop, std::size_t threads) : loop_(loop) {
  DATOM_CHECK(threads > 0);
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { serve(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    DATOM_CHECK(jobs_.empty());
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::enqueue(Job job) {
  {
    std::lock_guard lock(mutex_);
    jobs_.push_back(job);
  }
  changed_.notify_one();
}

void ThreadPool::serve() {
  for (;;) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    const Job job = jobs_.front();
    jobs_.pop_front();
    lock.unlock();
    (*job.work)();
    loop_.post([waiter = job.waiter] { waiter.resume(); });
  }
}

}  // namespace datom::runtime

#include "block_store/concurrently.h"

#include <algorithm>
#include <exception>

#include "runtime/task_group.h"

namespace datom::block_store {
namespace {

using Job = std::function<runtime::Task<void>(std::size_t)>;

struct Progress {
  const Job& job;
  std::size_t count;
  std::size_t next = 0;
  std::exception_ptr error;
};

runtime::Task<void> work(Progress* progress) {
  while (progress->next < progress->count && !progress->error) {
    co_await progress->job(progress->next++);
  }
}

}  // namespace

runtime::Task<void> run_concurrently(runtime::Loop& loop, std::size_t count, std::size_t limit,
                                     Job job) {
  if (count == 1) {
    co_await job(0);
    co_return;
  }
  Progress progress{job, count, 0, nullptr};
  runtime::TaskGroup workers(loop, [&progress](std::exception_ptr error) {
    if (!progress.error) progress.error = error;
  });
  for (std::size_t worker = 0; worker < std::min(count, limit); ++worker) {
    workers.spawn(work(&progress));
  }
  co_await workers.close();
  if (progress.error) std::rethrow_exception(progress.error);
}

}  // namespace datom::block_store

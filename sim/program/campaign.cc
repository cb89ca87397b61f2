#include "sim/program/campaign.h"

#include <fmt/core.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

namespace datom::sim {
namespace {

// Every 20th seed, whatever their order: the same ones each time.
bool runs_twice(std::uint64_t seed) {
  return seed % 20 == 0;
}

// One line that is written over and over, on a terminal only.
class Progress {
 public:
  explicit Progress(std::size_t all) : all_(all), shown_(::isatty(STDERR_FILENO) == 1) {}
  ~Progress() { clear(); }

  void show(const Total& total) const {
    if (!shown_) return;
    const std::size_t filled = all_ == 0 ? kWidth : total.seeds * kWidth / all_;
    fmt::print(stderr, "\r[{:<{}}] {} of {} seeds, {} failed ", std::string(filled, '='), kWidth,
               total.seeds, all_, total.failed);
    std::fflush(stderr);
  }
  void clear() const {
    if (shown_) fmt::print(stderr, "\r\033[K");
  }

 private:
  static constexpr std::size_t kWidth = 30;
  std::size_t all_;
  bool shown_;
};

}  // namespace

void Total::add(const Result& result) {
  ++seeds;
  if (runs_twice(result.seed)) ++twice;
  if (result.outcome.failure) ++failed;
  acknowledged += result.outcome.acknowledged;
  reads += result.outcome.reads;
  terms += result.outcome.terms;
  virtual_time += result.outcome.virtual_time;
  for (const auto& [fault, many] : result.outcome.injected) injected[fault] += many;
}

std::string Total::text() const {
  const double hours = std::chrono::duration<double, std::ratio<3600>>(virtual_time).count();
  std::string text = fmt::format(
      "{} seeds, {} failed ({} run twice and compared)\n"
      "{:.2f} simulated hours, {} writes acknowledged, {} blocks read, {} elections\n",
      seeds, failed, twice, hours, acknowledged, reads, terms);
  if (injected.empty()) return text;
  text += "faults injected:\n";
  for (const auto& [fault, many] : injected) text += fmt::format("{:>12}  {}\n", many, fault);
  return text;
}

Total run_seeds(const std::vector<std::uint64_t>& seeds, const Options& options, std::size_t jobs,
                bool first_failure) {
  Total total;
  const Progress progress(seeds.size());
  std::vector<std::unique_ptr<Child>> running;
  std::size_t next = 0;
  bool stopping = false;
  while ((!stopping && next < seeds.size()) || !running.empty()) {
    while (!stopping && next < seeds.size() && running.size() < jobs) {
      const std::uint64_t seed = seeds[next++];
      running.push_back(std::make_unique<Child>(seed, options, runs_twice(seed)));
    }
    std::vector<pollfd> events;
    for (const auto& child : running) events.push_back({child->fd(), POLLIN, 0});
    ::poll(events.data(), events.size(), 1000);
    for (std::size_t i = running.size(); i-- > 0;) {
      const bool all = events[i].revents != 0 && running[i]->take();
      if (!all && !running[i]->overdue()) continue;
      const Result result = running[i]->result();
      running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
      total.add(result);
      if (!result.outcome.failure) continue;
      progress.clear();
      fmt::print("seed {}: {:.300}\n", result.seed, *result.outcome.failure);
      std::fflush(stdout);
      stopping = first_failure;
    }
    progress.show(total);
  }
  return total;
}

}  // namespace datom::sim

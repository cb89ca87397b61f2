#include "sim/history.h"

#include <fmt/core.h>

#include <algorithm>

namespace datom::sim {
namespace {

// A write and the reads that show it. All of them lie, on the line that explains the history,
// between this write and the next one.
struct Cluster {
  Value value = 0;
  Moment write_begin{};
  Moment first_end = Moment::max();   // the earliest end of any of them
  Moment last_begin = Moment::min();  // the latest begin

  bool forward() const { return first_end < last_begin; }
  Moment low() const { return std::min(first_end, last_begin); }
  Moment high() const { return std::max(first_end, last_begin); }
};

std::string text(const Cluster& cluster) {
  return fmt::format("value {} between {} and {} ns", cluster.value, cluster.low().count(),
                     cluster.high().count());
}

// Forward zones: the value was certainly there from low to high, so no two overlap; a backward zone
// inside a forward one has no place for its write. At its very beginning it has: what ends and what
// begins at one instant may be in any order.
std::optional<std::string> conflict(std::vector<Cluster> clusters) {
  std::sort(clusters.begin(), clusters.end(),
            [](const Cluster& a, const Cluster& b) { return a.low() < b.low(); });
  const Cluster* forward = nullptr;  // of those so far, the one that reaches furthest
  for (const Cluster& cluster : clusters) {
    if (forward != nullptr) {
      const bool overlap = cluster.forward() && cluster.low() < forward->high();
      const bool inside =
          !cluster.forward() && cluster.low() > forward->low() && cluster.high() < forward->high();
      if (overlap || inside) return text(*forward) + " and " + text(cluster);
    }
    if (cluster.forward() && (forward == nullptr || cluster.high() > forward->high())) {
      forward = &cluster;
    }
  }
  return std::nullopt;
}

}  // namespace

History::Handle History::write_begins(std::uint64_t block, Value value, Moment now) {
  writes_.push_back({block, value, now, std::nullopt, std::nullopt});
  return writes_.size() - 1;
}

void History::write_ends(Handle write, Moment now) {
  writes_[write].end = now;
  ++acknowledged_;
}

void History::takes_effect_by(Handle write, Moment by) {
  std::optional<Moment>& bound = writes_[write].by;
  bound = bound ? std::min(*bound, by) : by;
}

void History::read(std::uint64_t block, Value value, Moment begin, Moment end) {
  reads_.push_back({block, value, begin, end});
}

std::optional<std::string> History::violation() const {
  std::map<std::uint64_t, std::map<Value, Cluster>> blocks;
  std::map<std::uint64_t, std::map<Value, bool>> seen;  // acknowledged, or read
  for (const Write& write : writes_) {
    Cluster& cluster = blocks[write.block][write.value];
    cluster.value = write.value;
    cluster.write_begin = write.begin;
    cluster.last_begin = write.begin;
    cluster.first_end = write.end.value_or(write.by.value_or(Moment::max()));
    seen[write.block][write.value] = write.end.has_value();
  }
  for (const Read& read : reads_) {
    auto& clusters = blocks[read.block];
    if (read.value == 0 && !clusters.contains(0)) {
      clusters[0] = Cluster{0, Moment::min(), Moment::min(), Moment::min()};
    }
    const auto found = clusters.find(read.value);
    if (found == clusters.end()) {
      return fmt::format("block {}: a read showed value {}, which nobody wrote", read.block,
                         read.value);
    }
    Cluster& cluster = found->second;
    if (read.end < cluster.write_begin) {
      return fmt::format("block {}: a read showed value {} before it was written", read.block,
                         read.value);
    }
    cluster.first_end = std::min(cluster.first_end, read.end);
    cluster.last_begin = std::max(cluster.last_begin, read.begin);
    seen[read.block][read.value] = true;
  }
  for (const auto& [block, clusters] : blocks) {
    std::vector<Cluster>
        certain;  // a write of unknown outcome that nobody saw may not have happened
    for (const auto& [value, cluster] : clusters) {
      if (value == 0 || seen[block][value]) certain.push_back(cluster);
    }
    if (const auto what = conflict(std::move(certain))) {
      return fmt::format("block {}: no order explains {}", block, *what);
    }
  }
  return std::nullopt;
}

std::string History::of_block(std::uint64_t block) const {
  std::multimap<Moment, std::string> lines;
  for (const Write& write : writes_) {
    if (write.block != block) continue;
    std::string end = write.end ? fmt::format("{}", write.end->count()) : "unknown";
    if (!write.end && write.by) end += fmt::format(", not after {}", write.by->count());
    lines.emplace(write.begin,
                  fmt::format("{} to {} write {}", write.begin.count(), end, write.value));
  }
  for (const Read& read : reads_) {
    if (read.block != block) continue;
    lines.emplace(read.begin, fmt::format("{} to {} read {}", read.begin.count(), read.end.count(),
                                          read.value));
  }
  std::string text;
  for (const auto& [begin, line] : lines) text += line + "\n";
  return text;
}

}  // namespace datom::sim

// Metrics in the Prometheus text format, each with a help text and a unit in its name.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

namespace datom::telemetry {

using Labels = std::map<std::string, std::string>;

// Only goes up. Cheap and thread-safe.
class Counter {
 public:
  virtual ~Counter() = default;
  virtual void add(double amount = 1) = 0;
};
class Gauge {
 public:
  virtual ~Gauge() = default;
  virtual void set(double value) = 0;
};
// Distribution of durations in seconds; buckets from 10 us to 10 s.
class Histogram {
 public:
  virtual ~Histogram() = default;
  virtual void observe(double seconds) = 0;
};

// All metrics of one process. Thread-safe. Handles must be destroyed before the registry; a series
// vanishes from the page with its handle.
class Metrics {
 public:
  Metrics();
  ~Metrics();

  std::unique_ptr<Counter> counter(const std::string& name, const std::string& help,
                                   const Labels& labels = {});
  std::unique_ptr<Gauge> gauge(const std::string& name, const std::string& help,
                               const Labels& labels = {});
  std::unique_ptr<Histogram> histogram(const std::string& name, const std::string& help,
                                       const Labels& labels = {});
  // The page of /metrics.
  std::string text() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace datom::telemetry

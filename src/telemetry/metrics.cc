#include "telemetry/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <mutex>
#include <sstream>
#include <utility>

namespace datom::telemetry {
namespace {

const prometheus::Histogram::BucketBoundaries& duration_buckets() {
  static const prometheus::Histogram::BucketBoundaries buckets = {
      10e-6, 20e-6, 50e-6,  100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3,
      20e-3, 50e-3, 100e-3, 200e-3, 500e-3, 1.0,    2.0,  5.0,  10.0};
  return buckets;
}

}  // namespace

struct Metrics::Impl {
  prometheus::Registry registry;
  std::mutex mutex;
  std::map<const void*, std::size_t> handles;  // guarded by mutex: how many share a series
};

namespace {

// A handle's hold on its series; the last one removes it from the page.
template <typename Series>
class Hold {
 public:
  template <typename... Arguments>
  Hold(Metrics::Impl& metrics, prometheus::Family<Series>& family, const Labels& labels,
       Arguments&&... arguments)
      : metrics_(metrics), family_(family) {
    std::lock_guard lock(metrics_.mutex);
    series_ = &family_.Add(labels, std::forward<Arguments>(arguments)...);
    ++metrics_.handles[series_];
  }
  ~Hold() {
    std::lock_guard lock(metrics_.mutex);
    const auto found = metrics_.handles.find(series_);
    if (--found->second > 0) return;
    metrics_.handles.erase(found);
    family_.Remove(series_);
  }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

  Series* operator->() const { return series_; }

 private:
  Metrics::Impl& metrics_;
  prometheus::Family<Series>& family_;
  Series* series_;
};

class PrometheusCounter final : public Counter {
 public:
  template <typename... Arguments>
  explicit PrometheusCounter(Arguments&&... arguments)
      : series_(std::forward<Arguments>(arguments)...) {}
  void add(double amount) override { series_->Increment(amount); }

 private:
  Hold<prometheus::Counter> series_;
};

class PrometheusGauge final : public Gauge {
 public:
  template <typename... Arguments>
  explicit PrometheusGauge(Arguments&&... arguments)
      : series_(std::forward<Arguments>(arguments)...) {}
  void set(double value) override { series_->Set(value); }

 private:
  Hold<prometheus::Gauge> series_;
};

class PrometheusHistogram final : public Histogram {
 public:
  template <typename... Arguments>
  explicit PrometheusHistogram(Arguments&&... arguments)
      : series_(std::forward<Arguments>(arguments)...) {}
  void observe(double seconds) override { series_->Observe(seconds); }

 private:
  Hold<prometheus::Histogram> series_;
};

}  // namespace

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

std::unique_ptr<Counter> Metrics::counter(const std::string& name, const std::string& help,
                                          const Labels& labels) {
  auto& family = prometheus::BuildCounter().Name(name).Help(help).Register(impl_->registry);
  return std::make_unique<PrometheusCounter>(*impl_, family, labels);
}

std::unique_ptr<Gauge> Metrics::gauge(const std::string& name, const std::string& help,
                                      const Labels& labels) {
  auto& family = prometheus::BuildGauge().Name(name).Help(help).Register(impl_->registry);
  return std::make_unique<PrometheusGauge>(*impl_, family, labels);
}

std::unique_ptr<Histogram> Metrics::histogram(const std::string& name, const std::string& help,
                                              const Labels& labels) {
  auto& family = prometheus::BuildHistogram().Name(name).Help(help).Register(impl_->registry);
  return std::make_unique<PrometheusHistogram>(*impl_, family, labels, duration_buckets());
}

std::string Metrics::text() const {
  std::ostringstream page;
  prometheus::TextSerializer().Serialize(page, impl_->registry.Collect());
  return page.str();
}

}  // namespace datom::telemetry

#include "telemetry/metrics.h"

#include <gmock/gmock.h>

#include <thread>
#include <vector>

namespace datom::telemetry {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Metrics, ThePageShowsHelpTypeLabelsAndValue) {
  Metrics metrics;
  const auto writes = metrics.counter("datom_writes_total", "Writes served.", {{"volume", "db"}});
  const auto lag = metrics.gauge("datom_lag_ops", "Ops behind the leader.");
  writes->add();
  writes->add(2);
  lag->set(7);
  lag->set(5);
  const std::string page = metrics.text();
  EXPECT_THAT(page, HasSubstr("# HELP datom_writes_total Writes served.\n"
                              "# TYPE datom_writes_total counter\n"
                              "datom_writes_total{volume=\"db\"} 3\n"));
  EXPECT_THAT(page, HasSubstr("# TYPE datom_lag_ops gauge\ndatom_lag_ops 5\n"));
}

TEST(Metrics, AHistogramCountsFromTenMicrosecondsToTenSeconds) {
  Metrics metrics;
  const auto latency = metrics.histogram("datom_write_seconds", "Time of a write.");
  latency->observe(5e-6);
  latency->observe(1.5e-3);
  latency->observe(60);
  const std::string page = metrics.text();
  EXPECT_THAT(page, HasSubstr("datom_write_seconds_bucket{le=\"1e-05\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("datom_write_seconds_bucket{le=\"0.001\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("datom_write_seconds_bucket{le=\"0.002\"} 2\n"));
  EXPECT_THAT(page, HasSubstr("datom_write_seconds_bucket{le=\"10\"} 2\n"));
  EXPECT_THAT(page, HasSubstr("datom_write_seconds_bucket{le=\"+Inf\"} 3\n"));
  EXPECT_THAT(page, HasSubstr("datom_write_seconds_count 3\n"));
}

TEST(Metrics, ASeriesVanishesWithItsHandle) {
  Metrics metrics;
  const auto stays = metrics.gauge("datom_size_bytes", "Size.", {{"volume", "a"}});
  auto goes = metrics.gauge("datom_size_bytes", "Size.", {{"volume", "b"}});
  EXPECT_THAT(metrics.text(), HasSubstr("volume=\"b\""));
  goes.reset();
  EXPECT_THAT(metrics.text(), Not(HasSubstr("volume=\"b\"")));
  EXPECT_THAT(metrics.text(), HasSubstr("volume=\"a\""));
}

TEST(Metrics, HandlesOfOneSeriesShareIt) {
  Metrics metrics;
  auto first = metrics.counter("datom_errors_total", "Errors.");
  const auto second = metrics.counter("datom_errors_total", "Errors.");
  first->add();
  second->add();
  first.reset();
  second->add();
  EXPECT_THAT(metrics.text(), HasSubstr("datom_errors_total 3\n"));
}

TEST(Metrics, LabelValuesAreEscaped) {
  Metrics metrics;
  const auto gauge = metrics.gauge("datom_up", "Up.", {{"service", "a\"b\\c\nd"}});
  EXPECT_THAT(metrics.text(), HasSubstr(R"(datom_up{service="a\"b\\c\nd"} 0)"));
}

TEST(Metrics, ThreadsMayCountAndComeAndGoWhileThePageIsRead) {
  Metrics metrics;
  const auto total = metrics.counter("datom_total", "Total.");
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 500; ++j) {
        total->add();
        metrics.gauge("datom_part", "Part.", {{"n", std::to_string(j % 7)}})->set(j);
      }
    });
  }
  for (int i = 0; i < 50; ++i) metrics.text();
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(metrics.text(), HasSubstr("datom_total 1000\n"));
  EXPECT_THAT(metrics.text(), Not(HasSubstr("datom_part")));
}

}  // namespace
}  // namespace datom::telemetry

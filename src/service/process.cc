#include "service/process.h"

#include <unistd.h>

#include <algorithm>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

#include "common/error.h"
#include "hardware/hardware.h"
#include "service/config_node.h"
#include "service/file_lock.h"
#include "service/launch.h"
#include "service/loop_thread.h"
#include "service/sessions.h"
#include "service/volume_service.h"

namespace datom::service {
namespace {

using protocol::ServiceType;

constexpr unsigned kMaxLoops = 8;
constexpr int kEndedBySecondSignal = 130;

// How a launched task ended, told from its loop to the main thread.
class Ending {
 public:
  void set(std::exception_ptr error) {
    const std::lock_guard guard(mutex_);
    error_ = std::move(error);
    ended_ = true;
  }
  bool ended() const {
    const std::lock_guard guard(mutex_);
    return ended_;
  }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  mutable std::mutex mutex_;
  bool ended_ = false;
  std::exception_ptr error_;
};

class Run {
 public:
  Run(Service& service, runtime::Loop& loop, Signals& signals, const telemetry::Log& log)
      : service_(service), loop_(loop), signals_(signals), log_(log) {}

  // Waits until the task has ended, minding signals.
  void finish(runtime::Task<void> task, Ending& ending) {
    launch(loop_, std::move(task), [this, &ending](std::exception_ptr error) {
      ending.set(std::move(error));
      signals_.notify();
    });
    while (!ending.ended()) take_event();
  }
  void wait_for_signal() {
    while (!stopping_) take_event();
  }

 private:
  void take_event() {
    if (!signals_.wait()) return;
    if (stopping_) {
      log_.warn("process.end", {}, "second signal: ends at once");
      _exit(kEndedBySecondSignal);
    }
    stopping_ = true;
    log_.info("service.stopping", {});
    loop_.post([this] { service_.interrupt(); });
  }

  Service& service_;
  runtime::Loop& loop_;
  Signals& signals_;
  const telemetry::Log& log_;
  bool stopping_ = false;
};

std::uint32_t loop_count(ServiceType type, std::uint32_t wanted) {
  if (type == ServiceType::config_service) return 1;
  if (wanted != 0) return wanted;
  return std::clamp(std::thread::hardware_concurrency(), 1u, kMaxLoops);
}

std::unique_ptr<Service> make_service(ServiceType type, Seams seams, ServiceOptions options) {
  if (type == ServiceType::config_service) {
    return make_config_node(std::move(seams), std::move(options));
  }
  return make_volume_service(std::move(seams), std::move(options));
}

}  // namespace

Seams real_seams(std::vector<LoopSeams> loops, telemetry::Metrics& metrics, telemetry::Log log) {
  Seams seams;
  seams.loops = std::move(loops);
  seams.open_session = [](const CoordinationUrl& url, std::chrono::milliseconds timeout) {
    if (url.kind != CoordinationUrl::Kind::zookeeper) {
      throw Error(Code::invalid_argument, "a service needs ZooKeeper, found coordination '{}'",
                  url.to_string());
    }
    return open_zookeeper_session(url.target, timeout);
  };
  seams.lock = [](const std::string& path, const std::string& what) -> Lock {
    return std::make_shared<FileLock>(path, what);
  };
  seams.pid = getpid();
  seams.memory_bytes = hardware::memory_bytes();
  seams.metrics = &metrics;
  seams.log = std::move(log);
  return seams;
}

void run_until_stopped(Service& service, runtime::Loop& loop, Signals& signals,
                       const telemetry::Log& log, const std::function<void()>& up) {
  Run run(service, loop, signals, log);
  Ending start;
  run.finish(service.start(), start);
  std::exception_ptr failure;
  try {
    start.rethrow();
    up();
    run.wait_for_signal();
  } catch (...) {
    failure = std::current_exception();
  }
  Ending stop;
  run.finish(service.stop(), stop);
  if (failure) std::rethrow_exception(failure);
  stop.rethrow();
}

void run_service_process(ServiceType type, ServiceOptions options, int ready_fd) {
  ReadinessReport readiness(ready_fd);
  try {
    Signals signals;
    const telemetry::Log log =
        telemetry::Log::to_stderr(telemetry::Level::info).with({"service", options.service_name});
    telemetry::Metrics metrics;
    std::vector<std::unique_ptr<LoopThread>> threads;
    std::vector<LoopSeams> loops;
    std::string file_access;
    for (std::uint32_t i = 0; i < loop_count(type, options.loops); ++i) {
      threads.push_back(std::make_unique<LoopThread>(&file_access));
      loops.push_back(threads.back()->seams());
    }
    log.info("service.starting", {{"type", name(type)},
                                  {"root", options.root},
                                  {"pid", getpid()},
                                  {"loops", loops.size()},
                                  {"files", file_access}});
    const auto service = make_service(type, real_seams(loops, metrics, log), options);
    run_until_stopped(*service, *loops[0].loop, signals, log, [&log, &readiness] {
      log.info("service.up", {});
      readiness.up();
    });
    log.info("service.stopped", {});
  } catch (const Error& error) {
    readiness.failed(error);
    throw;
  }
}

}  // namespace datom::service

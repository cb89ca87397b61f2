// Exports whose operations a test can hold back, fail and count.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "nbd/export.h"
#include "nbd/memory_export.h"
#include "runtime/wait.h"

namespace datom::nbd::testing {

struct Control {
  explicit Control(runtime::Loop& loop) : changed(loop) {}

  void hold() { held = true; }
  void let_go() {
    held = false;
    changed.wake_all();
  }

  bool held = false;             // operations wait
  std::optional<Error> failure;  // operations fail
  std::optional<Error> open_failure;
  std::size_t running = 0;
  std::size_t most_running = 0;
  std::size_t started = 0;
  std::size_t opened = 0;
  std::size_t closed = 0;
  std::size_t flushed = 0;
  runtime::Event changed;
};

class ControlledExport final : public Export {
 public:
  ControlledExport(Control& control, std::unique_ptr<Export> inner)
      : control_(control), inner_(std::move(inner)) {
    ++control_.opened;
  }

  const ExportInfo& info() const override { return inner_->info(); }
  runtime::Task<Buffer> read(std::uint64_t offset, std::uint32_t length) override {
    co_await enter();
    Buffer data = co_await inner_->read(offset, length);
    leave();
    co_return data;
  }
  runtime::Task<void> write(std::uint64_t offset, Buffer data) override {
    co_await enter();
    co_await inner_->write(offset, std::move(data));
    leave();
  }
  runtime::Task<void> trim(std::uint64_t offset, std::uint64_t length) override {
    co_await enter();
    co_await inner_->trim(offset, length);
    leave();
  }
  runtime::Task<void> write_zeroes(std::uint64_t offset, std::uint64_t length,
                                   bool keep_allocated) override {
    co_await enter();
    co_await inner_->write_zeroes(offset, length, keep_allocated);
    leave();
  }
  runtime::Task<void> flush() override {
    co_await enter();
    ++control_.flushed;
    leave();
  }
  runtime::Task<std::vector<StatusExtent>> block_status(std::uint64_t offset, std::uint64_t length,
                                                        std::size_t max_extents) override {
    co_await enter();
    std::vector<StatusExtent> extents = co_await inner_->block_status(offset, length, max_extents);
    leave();
    co_return extents;
  }
  runtime::Task<void> close() override {
    ++control_.closed;
    closed_ = true;
    control_.changed.wake_all();
    while (control_.running > 0) co_await control_.changed.wait();
    co_await inner_->close();
  }

 private:
  runtime::Task<void> enter() {
    ++control_.started;
    ++control_.running;
    control_.most_running = std::max(control_.most_running, control_.running);
    while (control_.held && !closed_) co_await control_.changed.wait();
    if (closed_ || control_.failure) {
      leave();
      throw control_.failure.value_or(Error(Code::closed, "the export is closed"));
    }
  }
  void leave() {
    --control_.running;
    control_.changed.wake_all();
  }

  Control& control_;
  std::unique_ptr<Export> inner_;
  bool closed_ = false;
};

class ControlledExports final : public Exports {
 public:
  ControlledExports(Control& control, MemoryExports& inner) : control_(control), inner_(inner) {}

  runtime::Task<std::vector<ExportInfo>> list() override { return inner_.list(); }
  runtime::Task<ExportInfo> describe(std::string name) override {
    return inner_.describe(std::move(name));
  }
  ExportPlace place(const std::string& name) override { return inner_.place(name); }
  runtime::Task<std::unique_ptr<Export>> open(std::string name) override {
    if (control_.open_failure) throw *control_.open_failure;
    std::unique_ptr<Export> opened = co_await inner_.open(std::move(name));
    co_return std::make_unique<ControlledExport>(control_, std::move(opened));
  }

 private:
  Control& control_;
  MemoryExports& inner_;
};

}  // namespace datom::nbd::testing

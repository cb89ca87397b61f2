#include "cli/progress.h"

#include <fmt/core.h>

#include <algorithm>
#include <ostream>
#include <thread>

namespace datom::cli {
namespace {

constexpr std::uint32_t kBarWidth = 30;
constexpr auto kPause = std::chrono::milliseconds(250);
constexpr auto kPatience = std::chrono::seconds(60);

bool may_pass(Code code) {
  switch (code) {
    case Code::unavailable:
    case Code::timeout:
    case Code::outcome_unknown:
    case Code::closed:
    case Code::session_expired:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::string bar(std::uint32_t percent) {
  percent = std::min(percent, 100u);
  const std::uint32_t filled = percent * kBarWidth / 100;
  return fmt::format("[{:<{}}] {:>3} %", std::string(filled, '#'), kBarWidth, percent);
}

Progress::~Progress() {
  if (!shown_.empty()) context_.terminal.err << "\r\033[K" << std::flush;
}

void Progress::show(const std::string& text) {
  if (!context_.terminal.interactive || text == shown_) return;
  shown_ = text;
  context_.terminal.err << "\r\033[K" << text << std::flush;
}

void Progress::show(std::uint32_t percent, const std::string& text) {
  show(bar(percent) + "  " + text);
}

void Patience::try_again_after(const Error& error) {
  const auto now = std::chrono::steady_clock::now();
  if (!failing_since_) failing_since_ = now;
  if (!may_pass(error.code()) || now - *failing_since_ > kPatience) throw error;
  pause();
}

void Patience::pause() {
  std::this_thread::sleep_for(kPause);
}

}  // namespace datom::cli

#include "telemetry/log.h"

#include <fmt/chrono.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <iterator>

namespace datom::telemetry {
namespace {

// Longer values and texts are cut: they may come from a peer.
constexpr std::size_t kMaxValue = 1024;
constexpr std::size_t kMaxText = 4096;
constexpr std::string_view kCut = "...";

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

void append_escaped(std::string& line, char c) {
  switch (c) {
    case '\n':
      line += "\\n";
      return;
    case '\r':
      line += "\\r";
      return;
    case '\t':
      line += "\\t";
      return;
    default:
      fmt::format_to(std::back_inserter(line), "\\x{:02x}", static_cast<unsigned char>(c));
  }
}

void append_text(std::string& line, std::string_view text) {
  for (char c : text.substr(0, kMaxText)) {
    if (is_control(c)) {
      append_escaped(line, c);
    } else {
      line += c;
    }
  }
  if (text.size() > kMaxText) line += kCut;
}

bool needs_quotes(std::string_view value) {
  const auto special = [](char c) {
    return c == ' ' || c == '"' || c == '=' || c == '\\' || is_control(c);
  };
  return value.empty() || std::ranges::any_of(value, special);
}

void append_quoted(std::string& line, std::string_view value) {
  line += '"';
  for (char c : value) {
    if (is_control(c)) {
      append_escaped(line, c);
      continue;
    }
    if (c == '"' || c == '\\') line += '\\';
    line += c;
  }
  line += '"';
}

void append_field(std::string& line, const Field& field) {
  line += ' ';
  line += field.key;
  line += '=';
  std::string cut;
  std::string_view value = field.value;
  if (value.size() > kMaxValue) {
    cut = std::string(value.substr(0, kMaxValue)) + std::string(kCut);
    value = cut;
  }
  if (needs_quotes(value)) {
    append_quoted(line, value);
  } else {
    line += value;
  }
}

std::string_view padded_name(Level level) {
  switch (level) {
    case Level::debug:
      return "debug";
    case Level::info:
      return "info ";
    case Level::warn:
      return "warn ";
    case Level::error:
      break;
  }
  return "error";
}

std::string wall_time() {
  const auto time = std::chrono::system_clock::now();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(time - seconds);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06}Z",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(seconds)), micros.count());
}

}  // namespace

// Immutable, hence thread-safe: each line is one system call.
struct Log::Sink {
  Level level;
  std::function<std::string()> time;

  void write(std::string_view line) const {
    while (!line.empty()) {
      const ssize_t count = ::write(STDERR_FILENO, line.data(), line.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return;  // nobody is left to hear about it
      line.remove_prefix(static_cast<std::size_t>(count));
    }
  }
};

Log Log::to_stderr(Level level) {
  return to_stderr(level, wall_time);
}

Log Log::to_stderr(Level level, std::function<std::string()> time) {
  Log log;
  log.sink_ = std::make_shared<Sink>(Sink{level, std::move(time)});
  return log;
}

Log Log::silent() {
  return {};
}

Log Log::with(Field field) const {
  Log log = *this;
  append_field(log.common_, field);
  return log;
}

void Log::write(Level level, std::string_view event, Fields fields, std::string_view text) const {
  if (sink_ == nullptr || level < sink_->level) return;
  std::string line = sink_->time();
  line += ' ';
  line += padded_name(level);
  line += ' ';
  append_text(line, event);
  line += common_;
  for (const Field& field : fields) append_field(line, field);
  if (!text.empty()) line += ' ';
  append_text(line, text);
  line += '\n';
  sink_->write(line);
}

void Log::debug(std::string_view event, Fields fields, std::string_view text) const {
  write(Level::debug, event, fields, text);
}
void Log::info(std::string_view event, Fields fields, std::string_view text) const {
  write(Level::info, event, fields, text);
}
void Log::warn(std::string_view event, Fields fields, std::string_view text) const {
  write(Level::warn, event, fields, text);
}
void Log::error(std::string_view event, Fields fields, std::string_view text) const {
  write(Level::error, event, fields, text);
}

}  // namespace datom::telemetry

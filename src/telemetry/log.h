// Logs: one line an event, key=value. Quiet when all is well.
//
//   log.warn("replica.divergent", {{"volume", name}, {"term", term}, {"op", op}}, "tail cut");
//   2026-03-01T12:00:00.123456Z warn  replica.divergent service=vs1 volume=db term=7 op=4711 tail
//   cut
#pragma once

#include <fmt/core.h>

#include <concepts>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>

namespace datom::telemetry {

enum class Level { debug, info, warn, error };

struct Field {
  Field(std::string_view key_, std::string value_) : key(key_), value(std::move(value_)) {}
  Field(std::string_view key_, std::string_view value_) : key(key_), value(value_) {}
  Field(std::string_view key_, const char* value_) : key(key_), value(value_) {}
  Field(std::string_view key_, bool value_) : key(key_), value(value_ ? "true" : "false") {}
  template <std::integral Integer>
    requires(!std::same_as<Integer, bool>)
  Field(std::string_view key_, Integer value_) : key(key_), value(std::to_string(value_)) {}
  template <typename Id>
    requires requires(Id id) {
      { id.value() } -> std::integral;
    }
  Field(std::string_view key_, Id id) : key(key_), value(std::to_string(id.value())) {}

  std::string_view key;  // a literal
  std::string value;     // quoted in the line when it has spaces, quotes or '='
};
using Fields = std::initializer_list<Field>;

// Thread-safe and cheap to copy.
class Log {
 public:
  // To standard error, lines of `level` and above.
  static Log to_stderr(Level level);
  // The same, but `time` says how each line begins: for time that is not the world's.
  static Log to_stderr(Level level, std::function<std::string()> time);
  // Nowhere: for tests.
  static Log silent();

  // The same log with a field in every line, e.g. service=vs1.
  Log with(Field field) const;

  void debug(std::string_view event, Fields fields, std::string_view text = {}) const;
  void info(std::string_view event, Fields fields, std::string_view text = {}) const;
  void warn(std::string_view event, Fields fields, std::string_view text = {}) const;
  void error(std::string_view event, Fields fields, std::string_view text = {}) const;

 private:
  struct Sink;
  void write(Level level, std::string_view event, Fields fields, std::string_view text) const;

  std::shared_ptr<Sink> sink_;
  std::string common_;
};

}  // namespace datom::telemetry

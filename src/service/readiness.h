// How a service started in the background tells the one who started it that it is up, or why not:
// one line on a pipe.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/error.h"

namespace datom::service {

// The service's end. Only the first report counts; the pipe is closed with it.
class ReadinessReport {
 public:
  // `descriptor` is taken over; -1: nobody listens.
  explicit ReadinessReport(int descriptor) : descriptor_(descriptor) {}
  ~ReadinessReport();
  ReadinessReport(const ReadinessReport&) = delete;
  ReadinessReport& operator=(const ReadinessReport&) = delete;

  void up();
  void failed(const Error& why);

 private:
  void report(const std::string& line);

  int descriptor_;
};

// What the report says: nothing when the service is up, else why it is not. Throws Error{corrupt}
// for anything that no service writes.
std::optional<Error> parse_readiness(std::string_view line);

}  // namespace datom::service

#include "rpc/first_bytes.h"

#include <algorithm>
#include <array>

#include "common/check.h"
#include "rpc/frame.h"

namespace datom::rpc {
namespace {

constexpr std::array<std::string_view, 9> kHttpMethods = {"GET ", "HEAD", "POST", "PUT ", "DELE",
                                                          "OPTI", "PATC", "TRAC", "CONN"};

}  // namespace

Speech speech_of(std::string_view first_bytes) {
  DATOM_CHECK(first_bytes.size() >= kFirstBytes);
  const std::string_view first = first_bytes.substr(0, kFirstBytes);
  if (first == as_text(kFrameMagic)) return Speech::rpc;
  return std::ranges::find(kHttpMethods, first) != kHttpMethods.end() ? Speech::http
                                                                      : Speech::unknown;
}

}  // namespace datom::rpc

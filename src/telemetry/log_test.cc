#include "telemetry/log.h"

#include <gmock/gmock.h>

#include <thread>
#include <vector>

namespace datom::telemetry {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

// What a call writes to standard error.
template <typename Call>
std::string written(Call call) {
  ::testing::internal::CaptureStderr();
  call();
  return ::testing::internal::GetCapturedStderr();
}

std::string logged(Fields fields, std::string_view text = {}) {
  const Log log = Log::to_stderr(Level::debug);
  return written([&] { log.info("event", fields, text); });
}

TEST(Log, WritesTimeLevelEventFieldsAndText) {
  const Log log = Log::to_stderr(Level::info).with({"service", "vs1"});
  const std::string line = written([&] {
    log.warn("replica.divergent", {{"volume", "db"}, {"term", 7}, {"cut", true}}, "tail cut");
  });
  EXPECT_THAT(line, MatchesRegex("....-..-..T..:..:..[.]......Z warn  replica.divergent "
                                 "service=vs1 volume=db term=7 cut=true tail cut\n"));
}

TEST(Log, LeavesOutWhatIsBelowItsLevel) {
  const Log log = Log::to_stderr(Level::warn);
  const std::string lines = written([&] {
    log.debug("one", {});
    log.info("two", {});
    log.warn("three", {});
    log.error("four", {});
  });
  EXPECT_THAT(lines, Not(HasSubstr("one")));
  EXPECT_THAT(lines, Not(HasSubstr("two")));
  EXPECT_THAT(lines, HasSubstr(" warn  three\n"));
  EXPECT_THAT(lines, HasSubstr(" error four\n"));
}

TEST(Log, SilentWritesNothing) {
  EXPECT_EQ(written([] { Log::silent().with({"a", "b"}).error("event", {{"c", 1}}); }), "");
}

TEST(Log, QuotesValuesThatWouldBeReadWrongly) {
  EXPECT_THAT(logged({{"k", "plain-1.5/x"}}), EndsWith(" k=plain-1.5/x\n"));
  EXPECT_THAT(logged({{"k", ""}}), EndsWith(" k=\"\"\n"));
  EXPECT_THAT(logged({{"k", "two words"}}), EndsWith(" k=\"two words\"\n"));
  EXPECT_THAT(logged({{"k", "a=b"}}), EndsWith(" k=\"a=b\"\n"));
  EXPECT_THAT(logged({{"k", "say \"hi\" \\o/"}}), EndsWith(" k=\"say \\\"hi\\\" \\\\o/\"\n"));
}

TEST(Log, OneEventIsOneLineWhateverIsInIt) {
  const std::string line = logged({{"k", std::string("a\nb\0c", 5)}}, "x\r\ny\x1b[0m\t");
  EXPECT_THAT(line, EndsWith(" k=\"a\\nb\\x00c\" x\\r\\ny\\x1b[0m\\t\n"));
}

TEST(Log, CutsWhatIsTooLong) {
  const std::string line = logged({{"k", std::string(100'000, 'v')}}, std::string(100'000, 't'));
  EXPECT_LT(line.size(), 6'000u);
  EXPECT_THAT(line, HasSubstr("vvv... ttt"));
  EXPECT_THAT(line, EndsWith("ttt...\n"));
}

TEST(Log, WithAddsToACopyOnly) {
  const Log plain = Log::to_stderr(Level::info);
  const Log both = plain.with({"a", 1}).with({"b", "x y"});
  EXPECT_THAT(written([&] { both.info("e", {{"c", 3}}); }), EndsWith(" e a=1 b=\"x y\" c=3\n"));
  EXPECT_THAT(written([&] { plain.info("e", {}); }), EndsWith(" e\n"));
}

TEST(Log, LinesOfSeveralThreadsStayWhole) {
  const Log log = Log::to_stderr(Level::info);
  const std::string lines = written([&] {
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&log] {
        for (int j = 0; j < 100; ++j) log.info("event", {{"k", "value"}}, "text");
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  std::size_t count = 0;
  for (std::size_t at = 0; (at = lines.find("Z info  event k=value text\n", at)) != lines.npos;) {
    ++count;
    ++at;
  }
  EXPECT_EQ(count, 400u);
}

}  // namespace
}  // namespace datom::telemetry

#include "service/readiness.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>

namespace datom::service {
namespace {

class Readiness : public ::testing::Test {
 protected:
  Readiness() { EXPECT_EQ(pipe(ends_.data()), 0); }
  ~Readiness() override { close(ends_[0]); }

  // Everything that was written, until the other end was closed.
  std::string heard() {
    std::array<char, 512> text{};
    std::string all;
    for (ssize_t n = 0; (n = read(ends_[0], text.data(), text.size())) > 0;) {
      all.append(text.data(), static_cast<std::size_t>(n));
    }
    return all;
  }

  std::array<int, 2> ends_{};
};

TEST_F(Readiness, UpIsHeardOnceAndClosesThePipe) {
  ReadinessReport report(ends_[1]);
  report.up();
  report.failed(Error(Code::internal, "late"));
  EXPECT_FALSE(parse_readiness(heard()).has_value());
}

TEST_F(Readiness, FailureKeepsCodeAndMessageOnOneLine) {
  ReadinessReport report(ends_[1]);
  report.failed(Error(Code::already_exists, "port 7400\nis in use"));
  const std::optional<Error> why = parse_readiness(heard());
  ASSERT_TRUE(why.has_value());
  EXPECT_EQ(why->code(), Code::already_exists);
  EXPECT_STREQ(why->what(), "port 7400 is in use");
}

TEST_F(Readiness, AServiceThatDiesReportsNothing) {
  {
    const ReadinessReport report(ends_[1]);
  }
  EXPECT_EQ(heard(), "");
}

TEST(ReadinessLine, AnythingElseIsRefused) {
  for (const char* line : {"", "up", "down\n", "failed\n", "failed x y\n", "failed 3"}) {
    EXPECT_THROW(parse_readiness(line), Error) << line;
  }
}

}  // namespace
}  // namespace datom::service

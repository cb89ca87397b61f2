#include "service/coordination_url.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"

namespace datom::service {
namespace {

std::string parsed(std::string_view text) {
  try {
    return CoordinationUrl::parse(text).target;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_argument);
    return std::string("refused: ") + error.what();
  }
}

TEST(CoordinationUrl, TakesServersPortsAndAPath) {
  EXPECT_EQ(parsed("zk://127.0.0.1:2181"), "127.0.0.1:2181");
  EXPECT_EQ(parsed("zk://a,b:2182,[2001:db8::1]:2183/prod/datom"),
            "a:2181,b:2182,[2001:db8::1]:2183/prod/datom");
}

TEST(CoordinationUrl, AChrootThatIsOnlyASlashIsNone) {
  EXPECT_EQ(parsed("zk://a/"), "a:2181");
}

TEST(CoordinationUrl, ConfigServiceNeedsAPort) {
  EXPECT_EQ(parsed("config://127.0.0.1:7400"), "127.0.0.1:7400");
  EXPECT_THAT(parsed("config://127.0.0.1"), ::testing::StartsWith("refused"));
}

TEST(CoordinationUrl, RefusesGarbageSayingWhy) {
  using ::testing::HasSubstr;
  EXPECT_THAT(parsed("etcd://a:1"), HasSubstr("unknown scheme"));
  EXPECT_THAT(parsed("zk://"), HasSubstr("'' is no host"));
  EXPECT_THAT(parsed("zk://a:2181,,b:2181"), HasSubstr("'' is no host"));
  EXPECT_THAT(parsed("zk://a:0"), HasSubstr("'0' is no port"));
  EXPECT_THAT(parsed("zk://a:99999"), HasSubstr("no port"));
  EXPECT_THAT(parsed("zk://a b:1"), HasSubstr("no host"));
  EXPECT_THAT(parsed("zk://a/x//y"), HasSubstr("empty name"));
}

TEST(CoordinationUrl, WritesWhatItReads) {
  const std::string text = "zk://a:2181,b:2182/datom";
  EXPECT_EQ(CoordinationUrl::parse(text).to_string(), text);
}

}  // namespace
}  // namespace datom::service

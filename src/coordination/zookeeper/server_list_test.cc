#include "coordination/zookeeper/server_list.h"

#include <gtest/gtest.h>

#include "common/error.h"

namespace datom::coordination::zookeeper {
namespace {

TEST(ServerList, GetsPortsAndKeepsTheChroot) {
  EXPECT_EQ(normal_server_list("a"), "a:2181");
  EXPECT_EQ(normal_server_list("a:1"), "a:1");
  EXPECT_EQ(normal_server_list("a,b.example:65535,10.0.0.1"),
            "a:2181,b.example:65535,10.0.0.1:2181");
  EXPECT_EQ(normal_server_list("a/"), "a:2181");
  EXPECT_EQ(normal_server_list("a:1,b/x/y"), "a:1,b:2181/x/y");
  EXPECT_EQ(normal_server_list("[::1]:3,[fe80::1]/x"), "::1:3,fe80::1:2181/x");
}

TEST(ServerList, RefusesWhatIsNone) {
  for (const char* text : {"",          "/",           "/x",    ",",       "a,",       ",a",
                           "a,,b",      "a:",          "a:0",   "a:65536", "a:-1",     "a:x",
                           "a:1x",      "a b",         "a:1:2", "::1",     "[::1",     "[]",
                           "[::1]2181", "zk://a:2181", "a/x/",  "a//x",    "a/x/../y", "a\n"}) {
    try {
      const std::string accepted = normal_server_list(text);
      ADD_FAILURE() << text << " -> " << accepted;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::invalid_argument) << text;
    }
  }
  EXPECT_THROW(normal_server_list(std::string(5000, 'a')), Error);
}

}  // namespace
}  // namespace datom::coordination::zookeeper

#include "service/node_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "runtime/memory_files.h"
#include "runtime/virtual_loop.h"

namespace datom::service {
namespace {

using protocol::ServiceType;
using ::testing::HasSubstr;

NodeFile example() {
  NodeFile node;
  node.node = "n1";
  node.uuid = Uuid::from_random(1, 2);
  node.domain = "default";
  node.coordination = CoordinationUrl::parse("zk://127.0.0.1:2181");
  node.nic_if = "eth0";
  node.services = {{"cfg1", ServiceType::config_service, 7400, 0},
                   {"vs1", ServiceType::volume_server, 7401, 10809}};
  return node;
}

// The example's JSON with `from` replaced by `to`.
std::string with(const std::string& from, const std::string& to) {
  std::string json = example().to_json();
  const std::size_t at = json.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return json.replace(at, from.size(), to);
}

// The message with which a node file is refused; its code must be `corrupt`.
std::string refusal(const std::string& json) {
  try {
    NodeFile::from_json("/r/node.json", json);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::corrupt);
    return error.what();
  }
  return "accepted";
}

TEST(NodeFile, ComesBackAsItWasWritten) {
  const NodeFile back = NodeFile::from_json("/r/node.json", example().to_json());
  EXPECT_EQ(back.node, "n1");
  EXPECT_EQ(back.uuid, example().uuid);
  EXPECT_EQ(back.domain, "default");
  EXPECT_EQ(back.coordination.to_string(), "zk://127.0.0.1:2181");
  EXPECT_EQ(back.nic_if, "eth0");
  EXPECT_EQ(back.services, example().services);
}

TEST(NodeFile, RefusalNamesPathFieldFoundAndExpected) {
  const std::string message = refusal(with("\"port\":7401", "\"port\":\"http\""));
  EXPECT_THAT(message, HasSubstr("/r/node.json"));
  EXPECT_THAT(message, HasSubstr("services[1].port"));
  EXPECT_THAT(message, HasSubstr("\"http\""));
  EXPECT_THAT(message, HasSubstr("from 1 to 65535"));
}

TEST(NodeFile, EveryFieldIsChecked) {
  EXPECT_THAT(refusal("not json"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(refusal(with("\"format\":1", "\"format\":2")), HasSubstr("format is 2"));
  EXPECT_THAT(refusal(with("\"n1\"", "\"N 1\"")), HasSubstr("node is"));
  EXPECT_THAT(refusal(with(example().uuid.to_string(), "none")), HasSubstr("uuid is"));
  EXPECT_THAT(refusal(with("\"default\"", "null")), HasSubstr("domain is null"));
  EXPECT_THAT(refusal(with("zk://", "etcd://")), HasSubstr("coordination is"));
  EXPECT_THAT(refusal(with("\"eth0\"", "\"\"")), HasSubstr("nic_if is"));
  EXPECT_THAT(refusal(with("\"volumeserver\"", "\"webserver\"")), HasSubstr("type is"));
  EXPECT_THAT(refusal(with("\"port\":7400", "\"port\":0")), HasSubstr("port is 0"));
  EXPECT_THAT(refusal(with("10809", "70000")), HasSubstr("nbd_port is 70000"));
}

TEST(NodeFile, NamesAndPortsOfServicesAreDistinct) {
  EXPECT_THAT(refusal(with("\"vs1\"", "\"cfg1\"")), HasSubstr("'cfg1' is there twice"));
  EXPECT_THAT(refusal(with("7401", "7400")), HasSubstr("port 7400"));
  EXPECT_THAT(refusal(with("10809", "7401")), HasSubstr("port 7401"));
}

TEST(NodeFile, UnknownServiceErrorListsThoseConfigured) {
  try {
    const NodeFile node = example();
    node.service("vs9");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::not_found);
    EXPECT_THAT(error.what(), HasSubstr("cfg1, vs1"));
  }
}

class NodeFileOnDisk : public ::testing::Test {
 protected:
  static runtime::Task<void> write(runtime::Filesystem& files) {
    co_await write_node_file(files, "/r", example());
  }
  static runtime::Task<void> read(runtime::Filesystem& files, NodeFile& into) {
    into = co_await read_node_file(files, "/r");
  }

  runtime::VirtualLoop loop_;
  runtime::MemoryDisk disk_;
};

TEST_F(NodeFileOnDisk, SurvivesAPowerCut) {
  const auto files = make_memory_filesystem(loop_, disk_);
  loop_.run(write(*files));
  runtime::SeededRandom random(7);
  disk_.crash(random);
  const auto after = make_memory_filesystem(loop_, disk_);
  NodeFile back;
  loop_.run(read(*after, back));
  EXPECT_EQ(back.services, example().services);
}

TEST_F(NodeFileOnDisk, MissingFileSaysHowToMakeOne) {
  const auto files = make_memory_filesystem(loop_, disk_);
  NodeFile back;
  try {
    loop_.run(read(*files, back));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::not_found);
    EXPECT_THAT(error.what(), HasSubstr("datom addnode"));
  }
}

}  // namespace
}  // namespace datom::service

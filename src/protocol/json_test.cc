#include "protocol/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "common/error.h"
#include "protocol/config.pb.h"
#include "protocol/volume.pb.h"

namespace datom::protocol {
namespace {

using ::testing::HasSubstr;

std::string refusal(const std::string& text) {
  AddNodeRequest message;
  try {
    from_json(text, message);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_argument);
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << text;
  return "";
}

TEST(Json, NumbersOf64BitsAreNumbers) {
  Disk disk;
  disk.set_bytes(18446744073709551615u);
  EXPECT_EQ(to_json(disk),
            R"({"name":"","model":"","bytes":18446744073709551615,"rotational":false})");
}

TEST(Json, AnOptionalFieldThatIsNotSetIsNull) {
  Volume volume;
  EXPECT_THAT(to_json(volume), HasSubstr(R"("leader":null)"));
  volume.set_leader("vs1");
  EXPECT_THAT(to_json(volume), HasSubstr(R"("leader":"vs1")"));
  EXPECT_EQ(to_json(VolumeInfoReply()), R"({"volume":null})");
}

TEST(Json, EmptyListsAndNestedMessagesArePrinted) {
  ListNodesReply reply;
  EXPECT_EQ(to_json(reply), R"({"nodes":[]})");
  Node& node = *reply.add_nodes();
  node.add_services("vs1");
  node.add_services("vs\"2\"");
  node.mutable_hardware()->set_cores(4);
  const auto json = boost::json::parse(to_json(reply));
  EXPECT_EQ(json.at("nodes").at(0).at("services").at(1).as_string(), "vs\"2\"");
  EXPECT_EQ(json.at("nodes").at(0).at("hardware").at("cores").as_int64(), 4);
}

TEST(Json, BytesAreHexadecimal) {
  ReplicaStatus status;
  status.set_volume(std::string("\x00\xff", 2));
  EXPECT_THAT(to_json(status), HasSubstr(R"("volume":"00ff")"));
}

TEST(Json, WhatIsPrintedReadsBack) {
  AddNodeRequest request;
  request.set_name("n1");
  request.mutable_hardware()->add_disks()->set_bytes(1ull << 63);
  request.mutable_hardware()->add_links()->add_addresses("192.0.2.7");
  request.add_services()->set_port(7400);
  AddNodeRequest back;
  from_json(to_json(request), back);
  EXPECT_EQ(back.SerializeAsString(), request.SerializeAsString());

  Volume volume;
  volume.set_removing(true);
  volume.add_members()->set_applied_op(7);
  Volume volume_back;
  from_json(to_json(volume), volume_back);
  EXPECT_EQ(volume_back.SerializeAsString(), volume.SerializeAsString());
}

TEST(Json, RefusalNamesFieldFoundAndExpected) {
  EXPECT_EQ(refusal(R"({"services":[{},{"port":-1}]})"),
            "field services[1].port is -1, expected a whole number from 0 to 4294967295");
  EXPECT_EQ(refusal(R"({"name":7})"), "field name is 7, expected a string");
  EXPECT_EQ(refusal(R"({"hardware":{"colour":1}})"), "field hardware.colour is unknown");
  EXPECT_THAT(refusal(R"({"services":{}})"), HasSubstr("expected an array"));
  EXPECT_THAT(refusal(R"([])"), HasSubstr("expected an object"));
  EXPECT_THAT(refusal(R"({"name":)"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(refusal(R"({"hardware":{"memory_bytes":1.5}})"), HasSubstr("memory_bytes is 1.5"));
  refusal(std::string(100'000, '['));
}

}  // namespace
}  // namespace datom::protocol

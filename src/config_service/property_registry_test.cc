#include "config_service/property_registry.h"

#include <gmock/gmock.h>

#include "config_service/domain_fixture.h"
#include "properties/known.h"

namespace datom::config_service {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

namespace method = protocol::method;
namespace paths = protocol::paths;

constexpr std::string_view kName = "group.heartbeat_ms";

class PropertyRegistryTest : public DomainTest {
 protected:
  PropertyRegistryTest() { begin(); }

  protocol::Property get() {
    protocol::GetPropertyRequest request;
    request.set_name(std::string(kName));
    return ask<protocol::GetPropertyReply>(method::kGetProperty, request).property();
  }
  static protocol::SetPropertyRequest setting(const std::string& value) {
    protocol::SetPropertyRequest request;
    request.set_name(std::string(kName));
    request.set_value(value);
    request.set_changed_by("root@host1");
    return request;
  }
  protocol::Property set(const std::string& value) {
    return ask<protocol::SetPropertyReply>(method::kSetProperty, setting(value)).property();
  }
  Error set_refusal(const protocol::SetPropertyRequest& request) {
    return refusal<protocol::SetPropertyReply>(method::kSetProperty, request);
  }
};

TEST_F(PropertyRegistryTest, WhatNobodySetHasItsDefault) {
  const protocol::Property property = get();
  EXPECT_EQ(property.value(), "200");
  EXPECT_EQ(property.default_value(), "200");
  EXPECT_FALSE(property.help().empty());
  EXPECT_FALSE(property.has_changed_by());
}

TEST_F(PropertyRegistryTest, AChangeSaysWhoAndWhen) {
  set("300");
  const protocol::Property property = set("400");
  EXPECT_EQ(property.value(), "400");
  EXPECT_EQ(property.changed_by(), "root@host1");
  EXPECT_EQ(property.changed_at(), "1970-01-01T01:00:00Z");
  EXPECT_EQ(get().SerializeAsString(), property.SerializeAsString());
  const auto record = protocol::PropertyRecord::from_json(*value(paths::property("d", kName)));
  EXPECT_EQ(record.value, "400");
}

TEST_F(PropertyRegistryTest, AllAreListed) {
  set("300");
  const auto reply = ask<protocol::ListPropertiesReply>(method::kListProperties,
                                                        protocol::ListPropertiesRequest());
  EXPECT_EQ(static_cast<std::size_t>(reply.properties_size()), properties::known().size());
  for (const protocol::Property& property : reply.properties()) {
    EXPECT_EQ(property.has_changed_by(), property.name() == kName) << property.name();
  }
}

TEST_F(PropertyRegistryTest, UnknownNamesAndImpossibleValuesAreRefused) {
  auto request = setting("300");
  request.set_name("group.heartbeet_ms");
  Error error = set_refusal(request);
  EXPECT_EQ(error.code(), Code::not_found);
  EXPECT_THAT(error.what(), HasSubstr("group.heartbeat_ms"));
  for (const std::string value : {"", "fast", "-1", "9", "10001", "300 ", "3e2"}) {
    error = set_refusal(setting(value));
    EXPECT_EQ(error.code(), Code::invalid_argument);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("group.heartbeat_ms"), HasSubstr("10 to 10000 ms")));
  }
  EXPECT_EQ(set_refusal(setting(std::string(100'000, '1'))).code(), Code::invalid_argument);
  request.set_name("../nodes");
  EXPECT_EQ(set_refusal(request).code(), Code::not_found);
  EXPECT_FALSE(value(paths::property("d", kName)));
}

TEST_F(PropertyRegistryTest, ABrokenValueInTheTreeIsTheDefaultAndCanBeSetAgain) {
  result_of(loop_, eye_->create(paths::property("d", kName), "garbage"));
  EXPECT_EQ(get().value(), "200");
  EXPECT_EQ(set("300").value(), "300");
}

}  // namespace
}  // namespace datom::config_service

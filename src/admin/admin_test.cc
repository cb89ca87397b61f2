#include <gmock/gmock.h>

#include <boost/json.hpp>

#include "admin/api.h"
#include "admin/pages.h"
#include "config_service/domain_fixture.h"
#include "telemetry/metrics.h"

namespace datom::admin {
namespace {

using config_service::result_of;
using ::testing::HasSubstr;

class AdminTest : public config_service::DomainTest {
 protected:
  AdminTest() {
    start_config_service("cs1");
    pages_ = with_api(service_pages(metrics_, [this] { return health_; }),
                      config_api(*configs_.at("cs1")->service));
  }

  http::Response ask_http(http::Request request) {
    return result_of(loop_, pages_(std::move(request)));
  }
  http::Response get(const std::string& path, const std::string& query = "") {
    http::Request request;
    request.path = path;
    request.query = query;
    return ask_http(std::move(request));
  }
  http::Response send(const std::string& method, const std::string& path,
                      const std::string& body = "", const std::string& query = "") {
    http::Request request;
    request.method = method;
    request.path = path;
    request.query = query;
    request.content_type = "application/json";
    request.body = body;
    return ask_http(std::move(request));
  }
  static boost::json::value parse(const http::Response& response) {
    EXPECT_EQ(response.content_type, "application/json");
    return boost::json::parse(response.body);
  }
  // "404 not_found"
  static std::string error(const http::Response& response) {
    const auto body = parse(response).at("error");
    EXPECT_FALSE(body.at("message").as_string().empty());
    return std::to_string(response.status) + " " + std::string(body.at("code").as_string());
  }

  telemetry::Metrics metrics_;
  Health health_{true, ""};
  http::Handler pages_;
};

TEST_F(AdminTest, HealthTellsWhyTheServiceIsNotUp) {
  EXPECT_EQ(get("/healthz").status, 200);
  EXPECT_EQ(get("/healthz").body, "ok\n");
  health_ = {false, "waits for its role"};
  EXPECT_EQ(get("/healthz").status, 503);
  EXPECT_EQ(get("/healthz").body, "waits for its role\n");
}

TEST_F(AdminTest, MetricsAreInTheTextFormat) {
  const auto writes = metrics_.counter("datom_writes_total", "Writes");
  writes->add(3);
  const http::Response response = get("/metrics");
  EXPECT_EQ(response.status, 200);
  EXPECT_THAT(response.content_type, HasSubstr("version=0.0.4"));
  EXPECT_THAT(response.body, HasSubstr("datom_writes_total 3"));
}

TEST_F(AdminTest, OtherPagesAreNotFoundAndPagesAreOnlyRead) {
  EXPECT_EQ(get("/nowhere").status, 404);
  EXPECT_EQ(send("POST", "/healthz").status, 405);
  EXPECT_EQ(send("HEAD", "/healthz").status, 200);
  EXPECT_EQ(error(get("/api/v1/nowhere")), "404 not_found");
  EXPECT_EQ(error(get("/api/v1/volumes/")), "404 not_found");
  EXPECT_EQ(error(get("/api/v1/statusx")), "404 not_found");
  EXPECT_EQ(error(send("DELETE", "/api/v1/volumes")), "405 unsupported");
}

TEST_F(AdminTest, BeforeInitTheApiIsUnavailable) {
  EXPECT_EQ(error(get("/api/v1/status")), "503 unavailable");
}

TEST_F(AdminTest, StatusNodesAndServices) {
  init();
  add_nodes(3);
  create_volume("db");
  const auto status = parse(get("/api/v1/status"));
  EXPECT_EQ(status.at("domain").as_string(), "d");
  EXPECT_EQ(status.at("config_service").at("service").as_string(), "cs1");
  EXPECT_EQ(status.at("nodes").as_array().size(), 3u);
  EXPECT_EQ(status.at("volumes").at(0).at("state").as_string(), "healthy");
  EXPECT_EQ(parse(get("/api/v1/nodes")).at("nodes").at(2).at("name").as_string(), "n3");
  const auto services = parse(get("/api/v1/services")).at("services");
  EXPECT_TRUE(services.at(0).at("up").as_bool());
  EXPECT_EQ(services.at(0).at("pid").as_int64(), 4711);
}

TEST_F(AdminTest, AVolumeIsMadeShownListedAndRemoved) {
  init();
  add_nodes(3);
  const auto made =
      send("POST", "/api/v1/volumes", R"({"name":"db","size":10737418240,"replicas":3})");
  EXPECT_EQ(made.status, 201);
  const auto shown = parse(get("/api/v1/volumes/db"));
  EXPECT_EQ(shown, parse(made));
  EXPECT_EQ(shown.at("size").as_int64(), 10737418240);
  EXPECT_EQ(shown.at("leader").as_string(), "vs1");
  EXPECT_EQ(shown.at("members").at(1).at("state").as_string(), "FOLLOWER_FUNCTIONAL");
  EXPECT_EQ(shown.at("nbd").at(0).as_string(), "nbd://vs1.test:10809/db");
  EXPECT_EQ(parse(get("/api/v1/volumes")).at("volumes").at(0), shown);
  EXPECT_EQ(parse(get("/api/v1/volumes", "after=db")).at("volumes").as_array().size(), 0u);
  EXPECT_EQ(send("DELETE", "/api/v1/volumes/db").status, 200);
  EXPECT_EQ(error(get("/api/v1/volumes/db")), "404 not_found");
}

TEST_F(AdminTest, AVolumeWithoutLeaderHasNoneInJson) {
  init();
  add_nodes(3);
  servers_.at("vs1")->state = "EC_ACQUIRE_LOCK";
  create_volume("db");
  const auto shown = parse(get("/api/v1/volumes/db"));
  EXPECT_TRUE(shown.at("leader").is_null());
  EXPECT_EQ(shown.at("state").as_string(), "unavailable");
}

TEST_F(AdminTest, AReplicaMovesAndTheMoveIsUndone) {
  init();
  add_nodes(4);
  create_volume("db");
  elect("db", "vs1");
  servers_.at("vs1")->learners_get_in_step = false;
  const std::string path = "/api/v1/volumes/db/move";
  const auto begun = send("PUT", path, R"({"from":"vs3","to":"vs4"})");
  EXPECT_EQ(begun.status, 202);
  EXPECT_EQ(parse(begun).at("move").at("from").as_string(), "vs3");
  EXPECT_EQ(parse(begun).at("replicas").as_int64(), 3);
  EXPECT_EQ(error(send("PUT", path, R"({"from":"vs2"})")), "409 conflict");
  EXPECT_EQ(error(send("PUT", path, R"({})")), "400 invalid_argument");
  EXPECT_EQ(error(get(path)), "405 unsupported");
  const auto undone = send("DELETE", path);
  EXPECT_EQ(undone.status, 200);
  EXPECT_TRUE(parse(undone).at("move").is_null());
  EXPECT_EQ(error(send("DELETE", path)), "404 not_found");
}

TEST_F(AdminTest, ANodeIsDrainedAndPutBackInService) {
  init();
  add_nodes(4);
  create_volume("db");
  elect("db", "vs1");
  servers_.at("vs1")->learners_get_in_step = false;
  const std::string path = "/api/v1/nodes/n3/drain";
  const auto begun = send("PUT", path);
  EXPECT_EQ(begun.status, 200);
  EXPECT_EQ(parse(begun).at("state").as_string(), "draining");
  EXPECT_EQ(parse(begun).at("held").at(0).at("volume").as_string(), "db");
  loop_.advance(std::chrono::seconds(3));
  const auto shown = parse(get("/api/v1/nodes/n3"));
  EXPECT_EQ(shown.at("replicas").as_int64(), 1);
  EXPECT_EQ(shown.at("held").at(0).at("move").at("phase").as_string(), "syncing");
  EXPECT_EQ(parse(send("DELETE", path)).at("state").as_string(), "in service");
  EXPECT_EQ(error(get("/api/v1/nodes/n9")), "404 not_found");
  EXPECT_EQ(error(send("PUT", "/api/v1/nodes/n9/drain")), "404 not_found");
}

TEST_F(AdminTest, PropertiesAreListedShownAndSet) {
  init();
  const std::string path = "/api/v1/properties/group.heartbeat_ms";
  EXPECT_EQ(parse(get(path)).at("value").as_string(), "200");
  EXPECT_TRUE(parse(get(path)).at("changed_by").is_null());
  const auto set = send("PUT", path, R"({"value":"300","changed_by":"me"})");
  EXPECT_EQ(set.status, 200);
  EXPECT_EQ(parse(get(path)), parse(set));
  EXPECT_EQ(parse(get(path)).at("changed_by").as_string(), "me");
  EXPECT_EQ(error(send("PUT", path, R"({"value":"1"})")), "400 invalid_argument");
  EXPECT_EQ(error(send("PUT", "/api/v1/properties/x", R"({"value":"1"})")), "404 not_found");
  EXPECT_GT(parse(get("/api/v1/properties")).at("properties").as_array().size(), 3u);
}

TEST_F(AdminTest, BadRequestsAreRefused) {
  init();
  add_nodes(3);
  const std::string volumes = "/api/v1/volumes";
  EXPECT_EQ(error(send("POST", volumes, "{")), "400 invalid_argument");
  EXPECT_EQ(error(send("POST", volumes, R"({"name":"db","sise":1})")), "400 invalid_argument");
  EXPECT_EQ(error(send("POST", volumes, R"({"name":"db","size":"1G"})")), "400 invalid_argument");
  EXPECT_EQ(error(send("POST", volumes, R"({"name":"db","size":7})")), "400 invalid_argument");
  EXPECT_EQ(error(get("/api/v1/volumes/A")), "400 invalid_argument");
  EXPECT_EQ(error(get("/api/v1/volumes/a/b")), "404 not_found");
  EXPECT_EQ(error(send("DELETE", "/api/v1/volumes/db", "", "wait_ms=soon")),
            "400 invalid_argument");
  EXPECT_EQ(error(send("DELETE", "/api/v1/volumes/db")), "404 not_found");
  EXPECT_EQ(parse(get(volumes)).at("volumes").as_array().size(), 0u);
}

TEST_F(AdminTest, ABodyOfAnotherTypeIsRefusedSoThatPagesElsewhereCannotSendOne) {
  init();
  add_nodes(3);
  http::Request request;
  request.method = "POST";
  request.path = "/api/v1/volumes";
  request.content_type = "text/plain";
  request.body = R"({"name":"db","size":1073741824})";
  EXPECT_EQ(error(ask_http(request)), "400 invalid_argument");
  request.content_type = "application/json; charset=utf-8";
  EXPECT_EQ(ask_http(request).status, 201);
}

TEST_F(AdminTest, ConflictsHaveTheirStatus) {
  init();
  add_nodes(2);
  const std::string body = R"({"name":"db","size":1073741824,"replicas":2})";
  EXPECT_EQ(send("POST", "/api/v1/volumes", body).status, 201);
  EXPECT_EQ(error(send("POST", "/api/v1/volumes", body)), "409 already_exists");
  EXPECT_EQ(error(send("POST", "/api/v1/volumes", R"({"name":"x","size":1073741824})")),
            "503 unavailable");
}

}  // namespace
}  // namespace datom::admin

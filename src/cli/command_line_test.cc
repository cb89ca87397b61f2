// The command line as a user meets it, as far as no domain is needed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/cli.h"
#include "cli/service_spec.h"

namespace datom::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Outcome {
  int status;
  std::string out;
  std::string err;
};

class CommandLine : public ::testing::Test {
 protected:
  CommandLine() {
    std::string pattern = (std::filesystem::temp_directory_path() / "datom_cli_XXXXXX").string();
    root_ = mkdtemp(pattern.data());
  }
  ~CommandLine() override { std::filesystem::remove_all(root_); }

  static Outcome run(std::vector<std::string> arguments) {
    std::istringstream in;
    std::ostringstream out;
    std::ostringstream err;
    const int status = cli::run(std::move(arguments), "/bin/false", {in, out, err, false});
    return {status, out.str(), err.str()};
  }

  std::string root_;
};

TEST_F(CommandLine, EveryCommandExplainsItselfWithAnExample) {
  const std::vector<std::vector<std::string>> commands = {{"init"},
                                                          {"addnode"},
                                                          {"node", "add"},
                                                          {"node", "ls"},
                                                          {"node", "info"},
                                                          {"node", "drain"},
                                                          {"node", "rm"},
                                                          {"startservice"},
                                                          {"stopservice"},
                                                          {"service", "ls"},
                                                          {"service", "stop"},
                                                          {"service", "start"},
                                                          {"volume", "create"},
                                                          {"volume", "ls"},
                                                          {"volume", "info"},
                                                          {"volume", "move"},
                                                          {"volume", "rm"},
                                                          {"property", "ls"},
                                                          {"property", "get"},
                                                          {"property", "set"},
                                                          {"status"},
                                                          {"dev"},
                                                          {"configservice"},
                                                          {"volumeserver"},
                                                          {"completion", "bash"},
                                                          {"version"}};
  for (std::vector<std::string> command : commands) {
    const std::string name = command.back();
    command.push_back("--help");
    const Outcome outcome = run(command);
    EXPECT_EQ(outcome.status, kDone) << name;
    EXPECT_THAT(outcome.out, HasSubstr("Example:")) << name;
    EXPECT_EQ(outcome.err, "") << name;
  }
}

TEST_F(CommandLine, UsageErrorsAreOneLineAndStatus2) {
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"nonsense"},
      {"volume"},
      {"volume", "create", "db"},
      {"volume", "create", "db", "--size", "1G", "--access", "loud"},
      {"volume", "ls", "--no-such-option"},
      {"status", "-o", "yaml"},
      {"vol"},
      {"volume", "move", "db"},
      {"volume", "move", "db", "--cancel", "--from", "vs1"},
      {"node", "drain"},
      {"dev", "--nodes", "0"}};
  for (const auto& arguments : wrong) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.status, kUsage) << ::testing::PrintToString(arguments);
    EXPECT_THAT(outcome.err, StartsWith("datom: invalid_argument: "));
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
}

TEST_F(CommandLine, GlobalOptionsMayStandBeforeOrAfterTheCommand) {
  const std::string expected = "{\"version\"";
  EXPECT_THAT(run({"-o", "json", "version"}).out, StartsWith(expected));
  EXPECT_THAT(run({"version", "--output=json"}).out, StartsWith(expected));
}

TEST_F(CommandLine, WithoutADomainItSaysHowToNameOne) {
  const Outcome outcome = run({"status", "--root", root_});
  EXPECT_EQ(outcome.status, kUsage);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("--coordination"), HasSubstr(root_)));
}

TEST_F(CommandLine, NobodyListeningIsUnavailable) {
  // Port 1 of the loopback interface: reserved, and nothing of ours.
  const Outcome outcome = run({"status", "--config-service", "127.0.0.1:1"});
  EXPECT_EQ(outcome.status, kUnavailable);
  EXPECT_THAT(outcome.err, HasSubstr("127.0.0.1:1"));
}

TEST_F(CommandLine, ARootThatIsNoNodeIsNotFound) {
  const Outcome outcome = run({"startservice", "vs1", "--root", root_});
  EXPECT_EQ(outcome.status, kNotFound);
  EXPECT_THAT(outcome.err, HasSubstr("datom addnode"));
}

TEST_F(CommandLine, ServicesOfANodeOfAnotherDomainAreLeftAlone) {
  std::ofstream(root_ + "/node.json")
      << R"({"format":1,"node":"n1","uuid":"9df6829b-a1ed-482b-8633-d9efbe647669",)"
      << R"("domain":"main","coordination":"zk://127.0.0.1:1","nic_if":"127.0.0.1",)"
      << R"("services":[{"name":"vs1","type":"volumeserver","port":1,"nbd_port":2}]})";
  for (const std::string command : {"startservice", "stopservice"}) {
    const Outcome outcome = run({command, "vs1", "--root", root_, "--domain_name", "other"});
    EXPECT_EQ(outcome.status, kUsage);
    EXPECT_THAT(outcome.err, HasSubstr("node 'n1' is of domain 'main', expected 'other'"));
  }
}

TEST_F(CommandLine, AddNodeAsksNobodyWhoCannotAnswer) {
  const Outcome outcome = run({"addnode", "--coordination", "zk://127.0.0.1:1", "--root", root_});
  EXPECT_EQ(outcome.status, kUsage);
  EXPECT_THAT(outcome.err, HasSubstr("--yes"));
}

TEST_F(CommandLine, SizesAreCheckedBeforeAnybodyIsAsked) {
  const Outcome outcome = run({"volume", "create", "db", "--size", "10X", "--root", root_});
  EXPECT_EQ(outcome.status, kUsage);
  EXPECT_THAT(outcome.err, HasSubstr("--size '10X'"));
}

TEST_F(CommandLine, CompletionKnowsCommandsAndOptions) {
  const std::string script = run({"completion", "bash"}).out;
  EXPECT_THAT(script, HasSubstr("'volume create') words='"));
  EXPECT_THAT(script, HasSubstr("--replicas"));
  EXPECT_THAT(script, ::testing::Not(HasSubstr("ready_fd")));
}

TEST(ServiceSpec, DefaultsDependOnTheKind) {
  EXPECT_EQ(service_spec(parse_service_spec("cfg=configservice")), "cfg=configservice:7400");
  EXPECT_EQ(service_spec(parse_service_spec("vs=volumeserver")), "vs=volumeserver:7401:10809");
  EXPECT_EQ(service_spec(parse_service_spec("vs=volumeserver:1:2")), "vs=volumeserver:1:2");
}

TEST(ServiceSpec, RefusesWhatItIsNot) {
  for (const char* text : {"vs", "=volumeserver", "V S=volumeserver", "vs=webserver",
                           "vs=volumeserver:x", "vs=volumeserver:0", "vs=volumeserver:1:2:3",
                           "cfg=configservice:1:2", "vs=volumeserver:70000"}) {
    EXPECT_THROW(parse_service_spec(text), Error) << text;
  }
}

TEST(ServiceSpec, MergingReplacesByName) {
  const auto services =
      merged({parse_service_spec("a=volumeserver:1:2")},
             {parse_service_spec("a=volumeserver:3:4"), parse_service_spec("b=configservice:5")});
  ASSERT_EQ(services.size(), 2u);
  EXPECT_EQ(services[0].port, 3);
  EXPECT_EQ(services[1].name, "b");
}

TEST(ExitStatus, FollowsTheCode) {
  EXPECT_EQ(exit_status(Code::internal), kFailed);
  EXPECT_EQ(exit_status(Code::invalid_argument), kUsage);
  EXPECT_EQ(exit_status(Code::not_found), kNotFound);
  EXPECT_EQ(exit_status(Code::unavailable), kUnavailable);
  EXPECT_EQ(exit_status(Code::timeout), kUnavailable);
}

}  // namespace
}  // namespace datom::cli

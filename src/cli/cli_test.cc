#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <sstream>

#include "cli/arguments.h"
#include "cli/progress.h"
#include "cli/size.h"
#include "cli/table.h"
#include "common/error.h"

namespace datom::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string size_refusal(std::string_view text) {
  try {
    return "taken as " + std::to_string(parse_size(text, "--size"));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_argument);
    return error.what();
  }
}

TEST(Size, UnitsAreBinary) {
  EXPECT_EQ(parse_size("4096", ""), 4096u);
  EXPECT_EQ(parse_size("64K", ""), 64u << 10);
  EXPECT_EQ(parse_size("512M", ""), 512u << 20);
  EXPECT_EQ(parse_size("10G", ""), 10ull << 30);
  EXPECT_EQ(parse_size("10g", ""), 10ull << 30);
  EXPECT_EQ(parse_size("10GiB", ""), 10ull << 30);
  EXPECT_EQ(parse_size("1T", ""), 1ull << 40);
}

TEST(Size, RefusesWhatIsNoSizeNamingTheOption) {
  for (const char* text : {"", "G", "-1", "1.5T", "10Q", "10GB", "1 G", "10Gi B"}) {
    EXPECT_THAT(size_refusal(text), HasSubstr("--size '")) << text;
    EXPECT_THAT(size_refusal(text), HasSubstr("is no size")) << text;
  }
}

TEST(Size, RefusesOverflow) {
  EXPECT_THAT(size_refusal("16E"), HasSubstr("too large"));
  EXPECT_THAT(size_refusal("99999999999999999999"), HasSubstr("too large"));
  EXPECT_EQ(parse_size("15E", ""), 15ull << 60);
}

TEST(Size, ReadsWell) {
  EXPECT_EQ(human_size(0), "0 B");
  EXPECT_EQ(human_size(1023), "1023 B");
  EXPECT_EQ(human_size(10ull << 30), "10 GiB");
  EXPECT_EQ(human_size((3ull << 40) / 2), "1.5 TiB");
  EXPECT_EQ(human_size(~0ull), "16.0 EiB");
}

TEST(Table, ColumnsLineUpAndNumbersStandRight) {
  Table table({{"NAME"}, {"SIZE", Align::right}, {"STATE"}});
  table.add({"db", "10 GiB", "healthy"});
  table.add({"scratch", "512 MiB", ""});
  EXPECT_EQ(table.text(),
            "NAME        SIZE  STATE\n"
            "db        10 GiB  healthy\n"
            "scratch  512 MiB  -\n");
}

TEST(Table, CountsCharactersNotBytes) {
  Table table({{"A"}, {"B"}});
  table.add({"\xc3\xa9", "x"});
  EXPECT_EQ(table.text(), "A  B\n\xc3\xa9  x\n");
}

TEST(Facts, ValuesLineUp) {
  Facts facts;
  facts.add("name", "db");
  facts.add("block size", "4096");
  EXPECT_EQ(facts.text(), "name:        db\nblock size:  4096\n");
}

TEST(Progress, ABarIsAsLongAsWhatIsDone) {
  EXPECT_EQ(bar(0), "[                              ]   0 %");
  EXPECT_EQ(bar(50), "[###############               ]  50 %");
  EXPECT_EQ(bar(120), "[##############################] 100 %");
}

TEST(Progress, OneLineIsWrittenOverAndGone) {
  std::istringstream in;
  std::ostringstream out;
  std::ostringstream err;
  Context context{{in, out, err, true}, "", {}, {}};
  {
    Progress progress(context);
    progress.show("first");
    progress.show("first");
    progress.show(10, "second");
  }
  EXPECT_EQ(err.str(), "\r\033[Kfirst\r\033[K" + bar(10) + "  second\r\033[K");
  EXPECT_EQ(out.str(), "");
}

TEST(Progress, NothingIsShownWhereNobodyLooks) {
  std::istringstream in;
  std::ostringstream out;
  std::ostringstream err;
  Context context{{in, out, err, false}, "", {}, {}};
  {
    Progress(context).show(10, "x");
  }
  EXPECT_EQ(err.str(), "");
}

class Arguments : public ::testing::Test {
 protected:
  Arguments() {
    app_.add_option("--root", value_);
    app_.add_flag("--yes", flag_);
    CLI::App* volume = app_.add_subcommand("volume");
    volume->add_subcommand("create")->add_option("--nbd_port", value_);
    volume->add_subcommand("ls");
    app_.add_subcommand("volumeserver");
    app_.add_subcommand("version");
  }

  CLI::App app_;
  std::string value_;
  bool flag_ = false;
};

TEST_F(Arguments, UniquePrefixesBecomeCommands) {
  EXPECT_THAT(spell_out(app_, {"volume", "cr", "name"}), ElementsAre("volume", "create", "name"));
  EXPECT_THAT(spell_out(app_, {"ver"}), ElementsAre("version"));
}

TEST_F(Arguments, AWholeNameWinsOverLongerOnes) {
  EXPECT_THAT(spell_out(app_, {"volume", "l"}), ElementsAre("volume", "ls"));
}

TEST_F(Arguments, AmbiguousPrefixListsTheCommands) {
  try {
    spell_out(app_, {"vol"});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_argument);
    EXPECT_THAT(error.what(), HasSubstr("volume, volumeserver"));
  }
}

TEST_F(Arguments, UnknownWordListsTheCommandsThereAre) {
  try {
    spell_out(app_, {"volume", "resize"});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_argument);
    EXPECT_THAT(error.what(), HasSubstr("no command 'resize'; there are create, ls"));
  }
}

TEST_F(Arguments, DashAndUnderscoreAreAlikeInOptionsOnly) {
  EXPECT_THAT(spell_out(app_, {"volume", "create", "my-vol", "--nbd-port", "7-1"}),
              ElementsAre("volume", "create", "my-vol", "--nbd_port", "7-1"));
  EXPECT_THAT(spell_out(app_, {"volume", "create", "--nbd-port=a-b"}),
              ElementsAre("volume", "create", "--nbd_port=a-b"));
}

TEST_F(Arguments, ValuesOfOptionsAreNoCommands) {
  EXPECT_THAT(spell_out(app_, {"--root", "vers", "volume", "--root", "l", "l"}),
              ElementsAre("--root", "vers", "volume", "--root", "l", "ls"));
  EXPECT_THAT(spell_out(app_, {"--yes", "vers"}), ElementsAre("--yes", "version"));
}

TEST_F(Arguments, NothingIsTouchedAfterTwoDashes) {
  EXPECT_THAT(spell_out(app_, {"--", "ver", "--a-b"}), ElementsAre("--", "ver", "--a-b"));
}

TEST_F(Arguments, UnknownOptionsAreLeftToTheParser) {
  EXPECT_THAT(spell_out(app_, {"version", "--no-such"}), ElementsAre("version", "--no_such"));
}

}  // namespace
}  // namespace datom::cli

#include "service/file_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>

#include "common/error.h"

namespace datom::service {
namespace {

class FileLockTest : public ::testing::Test {
 protected:
  FileLockTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "datom_lock_XXXXXX").string();
    root_ = mkdtemp(pattern.data());
  }
  ~FileLockTest() override { std::filesystem::remove_all(root_); }

  std::string root_;
};

TEST_F(FileLockTest, SecondHolderIsRefusedNamingTheFirst) {
  const FileLock first(root_ + "/run/vs1.lock", "service 'vs1'");
  try {
    const FileLock second(root_ + "/run/vs1.lock", "service 'vs1'");
    FAIL() << "both hold the lock";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::already_exists);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("service 'vs1'"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("pid " + std::to_string(getpid())));
  }
}

TEST_F(FileLockTest, IsFreeAgainOnceReleased) {
  const std::string path = root_ + "/x.lock";
  {
    const FileLock first(path, "x");
    EXPECT_TRUE(FileLock::is_held(path));
  }
  EXPECT_FALSE(FileLock::is_held(path));
  EXPECT_NO_THROW(FileLock(path, "x"));
}

TEST_F(FileLockTest, TwoServicesOfOneRootDoNotCollide) {
  const FileLock first(root_ + "/run/vs1.lock", "service 'vs1'");
  EXPECT_NO_THROW(FileLock(root_ + "/run/cfg1.lock", "service 'cfg1'"));
}

TEST_F(FileLockTest, FolderThatCannotBeMadeIsAnErrorThatSaysWhy) {
  std::ofstream(root_ + "/file") << "in the way";
  try {
    const FileLock lock(root_ + "/file/run/x.lock", "x");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("cannot make " + root_ + "/file/run"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("Not a directory"));
  }
}

}  // namespace
}  // namespace datom::service

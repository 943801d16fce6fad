// What control groups leave of the memory, on trees of files that look like them.
#include "comm/available_memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>

#include "tests/support/scratch.h"

namespace weft::comm {
namespace {

namespace fs = std::filesystem;

class Cgroups : public ::testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) {
    const fs::path file = mount_ / path;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text << "\n";
  }
  std::int64_t left(const std::string& membership) {
    return left_in_cgroups(membership, mount_.path());
  }
  const tests::ScratchDirectory mount_;
  static constexpr std::int64_t kAll = std::numeric_limits<std::int64_t>::max();
};

TEST_F(Cgroups, NothingKnownIsNoLimit) {
  EXPECT_EQ(left(""), kAll);
  EXPECT_EQ(left("0::/\nnonsense\n4:memory:/a/b\n"), kAll);
}

TEST_F(Cgroups, TheTightestOnTheWayUpCounts) {
  write("job/memory.max", "max");
  write("job/memory.current", "5");
  write("job/step/memory.max", "1000");
  write("job/step/memory.current", "700");
  write("job/step/task/memory.max", "5000");
  write("job/step/task/memory.current", "10");
  EXPECT_EQ(left("0::/job/step/task\n"), 300);
  EXPECT_EQ(left("0::/job\n"), kAll);
}

TEST_F(Cgroups, FilePagesAreGivenBackOnDemand) {
  write("memory.max", "1000");
  write("memory.current", "990");
  write("memory.stat", "anon 400\ninactive_file 500\nactive_file 90");
  EXPECT_EQ(left("0::/\n"), 510);
}

TEST_F(Cgroups, OfTheFirstVersionToo) {
  write("memory/box/memory.limit_in_bytes", "2000");
  write("memory/box/memory.usage_in_bytes", "2100");
  EXPECT_EQ(left("9:name=systemd:/\n4:cpu,memory:/box\n0::/\n"), 0);
  write("memory/box/memory.stat", "total_inactive_file 600");
  EXPECT_EQ(left("4:cpu,memory:/box\n"), 500);
}

TEST(AvailableMemory, ThereIsSome) { EXPECT_GT(available_memory(), 0); }

}  // namespace
}  // namespace weft::comm

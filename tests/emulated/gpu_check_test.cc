// cmake/gpu_check.sh, which runs what a bundle holds: over stand-ins for its programs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/scratch.h"
#include "tests/support/shell.h"

namespace weft {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class GpuCheckTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(folder_ / "bin");
    fs::copy_file(fs::path(WEFT_SOURCE_DIR) / "cmake/gpu_check.sh", folder_ / "gpu-check");
    program("gpu_test", "exit 0");
    has_device(true);
  }
  void program(const std::string& name, const std::string& body) const {
    const fs::path path = folder_ / "bin" / name;
    std::ofstream(path) << "#!/bin/sh\n" << body << "\n";
    fs::permissions(path, fs::perms::owner_all);
  }
  void has_device(bool has) const {
    program("weft", has ? "echo 'CUDA devices: 1 (CUDA 13.0, the driver serves 13.1)'\n"
                          "echo '  0: Loom 9000, compute capability 9.0, 132 multiprocessors'"
                        : "echo 'CUDA devices: none (no driver)'");
  }
  // Without nvidia-smi and compute-sanitizer, as on a machine that has a driver alone.
  tests::Ran check(const std::string& wishes = "") const {
    return tests::shell("PATH=/usr/bin:/bin OUT=" + (folder_ / "out").string() + " " + wishes +
                        " bash " + (folder_ / "gpu-check").string());
  }
  nlohmann::json summary() const {
    return nlohmann::json::parse(std::ifstream(folder_ / "out/summary.json"));
  }

  const tests::ScratchDirectory folder_;
};

TEST_F(GpuCheckTest, WishesThatAreNoneAreRefusedAndNothingRuns) {
  for (const char* wish : {"GPU_CHECK_ONLY=test", "GPU_CHECK_ONLY=\"all tests\"",
                           "GPU_CHECK_LIMIT=soon", "GPU_CHECK_LIMIT=0", "GPU_CHECK_LIMIT=-5"}) {
    const auto ran = check(wish);
    EXPECT_EQ(ran.exit_code, 2) << wish << "\n" << ran.output;
    EXPECT_THAT(ran.output, HasSubstr("expected")) << wish;
    EXPECT_FALSE(fs::exists(folder_ / "out")) << wish;
  }
}

TEST_F(GpuCheckTest, AGpuIsWhatWeftSees) {
  const auto ran = check("GPU_CHECK_ONLY=tests");
  EXPECT_EQ(ran.exit_code, 0) << ran.output;
  EXPECT_EQ(summary().at("device"), "Loom 9000");
  EXPECT_EQ(summary().at("driver"), "CUDA 13.1");
  has_device(false);
  const auto none = check("GPU_CHECK_ONLY=tests GPU_CHECK_LIMIT=30");
  EXPECT_EQ(none.exit_code, 3);
  EXPECT_THAT(none.output, HasSubstr("no driver"));
  EXPECT_EQ(summary().at("runs").size(), 1u) << "the tests that need none ran";
}

TEST_F(GpuCheckTest, AFailureIsOne) {
  program("gpu_test", "echo the thread broke\nexit 4");
  const auto ran = check("GPU_CHECK_ONLY=tests");
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_THAT(ran.output, HasSubstr("the thread broke"));
  EXPECT_EQ(summary().at("runs").at(0).at("rc"), 4);
}

}  // namespace
}  // namespace weft

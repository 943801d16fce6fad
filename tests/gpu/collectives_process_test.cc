// Collectives on CUDA memory among processes (gpu_member_main) that share a device through CUDA
// IPC.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/comm/process.h"
#include "tests/gpu/companion.h"
#include "tests/gpu/cuda_world.h"

namespace weft::comm {
namespace {

namespace cuda = kernels::cuda;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using testing::Process;

class CudaProcesses : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda::device_count() == 0) GTEST_SKIP() << "no GPU: " << cuda::reason_for_none();
  }

  // deeds[r] is rank r's.
  void start(const std::vector<std::string>& deeds) {
    const int size = static_cast<int>(deeds.size());
    job_ = std::make_unique<testing::TestJob>(size, testing::shm_backend());
    secret_ = std::make_unique<testing::SecretFd>(job_->identity().secret);
    const std::string program = kernels::cuda::beside_this_program("gpu_member_main");
    for (int rank = 0; rank < size; ++rank) {
      processes_.emplace_back(
          job_->options(rank), *secret_,
          std::vector<std::string>{program, deeds[static_cast<std::size_t>(rank)]});
    }
  }

  std::unique_ptr<testing::TestJob> job_;
  std::unique_ptr<testing::SecretFd> secret_;
  std::vector<Process> processes_;
};

constexpr std::chrono::seconds kPatience{60};

TEST_F(CudaProcesses, WorkTogetherThroughIpc) {
  start({"work", "work", "work"});
  for (Process& process : processes_) {
    EXPECT_TRUE(process.says("done\n", kPatience)) << process.said();
    EXPECT_THAT(process.said(), HasSubstr("means CUDA IPC\n"));
    EXPECT_THAT(process.said(), Not(HasSubstr("wrong")));
  }
}

// The emulator refuses IPC when told so; a device does not.
TEST_F(CudaProcesses, WithoutIpcTheyGoThroughHostMemory) {
  ::setenv("WEFT_EMULATED_IPC", "0", 1);
  start({"work", "work"});
  ::unsetenv("WEFT_EMULATED_IPC");
  for (Process& process : processes_) {
    EXPECT_TRUE(process.says("done\n", kPatience)) << process.said();
    EXPECT_THAT(process.said(), AnyOf(HasSubstr("means host memory: rank 0: cudaIpcGetMemHandle"),
                                      HasSubstr("means CUDA IPC\n")));
    EXPECT_THAT(process.said(), Not(HasSubstr("wrong")));
  }
}

TEST_F(CudaProcesses, SurvivorsOfAKilledRankNameIt) {
  start({"forever", "kill", "forever"});
  for (const std::size_t rank : {0u, 2u}) {
    EXPECT_TRUE(processes_[rank].says("thrown: ", kPatience)) << processes_[rank].said();
    EXPECT_TRUE(processes_[rank].says("\n", kPatience));
    EXPECT_THAT(processes_[rank].said(), AllOf(HasSubstr("rank 1"), HasSubstr("all_reduce #")));
  }
}

}  // namespace
}  // namespace weft::comm

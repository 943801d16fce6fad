// Collectives on CUDA memory among processes that share a device through CUDA IPC. The processes
// are this program again, told by their environment what to do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <numeric>

#include "tests/comm/process.h"
#include "tests/gpu/cuda_world.h"

namespace weft::comm {
namespace {

namespace cuda = kernels::cuda;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using testing::Process;
using testing::TwinBuffer;

constexpr const char* kDeed = "WEFT_TEST_DEED";

void tell(const std::string& text) {
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
}

// Through shared scratch, through symmetric memory, by flags beside the data, and messages.
void work(testing::CudaRank& rank) {
  tell("means " + rank.cuda.means());
  for (const std::int64_t count : {3, 5'000, 100'003}) {
    TwinBuffer data(DType::bf16, count, count % 2 == 1);
    for (const char* algorithm : {"", "ring", "two_shot", "tree"}) {
      data.fill(static_cast<std::uint64_t>(count + rank.rank()), rank.stream, true);
      rank.cuda.all_reduce(data.device(), ReduceOp::sum, rank.stream, {algorithm});
      rank.host.all_reduce(data.host(), ReduceOp::sum, {algorithm});
      if (data.download(rank.stream) != data.host_bytes()) tell("wrong " + std::string(algorithm));
    }
  }
  for (int k = 0; k < 3; ++k) {
    const std::int64_t count = 30'000;
    SymmetricMemory memory = rank.cuda.allocate_symmetric(Bytes(count * 4));
    std::vector<std::int32_t> values(count);
    std::iota(values.begin(), values.end(), rank.rank());
    cuda::copy_async(memory.data(), values.data(), memory.size(), rank.stream);
    rank.cuda.all_reduce({memory.data(), Elems(count), DType::i32}, ReduceOp::sum, rank.stream);
    cuda::copy_async(values.data(), memory.data(), memory.size(), rank.stream);
    rank.wait();
    const int n = rank.size();
    for (std::int32_t i = 0; i < count; ++i) {
      if (values[static_cast<std::size_t>(i)] == n * i + n * (n - 1) / 2) continue;
      tell("wrong sum in symmetric memory");
      break;
    }
  }
  TwinBuffer message(DType::u8, 200'001, false);
  message.fill(static_cast<std::uint64_t>(rank.rank()), rank.stream);
  const cuda::OwnedStream receiving(rank.cuda.device());
  TwinBuffer got(DType::u8, 200'001, true);
  rank.cuda.send(message.device(), (rank.rank() + 1) % rank.size(), rank.stream);
  const int from = (rank.rank() + rank.size() - 1) % rank.size();
  rank.cuda.recv(got.device(), from, receiving.get()).wait();
  message.fill(static_cast<std::uint64_t>(from), rank.stream);
  if (got.download(rank.stream) != message.host_bytes()) tell("wrong message");
}

void all_reduce_forever(testing::CudaRank& rank, bool ends) {
  TwinBuffer data(DType::f32, 20'000, false);
  data.fill(1, rank.stream);
  for (int k = 0;; ++k) {
    rank.cuda.all_reduce(data.device(), ReduceOp::max, rank.stream).wait();
    if (k == 3) tell("ready");
    if (k == 3 && ends) std::raise(SIGKILL);
  }
}

// One rank; not a test of its own.
TEST(CudaMember, DISABLED_Run) {
  const std::string deed = std::getenv(kDeed);
  try {
    Communicator world = Communicator::connect(ConnectOptions::from_environment());
    const cuda::OwnedStream stream(0);
    testing::CudaRank rank{world, world.cuda(0, 2), stream.get()};
    if (deed == "work") {
      work(rank);
    } else {
      all_reduce_forever(rank, deed == "kill");
    }
    rank.cuda.barrier(stream.get()).wait();
    tell("done");
  } catch (const std::exception& error) {
    tell(std::string("thrown: ") + error.what());
  }
  testing::WorldMemory::free_all();
}

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
    const std::string self = std::filesystem::read_symlink("/proc/self/exe").filename();
    for (int rank = 0; rank < size; ++rank) {
      ::setenv(kDeed, deeds[static_cast<std::size_t>(rank)].c_str(), 1);
      processes_.emplace_back(
          job_->options(rank), *secret_,
          std::vector<std::string>{self, "--gtest_filter=CudaMember.DISABLED_Run",
                                   "--gtest_also_run_disabled_tests"});
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
    EXPECT_TRUE(processes_[rank].says("\n[", kPatience));
    EXPECT_THAT(processes_[rank].said(), AllOf(HasSubstr("rank 1"), HasSubstr("all_reduce #")));
  }
}

}  // namespace
}  // namespace weft::comm

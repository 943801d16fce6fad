// Collectives in CUDA graphs, and those that go through host memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/schedule/host_map.h"
#include "tests/comm/world.h"
#include "tests/gpu/cuda_world.h"

namespace weft::comm {
namespace {

namespace cuda = kernels::cuda;
using ::testing::AllOf;
using testing::CudaRank;
using testing::CudaWorld;
using testing::expect_cuda_world;
using ::testing::HasSubstr;
using testing::run_cuda_world;
using testing::text_of_error;
using testing::TwinBuffer;

class CudaGraphs : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda::device_count() == 0) GTEST_SKIP() << "no GPU: " << cuda::reason_for_none();
  }
};
using CudaStaging = CudaGraphs;

void expect_same(CudaRank& rank, const TwinBuffer& buffer, const char* what) {
  EXPECT_EQ(buffer.download(rank.stream), buffer.host_bytes())
      << what << ", rank " << rank.rank() << " of " << rank.size();
}

TEST_F(CudaGraphs, CapturedCallsAreReplayed) {
  expect_cuda_world({3}, [](CudaRank& rank) {
    TwinBuffer large(DType::i64, 5'000, false);
    TwinBuffer small(DType::i32, 20, true);
    TwinBuffer parts(DType::i32, 60, false);
    for (TwinBuffer* one : {&large, &small, &parts}) one->fill(1, rank.stream);
    const auto calls = [&] {
      rank.cuda.all_reduce(large.device(), ReduceOp::sum, rank.stream);
      rank.cuda.all_reduce(small.device(), ReduceOp::max, rank.stream);
      rank.cuda.all_gather(small.device(), parts.device(), rank.stream);
      return rank.cuda.broadcast(large.device(0, 3'000), 1, rank.stream);
    };
    const auto on_host = [&] {
      rank.host.all_reduce(large.host(), ReduceOp::sum);
      rank.host.all_reduce(small.host(), ReduceOp::max);
      rank.host.all_gather(small.host(), parts.host());
      rank.host.broadcast(large.host(0, 3'000), 1);
    };
    calls();
    on_host();
    rank.wait();
    cuda::begin_capture(rank.stream);
    EXPECT_TRUE(calls().test());
    const cuda::Graph graph(cuda::end_capture(rank.stream));
    for (int k = 0; k < 5; ++k) {
      graph.launch(rank.stream);
      on_host();
      if (k == 2) {  // and other calls in between
        rank.cuda.all_reduce(small.device(), ReduceOp::sum, rank.stream);
        rank.host.all_reduce(small.host(), ReduceOp::sum);
      }
    }
    for (TwinBuffer* one : {&large, &small, &parts}) expect_same(rank, *one, "after replays");
    rank.host.barrier();  // nobody destroys a graph that others wait for
  });
}

TEST_F(CudaGraphs, AKindThatWasNeverCalledCannotBeCaptured) {
  expect_cuda_world({2}, [](CudaRank& rank) {
    TwinBuffer data(DType::f32, 20'000, false);
    data.fill(1, rank.stream);
    cuda::begin_capture(rank.stream);
    EXPECT_THROW(rank.cuda.all_reduce(data.device(), ReduceOp::sum, rank.stream), Unsupported);
    cuda::abandon_capture(rank.stream);
    rank.cuda.all_reduce(data.device(), ReduceOp::sum, rank.stream).wait();
  });
}

TEST_F(CudaGraphs, AFailureWhileAGraphRunsIsThrownByTheNextCall) {
  const auto errors = run_cuda_world({2}, [](CudaRank& rank) {
    TwinBuffer data(DType::f32, 20, false);
    data.fill(1, rank.stream);
    rank.cuda.all_reduce(data.device(), ReduceOp::sum, rank.stream).wait();
    cuda::begin_capture(rank.stream);
    rank.cuda.all_reduce(data.device(), ReduceOp::sum, rank.stream);
    const cuda::Graph graph(cuda::end_capture(rank.stream));
    if (rank.rank() == 1) throw std::runtime_error("out of cheese");
    graph.launch(rank.stream);
    rank.wait();  // the graph ends all the same
    for (;;) {
      rank.cuda.check();
      std::this_thread::yield();
    }
  });
  EXPECT_THAT(text_of_error(errors[0]), AllOf(HasSubstr("rank 1"), HasSubstr("exception")));
}

std::shared_ptr<const HostMap> hosts(std::vector<std::vector<std::int32_t>> of) {
  return std::make_shared<const HostMap>(host_map_of(std::move(of)));
}

// Exact in any order: whole numbers.
void check_staged(CudaRank& rank) {
  EXPECT_THAT(rank.cuda.means(), HasSubstr("host memory: the ranks are on several hosts"));
  const int n = rank.size();
  for (const std::int64_t count : {0, 1, 5, 3'001, 1'500'000}) {
    TwinBuffer sum(DType::i32, count, false);
    sum.fill(static_cast<std::uint64_t>(rank.rank()), rank.stream);
    rank.cuda.all_reduce(sum.device(), ReduceOp::sum, rank.stream);
    rank.host.all_reduce(sum.host(), ReduceOp::sum);
    rank.cuda.all_reduce(sum.device(), ReduceOp::avg, rank.stream);
    rank.host.all_reduce(sum.host(), ReduceOp::avg);
    rank.cuda.broadcast(sum.device(), n - 1, rank.stream);
    rank.host.broadcast(sum.host(), n - 1);
    expect_same(rank, sum, "all_reduce");
    if (count > 10'000) continue;
    TwinBuffer wide(DType::u8, count * n, true);
    TwinBuffer narrow(DType::u8, count, false);
    TwinBuffer out(DType::u8, count * n, false);
    narrow.fill(static_cast<std::uint64_t>(rank.rank()), rank.stream);
    rank.cuda.all_gather(narrow.device(), wide.device(), rank.stream);
    rank.host.all_gather(narrow.host(), wide.host());
    rank.cuda.reduce_scatter(wide.device(), narrow.device(), ReduceOp::max, rank.stream);
    rank.host.reduce_scatter(wide.host(), narrow.host(), ReduceOp::max);
    rank.cuda.all_to_all(wide.device(), out.device(), rank.stream);
    rank.host.all_to_all(wide.host(), out.host());
    rank.cuda.barrier(rank.stream);
    for (TwinBuffer* one : {&wide, &narrow, &out}) expect_same(rank, *one, "blocks");
  }
}

TEST_F(CudaStaging, BetweenHostsBuffersGoThroughHostMemory) {
  expect_cuda_world({4, 1, 2, hosts({{0, 1}, {2, 3}})}, check_staged);
  expect_cuda_world({4, 1, 2, hosts({{0, 2}, {1, 3}})}, check_staged);
  expect_cuda_world({3, 1, 2, hosts({{0, 1}, {2}})}, check_staged);
}

// Sums of these do not fit a half; their averages do.
TEST_F(CudaStaging, AveragesOfLargeHalvesBetweenHostsAreFinite) {
  expect_cuda_world({4, 1, 2, hosts({{0, 1}, {2, 3}})}, [](CudaRank& rank) {
    constexpr std::int64_t kCount = 3'001;
    const std::vector<Half> values(kCount, Half(30'000.0f + 16.0f * float(rank.rank())));
    std::byte* const data = testing::WorldMemory::take(Bytes(2 * kCount));
    cuda::copy_async(data, values.data(), Bytes(2 * kCount), rank.stream);
    rank.cuda.all_reduce({data, Elems(kCount), DType::f16}, ReduceOp::avg, rank.stream);
    std::vector<Half> found(kCount);
    cuda::copy_async(found.data(), data, Bytes(2 * kCount), rank.stream);
    rank.wait();
    for (const Half value : found) ASSERT_NEAR(float(value), 30'024.0f, 16.0f);
  });
}

TEST_F(CudaStaging, MessagesAndCapturesBetweenHosts) {
  expect_cuda_world({2, 1, 2, hosts({{0}, {1}})}, [](CudaRank& rank) {
    TwinBuffer data(DType::u8, 5'000'000, false);
    data.fill(static_cast<std::uint64_t>(rank.rank()), rank.stream);
    if (rank.rank() == 0) {
      rank.cuda.send(data.device(), 1, rank.stream).wait();
      rank.host.send(data.host(), 1);
    } else {
      rank.cuda.recv(data.device(), 0, rank.stream);
      rank.host.recv(data.host(), 0);
    }
    expect_same(rank, data, "a message");
    cuda::begin_capture(rank.stream);
    EXPECT_THROW(rank.cuda.barrier(rank.stream), Unsupported);
    cuda::abandon_capture(rank.stream);
  });
}

// Ranks that may not share memory: as where the system refuses IPC.
TEST_F(CudaStaging, RanksOfAHostThatTalkOverTcpGoThroughHostMemory) {
  testing::expect_world({"tcp", true}, 3, [](Communicator& world) {
    const cuda::OwnedStream stream(0);
    CudaRank rank{world, world.cuda(0, 2), stream.get()};
    EXPECT_THAT(rank.cuda.means(), HasSubstr("host memory: rank 0: the ranks of a host talk over "
                                             "TCP"));
    TwinBuffer data(DType::f64, 10'001, true);
    data.fill(static_cast<std::uint64_t>(rank.rank()), rank.stream, true);
    rank.cuda.all_reduce(data.device(), ReduceOp::prod, rank.stream);
    rank.host.all_reduce(data.host(), ReduceOp::prod);
    expect_same(rank, data, "all_reduce");
    EXPECT_EQ(rank.cuda.allocate_symmetric(Bytes(100)).size(), Bytes(100));
  });
  testing::WorldMemory::free_all();
}

TEST_F(CudaStaging, ARankThatThrowsLetsGoOfStreamsBetweenHosts) {
  const auto errors = run_cuda_world({3, 1, 2, hosts({{0}, {1}, {2}})}, [](CudaRank& rank) {
    TwinBuffer data(DType::f32, 1000, false);
    data.fill(1, rank.stream);
    if (rank.rank() == 1) throw std::runtime_error("out of cheese");
    const Work work = rank.cuda.all_reduce(data.device(), ReduceOp::sum, rank.stream);
    rank.wait();  // the stream goes on
    work.wait();
  });
  for (const std::size_t r : {0u, 2u}) {
    EXPECT_THAT(text_of_error(errors[r]), AllOf(HasSubstr("rank 1"), HasSubstr("exception")));
  }
}

}  // namespace
}  // namespace weft::comm

// Collectives on CUDA memory among threads: the same bits as on the CPU.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "comm/algorithms/algorithms.h"
#include "tests/gpu/cuda_world.h"

namespace weft::comm {
namespace {

namespace cuda = kernels::cuda;
using testing::CudaRank;
using testing::CudaWorld;
using testing::expect_cuda_world;
using testing::TwinBuffer;

class CudaCollectives : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda::device_count() == 0) GTEST_SKIP() << "no GPU: " << cuda::reason_for_none();
  }
};

constexpr DType kDTypes[] = {DType::f32, DType::f64, DType::f16, DType::bf16,
                             DType::i64, DType::i32, DType::u8};
constexpr ReduceOp kOps[] = {ReduceOp::sum, ReduceOp::prod, ReduceOp::min, ReduceOp::max,
                             ReduceOp::avg};

struct Way {
  DType dtype;
  ReduceOp op;
  std::int64_t count;
  bool in_place;
  bool unaligned;
  int root;
  std::string_view algorithm;
  // Whether every element is folded in the order of ranks, so that rounding is the same here and
  // there: others start at a rank that depends on where in its part an element lies.
  bool in_rank_order() const {
    return algorithm.empty() || algorithm == "direct" || algorithm == "two_shot";
  }
  std::string text(const char* what) const {
    return fmt::format("{} by {}: {} x {}, {}, root {}{}{}", what, algorithm, count, name_of(dtype),
                       name_of(op), root, in_place ? ", in place" : "",
                       unaligned ? ", unaligned" : "");
  }
};

void expect_twins(CudaRank& rank, const Way& way, const char* what, const TwinBuffer& buffer) {
  const auto device = buffer.download(rank.stream);
  const auto& host = buffer.host_bytes();
  for (std::size_t i = 0; i < host.size(); ++i) {
    if (device[i] == host[i]) continue;
    const auto element = i / size_of(way.dtype).size();
    ADD_FAILURE() << way.text(what) << ", rank " << rank.rank() << " of " << rank.size()
                  << ": element " << element << " of " << buffer.count()
                  << " is not what the CPU has";
    return;
  }
}

using Check = void (*)(CudaRank& rank, const Way& way);

std::uint64_t seed_of(const CudaRank& rank, const Way& way) {
  return static_cast<std::uint64_t>(way.count * 64 + rank.rank());
}

void check_all_reduce(CudaRank& rank, const Way& way) {
  TwinBuffer input(way.dtype, way.count, way.unaligned);
  TwinBuffer output(way.dtype, way.count, way.unaligned);
  input.fill(seed_of(rank, way), rank.stream, !way.in_rank_order());
  TwinBuffer& result = way.in_place ? input : output;
  rank.cuda.all_reduce(input.device(), result.device(), way.op, rank.stream, {way.algorithm});
  rank.host.all_reduce(input.host(), result.host(), way.op, {way.algorithm});
  expect_twins(rank, way, "all_reduce", result);
}

void check_reduce(CudaRank& rank, const Way& way) {
  TwinBuffer input(way.dtype, way.count, way.unaligned);
  TwinBuffer output(way.dtype, way.count, way.unaligned);
  input.fill(seed_of(rank, way), rank.stream, !way.in_rank_order());
  output.fill(7, rank.stream);
  TwinBuffer& result = way.in_place ? input : output;
  const bool is_root = rank.rank() == way.root;
  rank.cuda.reduce(input.device(), is_root ? result.device() : View{}, way.root, way.op,
                   rank.stream, {way.algorithm});
  rank.host.reduce(input.host(), is_root ? result.host() : View{}, way.root, way.op,
                   {way.algorithm});
  expect_twins(rank, way, "reduce", result);
}

void check_broadcast(CudaRank& rank, const Way& way) {
  TwinBuffer buffer(way.dtype, way.count, way.unaligned);
  buffer.fill(seed_of(rank, way), rank.stream);
  rank.cuda.broadcast(buffer.device(), way.root, rank.stream, {way.algorithm});
  rank.host.broadcast(buffer.host(), way.root, {way.algorithm});
  expect_twins(rank, way, "broadcast", buffer);
}

// Collectives with a block a rank on one side: `wide` is that side, `narrow` the other.
struct Blocks {
  TwinBuffer wide;
  TwinBuffer narrow;
  std::int64_t own;

  Blocks(CudaRank& rank, const Way& way)
      : wide(way.dtype, way.count * rank.size(), way.unaligned),
        narrow(way.dtype, way.count, way.unaligned),
        own(rank.rank() * way.count) {
    wide.fill(seed_of(rank, way), rank.stream, !way.in_rank_order());
    narrow.fill(seed_of(rank, way) + 99, rank.stream);
  }
};

void check_all_gather(CudaRank& rank, const Way& way) {
  Blocks b(rank, way);
  rank.cuda.all_gather(way.in_place ? b.wide.device(b.own, way.count) : b.narrow.device(),
                       b.wide.device(), rank.stream, {way.algorithm});
  rank.host.all_gather(way.in_place ? b.wide.host(b.own, way.count) : b.narrow.host(),
                       b.wide.host(), {way.algorithm});
  expect_twins(rank, way, "all_gather", b.wide);
}

void check_reduce_scatter(CudaRank& rank, const Way& way) {
  Blocks b(rank, way);
  const auto in_place = way.in_place;
  rank.cuda.reduce_scatter(b.wide.device(),
                           in_place ? b.wide.device(b.own, way.count) : b.narrow.device(), way.op,
                           rank.stream, {way.algorithm});
  rank.host.reduce_scatter(b.wide.host(),
                           in_place ? b.wide.host(b.own, way.count) : b.narrow.host(), way.op,
                           {way.algorithm});
  // In place the other blocks are undefined: compare the own one alone.
  if (!in_place) return expect_twins(rank, way, "reduce_scatter", b.narrow);
  const auto device = b.wide.download(rank.stream);
  const std::size_t at = bytes_of(Elems(b.own), way.dtype).size();
  const std::size_t bytes = bytes_of(Elems(way.count), way.dtype).size();
  EXPECT_EQ(std::memcmp(device.data() + at, b.wide.host_bytes().data() + at, bytes), 0)
      << way.text("reduce_scatter");
}

void check_gather(CudaRank& rank, const Way& way) {
  Blocks b(rank, way);
  const bool is_root = rank.rank() == way.root;
  rank.cuda.gather(b.narrow.device(), is_root ? b.wide.device() : View{}, way.root, rank.stream,
                   {way.algorithm});
  rank.host.gather(b.narrow.host(), is_root ? b.wide.host() : View{}, way.root, {way.algorithm});
  expect_twins(rank, way, "gather", b.wide);
}

void check_scatter(CudaRank& rank, const Way& way) {
  Blocks b(rank, way);
  const bool is_root = rank.rank() == way.root;
  rank.cuda.scatter(is_root ? ConstView(b.wide.device()) : ConstView{}, b.narrow.device(), way.root,
                    rank.stream, {way.algorithm});
  rank.host.scatter(is_root ? ConstView(b.wide.host()) : ConstView{}, b.narrow.host(), way.root,
                    {way.algorithm});
  expect_twins(rank, way, "scatter", b.narrow);
}

void check_all_to_all(CudaRank& rank, const Way& way) {
  Blocks b(rank, way);
  TwinBuffer output(way.dtype, way.count * rank.size(), way.unaligned);
  rank.cuda.all_to_all(b.wide.device(), output.device(), rank.stream, {way.algorithm});
  rank.host.all_to_all(b.wide.host(), output.host(), {way.algorithm});
  expect_twins(rank, way, "all_to_all", output);
}

void check_barrier(CudaRank& rank, const Way& way) {
  rank.cuda.barrier(rank.stream, {way.algorithm}).wait();
}

struct Subject {
  Collective collective;
  Check check;
};
constexpr Subject kSubjects[] = {
    {Collective::all_reduce, check_all_reduce},
    {Collective::reduce, check_reduce},
    {Collective::broadcast, check_broadcast},
    {Collective::all_gather, check_all_gather},
    {Collective::reduce_scatter, check_reduce_scatter},
    {Collective::gather, check_gather},
    {Collective::scatter, check_scatter},
    {Collective::all_to_all, check_all_to_all},
    {Collective::barrier, check_barrier},
};

// As tests/comm/conformance_test.cc: what is not run in full cycles at co-prime steps.
void check_everything(CudaRank& rank) {
  std::size_t turn = static_cast<std::size_t>(rank.size());
  for (const Subject& subject : kSubjects) {
    for (const Algorithm& algorithm : algorithms()) {
      if (!algorithm.supports({subject.collective, rank.rank(), rank.size(), 0})) continue;
      for (const std::int64_t count : {0, 1, 17, 1000, 20'011}) {
        ++turn;
        const Way way{kDTypes[turn % 7],
                      kOps[turn % 5],
                      count,
                      turn % 2 == 0,
                      turn % 3 == 0,
                      static_cast<int>(turn % static_cast<std::size_t>(rank.size())),
                      algorithm.name};
        subject.check(rank, way);
      }
    }
  }
}

TEST_F(CudaCollectives, EveryCollectiveAndAlgorithmGivesTheBitsOfTheCpu) {
  for (const int size : {1, 2, 3, 4, 5, 8}) {
    expect_cuda_world({size}, check_everything);
  }
}

TEST_F(CudaCollectives, EveryDTypeAndOperatorGivesTheBitsOfTheCpu) {
  expect_cuda_world({3}, [](CudaRank& rank) {
    for (const DType dtype : kDTypes) {
      for (const ReduceOp op : kOps) {
        check_all_reduce(rank, {dtype, op, 77, false, true, 0, "direct"});  // small
        check_all_reduce(rank, {dtype, op, 5001, true, false, 0, "two_shot"});
        check_all_reduce(rank, {dtype, op, 40'001, false, true, 0, "ring"});
        check_reduce_scatter(rank, {dtype, op, 777, false, false, 0, "direct"});
      }
    }
  });
}

TEST_F(CudaCollectives, LargeMessagesGoOverAllLanes) {
  expect_cuda_world({2, 1, 0}, [](CudaRank& rank) {
    check_all_reduce(rank, {DType::f32, ReduceOp::sum, 1'500'001, true, true, 0, {}});
    check_all_gather(rank, {DType::u8, ReduceOp::sum, 1'500'001, false, false, 0, {}});
    check_all_to_all(rank, {DType::bf16, ReduceOp::sum, 300'001, false, false, 0, {}});
  });
}

TEST_F(CudaCollectives, RanksOnSeveralDevicesUsePeerAccess) {
  if (cuda::device_count() < 2) GTEST_SKIP() << "one device only";
  expect_cuda_world({4, 2}, [](CudaRank& rank) {
    EXPECT_EQ(rank.cuda.means(), "threads of one process");
    check_all_reduce(rank, {DType::f32, ReduceOp::sum, 10'001, false, false, 0, {}});
    check_all_gather(rank, {DType::i32, ReduceOp::sum, 3'001, false, false, 0, {}});
  });
}

TEST_F(CudaCollectives, CallsOnSeveralStreamsKeepTheirOrder) {
  expect_cuda_world({3}, [](CudaRank& rank) {
    const cuda::OwnedStream other(rank.cuda.device());
    TwinBuffer data(DType::i64, 3000, false);
    data.fill(1, rank.stream);
    for (int k = 0; k < 20; ++k) {
      const cuda::Stream stream = k % 2 == 0 ? rank.stream : other.get();
      rank.cuda.all_reduce(data.device(), ReduceOp::sum, stream);
      rank.host.all_reduce(data.host(), ReduceOp::sum);
    }
    const Work last = rank.cuda.barrier(other.get());
    last.wait_on(rank.stream);
    expect_twins(rank, {DType::i64, ReduceOp::sum, 3000, true, false, 0, {}}, "all_reduce", data);
    last.wait();
    EXPECT_TRUE(last.test());
  });
}

TEST_F(CudaCollectives, SmallCallsFollowOneAnother) {
  expect_cuda_world({4}, [](CudaRank& rank) {
    for (int k = 0; k < 200; ++k) {
      const std::int64_t count = 1 + k * 13 % 40;
      check_all_reduce(rank, {kDTypes[k % 7], ReduceOp::sum, count, true, k % 3 == 0, 0, {}});
    }
  });
}

TEST_F(CudaCollectives, MessagesArriveInOrder) {
  expect_cuda_world({3}, [](CudaRank& rank) {
    const cuda::OwnedStream receiving(rank.cuda.device());
    const int to = (rank.rank() + 1) % 3;
    const int from = (rank.rank() + 2) % 3;
    for (const std::int64_t count : {0, 1, 1000, 300'007}) {
      TwinBuffer sent(DType::u8, count, true);
      TwinBuffer got(DType::u8, count, false);
      sent.fill(static_cast<std::uint64_t>(rank.rank()), rank.stream);
      got.fill(77, rank.stream);
      rank.cuda.send(sent.device(), to, rank.stream);
      const Work done = rank.cuda.recv(got.device(), from, receiving.get());
      const Work expected = rank.host.recv_async(got.host(), from);
      rank.host.send(sent.host(), to);
      expected.wait();
      done.wait();
      expect_twins(rank, {DType::u8, ReduceOp::sum, count, false, false, from, {}}, "recv", got);
    }
  });
}

TEST_F(CudaCollectives, SymmetricMemoryIsZeroedAndUsedInCalls) {
  expect_cuda_world({2}, [](CudaRank& rank) {
    for (int k = 0; k < 5; ++k) {
      SymmetricMemory memory = rank.cuda.allocate_symmetric(Bytes(40'000));
      const View view(memory.data(), Elems(10'000), DType::i32);
      const std::int32_t mine = rank.rank() + 1;
      cuda::copy_async(memory.data(), &mine, Bytes(4), rank.stream);
      rank.cuda.all_reduce(view, ReduceOp::sum, rank.stream);
      std::int32_t sums[2] = {-1, -1};
      cuda::copy_async(sums, memory.data(), Bytes(8), rank.stream);
      rank.wait();
      EXPECT_EQ(sums[0], 3);
      EXPECT_EQ(sums[1], 0);
    }
    EXPECT_EQ(rank.cuda.allocate_symmetric(Bytes(0)).size(), Bytes(0));
    EXPECT_THROW(rank.cuda.allocate_symmetric(Bytes(-1)), InvalidArgument);
  });
}

}  // namespace
}  // namespace weft::comm

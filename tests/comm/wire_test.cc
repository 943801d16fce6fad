// Compression on the wire: what is not finite, what travels, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "comm/algorithms/algorithms.h"
#include "tests/comm/wire_data.h"

namespace weft::comm {
namespace {

using ::testing::AllOf;
using testing::Backend;
using ::testing::HasSubstr;
using testing::kInproc;
using testing::kTwoLanes;
using testing::outputs;
using testing::run_world;
using testing::same_bits;
using testing::share_of;
using testing::text_of;

TEST(Wire, WhatIsNotFiniteReachesEveryRank) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const DType wire : {DType::bf16, DType::f16}) {
    const auto results = outputs(kInproc, 3, [&](Communicator& world) {
      std::vector<float> mine(64, 1.0f);
      if (world.rank() == 1) mine[3] = std::numeric_limits<float>::quiet_NaN();
      if (world.rank() == 2) mine[5] = -kInfinity;
      mine[7] = 30'000.0f;  // finite everywhere, but not what f16 makes of the sum
      mine[9] = 0x1.ff0001p127f / 3;
      world.all_reduce(std::span(mine), ReduceOp::sum, {{}, wire});
      return mine;
    });
    for (const auto& result : results) {
      EXPECT_TRUE(std::isnan(result[3]));
      EXPECT_EQ(result[5], -kInfinity);
      EXPECT_EQ(std::isinf(result[7]), wire == DType::f16);
      EXPECT_TRUE(std::isinf(result[9]) || wire == DType::bf16);
      EXPECT_EQ(result[0], 3.0f);
      EXPECT_TRUE(same_bits(result, results.front()));
    }
  }
}

TEST(Wire, HalvesTheBytesSent) {
  const auto bytes = [](std::optional<DType> wire) {
    std::uint64_t sent = 0;
    testing::expect_world(kTwoLanes, 4, [&](Communicator& world) {
      std::vector<float> data(100'000, 1.0f);
      world.all_reduce(std::span(data), ReduceOp::sum, {"ring", wire});
      if (world.rank() == 0) sent = world.traffic().bytes_sent;
    });
    return sent;
  };
  EXPECT_EQ(bytes(DType::bf16) * 2, bytes(std::nullopt));
  EXPECT_EQ(bytes(DType::f32), bytes(std::nullopt));
}

TEST(Wire, AGroupOfOneRoundsNothing) {
  Communicator self = Communicator::self();
  std::vector<float> data{1.0f + 0x1p-20f};
  self.all_reduce(std::span(data), ReduceOp::sum, {{}, DType::bf16});
  self.broadcast(std::span(data), 0, {{}, DType::f16});
  EXPECT_EQ(data[0], 1.0f + 0x1p-20f);
}

TEST(Wire, ManyInFlightOfAllKindsKeepTheirOrder) {
  testing::expect_world(kTwoLanes, 3, [](Communicator& world) {
    constexpr std::optional<DType> kWires[] = {DType::bf16, std::nullopt, DType::f16};
    std::vector<std::vector<float>> buffers;
    std::vector<Work> works;
    for (int k = 0; k < 30; ++k) {
      buffers.emplace_back(static_cast<std::size_t>(1 + k * 997), static_cast<float>(k));
    }
    for (std::size_t k = 0; k < buffers.size(); ++k) {
      works.push_back(
          world.all_reduce_async(std::span(buffers[k]), ReduceOp::sum, {{}, kWires[k % 3]}));
    }
    for (std::size_t k = 0; k < buffers.size(); ++k) {
      works[k].wait();
      EXPECT_THAT(buffers[k], ::testing::Each(static_cast<float>(3 * k)));
    }
  });
}

TEST(Wire, RanksThatDisagreeAreToldWhatEachSends) {
  for (const Backend& backend : {kInproc, kTwoLanes}) {
    const auto errors = run_world(backend, 2, [](Communicator& world) {
      std::vector<float> data(5000);
      const std::optional<DType> wire =
          world.rank() == 0 ? std::optional(DType::bf16) : std::nullopt;
      world.all_reduce(std::span(data), ReduceOp::sum, {{}, wire});
    });
    for (const auto& error : errors) {
      EXPECT_THAT(text_of(error), HasSubstr("rank 0 calls all_reduce #1, 5000 x f32 sent as bf16"));
      EXPECT_THAT(text_of(error), HasSubstr("rank 1 calls all_reduce #1, 5000 x f32, sum"));
    }
  }
}

template <class Call>
std::string refusal(const Call& call) {
  try {
    call();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Wire, IsRefusedWhereItMakesNoSense) {
  testing::expect_world(kInproc, 2, [](Communicator& world) {
    std::vector<float> data(8);
    std::vector<double> doubles(8);
    const std::span<float> all(data);
    const View half = all.subspan(0, 4);
    const CallOptions bf16{{}, DType::bf16};
    EXPECT_THAT(refusal([&] { world.all_reduce(std::span(doubles), ReduceOp::sum, bf16); }),
                AllOf(HasSubstr("all_reduce"), HasSubstr("bf16"), HasSubstr("buffers are f64")));
    EXPECT_THAT(refusal([&] {
                  world.broadcast(all, 0, {{}, DType::i32});
                }),
                AllOf(HasSubstr("broadcast: wire is i32"), HasSubstr("expected f16 or bf16")));
    EXPECT_THAT(refusal([&] {
                  world.all_gather(half, all, {{}, static_cast<DType>(99)});
                }),
                HasSubstr("no DType"));
    EXPECT_THAT(refusal([&] { world.gather(half, all, 0, bf16); }),
                AllOf(HasSubstr("gather does not compress"), HasSubstr("cast")));
    EXPECT_THAT(refusal([&] { world.all_to_all(half, all.subspan(4, 4), bf16); }),
                HasSubstr("compress"));
    EXPECT_THAT(refusal([&] { world.barrier(bf16); }), HasSubstr("compress"));
    for (const char* algorithm : {"direct", "recursive_doubling"}) {
      EXPECT_THAT(refusal([&] {
                    world.all_reduce(all, ReduceOp::sum, {algorithm, DType::bf16});
                  }),
                  AllOf(HasSubstr(algorithm), HasSubstr("different bits"), HasSubstr("two_shot")));
    }
    world.all_reduce(all, ReduceOp::sum, bf16);  // as good as new
  });
}

TEST(Wire, ADefaultAlgorithmThatCannotGivesWay) {
  Backend backend = kTwoLanes;
  backend.algorithm = "direct";
  const auto results = outputs(backend, 3, [](Communicator& world) {
    std::vector<float> mine = share_of({"plain", testing::plain}, world.rank(), 100);
    world.all_reduce(std::span(mine), ReduceOp::sum, {{}, DType::bf16});
    return mine;
  });
  for (const auto& result : results) EXPECT_TRUE(same_bits(result, results.front()));
}

// Across hosts and inside, and where the sum of a host is only part of the whole.
TEST(Wire, HierarchicalGivesAllRanksTheSameBits) {
  for (HostMap (*hosts)(int) : {testing::dealt_to_two_hosts, testing::hosts_of_growing_size}) {
    Backend backend;
    backend.hosts = hosts;
    const auto results = outputs(backend, 7, [](Communicator& world) {
      std::vector<float> mine = share_of({"plain", testing::plain}, world.rank(), 3001);
      world.all_reduce(std::span(mine), ReduceOp::avg, {"hierarchical", DType::bf16});
      return mine;
    });
    for (const auto& result : results) EXPECT_TRUE(same_bits(result, results.front()));
  }
}

// What "completes_once" promises, for every algorithm there is. Hierarchical, for which this world
// has no hosts, is asked in HierarchicalCompletesEveryChunkOnce.
TEST(Wire, AlgorithmsCompleteChunksWhereTheySay) {
  for (const Algorithm& algorithm : algorithms()) {
    for (int n = 2; n <= 17; ++n) {
      std::vector<int> completed;
      if (!algorithm.supports({Collective::all_reduce, 0, n, 0})) continue;
      for (int rank = 0; rank < n; ++rank) {
        const Schedule schedule = algorithm.emit({Collective::all_reduce, rank, n, 0});
        completed.resize(static_cast<std::size_t>(chunk_count(schedule, Buffer::output)));
        for (const Step& step : schedule.steps) {
          for (int k = 0; step.completes && k < step.to.count; ++k) {
            ++completed[static_cast<std::size_t>(step.to.chunk + k)];
          }
        }
      }
      if (algorithm.completes_once) {
        EXPECT_THAT(completed, ::testing::Each(1)) << algorithm.name << ", " << n;
      } else {
        EXPECT_THAT(completed, ::testing::Each(::testing::Gt(1))) << algorithm.name << ", " << n;
      }
    }
  }
}

TEST(Wire, HierarchicalCompletesEveryChunkOnce) {
  const Algorithm& algorithm = *find_algorithm("hierarchical");
  ASSERT_TRUE(algorithm.completes_once);
  for (HostMap (*hosts)(int) : {testing::dealt_to_two_hosts, testing::hosts_of_growing_size}) {
    for (int n = 3; n <= 17; ++n) {
      const auto map = std::make_shared<const HostMap>(hosts(n));
      std::vector<int> completed;
      for (int rank = 0; rank < n; ++rank) {
        const Schedule schedule = algorithm.emit({Collective::all_reduce, rank, n, 0, map});
        completed.resize(static_cast<std::size_t>(chunk_count(schedule, Buffer::output)));
        for (const Step& step : schedule.steps) {
          for (int k = 0; step.completes && k < step.to.count; ++k) {
            ++completed[static_cast<std::size_t>(step.to.chunk + k)];
          }
        }
      }
      EXPECT_THAT(completed, ::testing::Each(1)) << n;
    }
  }
}

}  // namespace
}  // namespace weft::comm

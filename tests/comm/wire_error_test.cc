// Compression on the wire: the stated error bounds (communicator.h) against f64, and equal bits on
// all ranks.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "comm/algorithms/algorithms.h"
#include "kernels/base/half.h"
#include "kernels/wire.h"
#include "tests/comm/wire_data.h"

namespace weft::comm {
namespace {

using testing::Backend;
using testing::Data;
using testing::data_for;
using testing::kInproc;
using testing::kTwoLanes;
using testing::outputs;
using testing::same_bits;
using testing::share_of;

float rounded(float value, DType wire) {
  return wire == DType::bf16 ? static_cast<float>(BFloat16(value))
                             : static_cast<float>(Half(value));
}

int ceil_log2(int n) { return static_cast<int>(std::bit_width(static_cast<unsigned>(n - 1))); }

// How often a contribution to an all-reduce is rounded at most (communicator.h).
int roundings(std::string_view algorithm, int n) {
  if (algorithm == "two_shot") return 2;
  if (algorithm == "halving_doubling") return 1 + ceil_log2(n);
  if (algorithm == "tree") return 2 + (std::bit_width(static_cast<unsigned>(n - 1)) - 1);
  return n;
}

double bound_of(DType wire, int hops, int n, double sum_of_magnitudes, ReduceOp op) {
  const double u = kernels::wire_unit(wire);
  const double growth = std::pow(1 + u, hops) * std::pow(1 + 0x1p-24, n) - 1;
  const double scale = op == ReduceOp::avg ? 1.0 / n : 1.0;
  return growth * sum_of_magnitudes * scale + 2 * n * kernels::wire_tiny(wire);
}

// The largest error as a part of its bound: at most 1.
double worst(const std::vector<float>& result, const Data& data, DType wire, int hops, int n,
             ReduceOp op, std::int64_t begin = 0) {
  double part = 0;
  for (std::size_t k = 0; k < result.size(); ++k) {
    double exact = 0;
    double magnitudes = 0;
    for (int r = 0; r < n; ++r) {
      const double x = data.of(r, begin + static_cast<std::int64_t>(k));
      exact += x;
      magnitudes += std::abs(x);
    }
    if (op == ReduceOp::avg) exact /= n;
    const double error = std::abs(static_cast<double>(result[k]) - exact);
    const double ratio = error / bound_of(wire, hops, n, magnitudes, op);
    part = ratio <= part ? part : ratio;  // NaN stays
  }
  return part;
}

struct Case {
  DType wire;
  bool tcp;
};
class WireError : public ::testing::TestWithParam<Case> {
 protected:
  const Backend& backend() const { return GetParam().tcp ? kTwoLanes : kInproc; }
  DType wire() const { return GetParam().wire; }
  std::vector<int> sizes() const {
    return GetParam().tcp ? std::vector<int>{2, 4} : std::vector<int>{2, 3, 4, 5, 8, 13};
  }
};

TEST_P(WireError, OfAllReduceStaysWithinItsBoundAndAllRanksHaveTheSameBits) {
  constexpr std::int64_t kCount = 3001;
  for (const int n : sizes()) {
    for (const Algorithm& algorithm : algorithms()) {
      const Problem problem{Collective::all_reduce, 0, n, 0};
      if (!algorithm.supports(problem) || !completes_once(algorithm, problem)) continue;
      double largest = 0;
      for (const Data& data : data_for(wire())) {
        for (const ReduceOp op : {ReduceOp::sum, ReduceOp::avg}) {
          const auto results = outputs(backend(), n, [&](Communicator& world) {
            std::vector<float> mine = share_of(data, world.rank(), kCount);
            if (op == ReduceOp::sum) {  // in place; avg out of place
              world.all_reduce(std::span(mine), op, {algorithm.name, wire()});
              return mine;
            }
            std::vector<float> result(mine.size());
            world.all_reduce(std::span(std::as_const(mine)), std::span(result), op,
                             {algorithm.name, wire()});
            EXPECT_TRUE(same_bits(mine, share_of(data, world.rank(), kCount))) << "the input";
            return result;
          });
          for (const auto& other : results) EXPECT_TRUE(same_bits(other, results.front()));
          const double part =
              worst(results.front(), data, wire(), roundings(algorithm.name, n), n, op);
          EXPECT_LE(part, 1.0) << algorithm.name << ", " << n << " ranks, " << data.name << ", "
                               << name_of(op);
          largest = std::max(largest, part);
        }
      }
      EXPECT_GT(largest, 0.1) << algorithm.name << ", " << n << ": the bound says nothing";
    }
  }
}

TEST_P(WireError, OfReduceAndReduceScatterIsOneRoundingLess) {
  constexpr std::int64_t kBlock = 501;
  for (const int n : sizes()) {
    for (const Data& data : data_for(wire())) {
      for (const char* algorithm : {"ring", "direct"}) {
        const int hops = algorithm == std::string_view("ring") ? n - 1 : 1;
        const auto check = [&](const std::vector<float>& result, std::int64_t begin) {
          EXPECT_LE(worst(result, data, wire(), hops, n, ReduceOp::sum, begin), 1.0)
              << algorithm << ", " << n << " ranks, " << data.name;
        };
        testing::expect_world(backend(), n, [&](Communicator& world) {
          const auto mine = share_of(data, world.rank(), kBlock * n);
          std::vector<float> block(kBlock);
          world.reduce_scatter(std::span(mine), std::span(block), ReduceOp::sum,
                               {algorithm, wire()});
          check(block, world.rank() * kBlock);
          const std::vector<Elems> counts(static_cast<std::size_t>(n), Elems(kBlock));
          world.reduce_scatter_v(std::span(mine), std::span(block), counts, ReduceOp::sum,
                                 {algorithm, wire()});
          check(block, world.rank() * kBlock);
          std::vector<float> all(mine.size());
          const int root = n - 1;
          world.reduce(std::span(mine), world.rank() == root ? View(std::span(all)) : View{}, root,
                       ReduceOp::sum, {algorithm, wire()});
          if (world.rank() == root) check(all, 0);
        });
      }
    }
  }
}

TEST_P(WireError, OfCopiesIsExactlyOneRounding) {
  constexpr std::int64_t kBlock = 70'001;  // of more than one message
  const Data data = data_for(wire()).back();
  for (const int n : {2, 3, 4}) {
    for (const Algorithm& algorithm : algorithms()) {
      const auto compare = [&](const std::vector<float>& result, int rank, std::int64_t begin) {
        std::int64_t wrong = 0;
        for (std::int64_t i = 0; i < kBlock; ++i) {
          const auto at = static_cast<std::size_t>(begin + i);
          wrong += result[at] != rounded(data.of(rank, i), wire());
        }
        EXPECT_EQ(wrong, 0) << algorithm.name << ", " << n << " ranks, block of " << rank;
      };
      testing::expect_world(backend(), n, [&](Communicator& world) {
        const CallOptions options{algorithm.name, wire()};
        const auto mine = share_of(data, world.rank(), kBlock);
        if (algorithm.supports({Collective::broadcast, world.rank(), n, 1})) {
          auto buffer = mine;
          world.broadcast(std::span(buffer), 1, options);
          compare(buffer, 1, 0);
        }
        if (!algorithm.supports({Collective::all_gather, world.rank(), n, 0})) return;
        std::vector<float> all(mine.size() * static_cast<std::size_t>(n));
        world.all_gather(std::span(mine), std::span(all), options);
        for (int r = 0; r < n; ++r) compare(all, r, r * kBlock);
        const std::span<float> own = std::span(all).subspan(
            mine.size() * static_cast<std::size_t>(world.rank()), mine.size());
        std::copy(mine.begin(), mine.end(), own.begin());
        world.all_gather(ConstView(std::span<const float>(own)), std::span(all), options);
        for (int r = 0; r < n; ++r) compare(all, r, r * kBlock);
        const std::vector<Elems> counts(static_cast<std::size_t>(n), Elems(kBlock));
        std::fill(all.begin(), all.end(), -1.0f);
        world.all_gather_v(std::span(mine), std::span(all), counts, options);
        for (int r = 0; r < n; ++r) compare(all, r, r * kBlock);
      });
    }
  }
}

TEST_P(WireError, OfMinAndMaxIsOneRoundingOfTheExactResult) {
  constexpr std::int64_t kCount = 1003;
  const Data data{"spread", testing::spread};
  for (const ReduceOp op : {ReduceOp::min, ReduceOp::max}) {
    const auto results = outputs(backend(), 4, [&](Communicator& world) {
      std::vector<float> mine = share_of(data, world.rank(), kCount);
      world.all_reduce(std::span(mine), op, {{}, wire()});
      return mine;
    });
    for (std::int64_t i = 0; i < kCount; ++i) {
      float exact = data.of(0, i);
      for (int r = 1; r < 4; ++r) {
        exact =
            op == ReduceOp::min ? std::min(exact, data.of(r, i)) : std::max(exact, data.of(r, i));
      }
      for (const auto& result : results) {
        ASSERT_EQ(result[static_cast<std::size_t>(i)], rounded(exact, wire())) << i;
      }
    }
  }
}

TEST_P(WireError, LargeUnalignedBuffersInManyTiles) {
  constexpr std::int64_t kCount = 3'000'001;
  const Data data{"plain", testing::plain};
  const auto results = outputs(backend(), 2, [&](Communicator& world) {
    std::vector<std::byte> bytes(kCount * sizeof(float) + 1);
    const auto mine = share_of(data, world.rank(), kCount);
    std::memcpy(bytes.data() + 1, mine.data(), mine.size() * sizeof(float));
    world.all_reduce(View(bytes.data() + 1, Elems(kCount), DType::f32), ReduceOp::sum,
                     {{}, wire()});
    std::vector<float> result(mine.size());
    std::memcpy(result.data(), bytes.data() + 1, result.size() * sizeof(float));
    return result;
  });
  EXPECT_TRUE(same_bits(results[0], results[1]));
  EXPECT_LE(worst(results[0], data, wire(), 2, 2, ReduceOp::sum), 1.0);
}

INSTANTIATE_TEST_SUITE_P(Types, WireError,
                         ::testing::Values(Case{DType::bf16, false}, Case{DType::f16, false},
                                           Case{DType::bf16, true}, Case{DType::f16, true}),
                         [](const auto& param_info) {
                           return std::string(name_of(param_info.param.wire)) +
                                  (param_info.param.tcp ? "_tcp" : "_inproc");
                         });

}  // namespace
}  // namespace weft::comm

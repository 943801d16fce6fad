#include "tensor/parallel/zero.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/parallel/zero_world.h"

namespace weft::parallel {
namespace {

using namespace parallel::tests;  // NOLINT: the model under test
using testing::HasSubstr;

std::size_t different(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  std::size_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) count += a[i] != b[i];
  return count;
}

class ZeroEqualsDdp : public testing::TestWithParam<std::tuple<int, int, int>> {};

TEST_P(ZeroEqualsDdp, BitByBitAfterFiftySteps) {
  const auto [stage, world, accumulate] = GetParam();
  const auto ddp = train(world, {.stage = 0, .accumulate = accumulate});
  const auto zero = train(world, {.stage = stage, .accumulate = accumulate});
  for (int r = 0; r < world; ++r) {
    EXPECT_EQ(different(zero[static_cast<std::size_t>(r)], ddp[0]), 0u) << "rank " << r;
  }
}

INSTANTIATE_TEST_SUITE_P(Stages, ZeroEqualsDdp,
                         testing::Combine(testing::Values(1, 2, 3), testing::Values(1, 2, 3, 4),
                                          testing::Values(1, 2)));

}  // namespace
}  // namespace weft::parallel

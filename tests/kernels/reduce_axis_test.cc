#include <gtest/gtest.h>

#include "kernels/base/error.h"
#include "kernels/base/thread_pool.h"
#include "kernels/elementwise.h"
#include "tests/kernels/values.h"

namespace weft::kernels {
namespace {

const Axis kAxes[] = {{1, 1, 1},      {3, 0, 5},    {4, 7, 1},    {5, 1000, 1},
                      {1, 100001, 1}, {2, 33, 5},   {1, 9000, 3}, {1, 2048, 384},
                      {3, 65, 1030},  {2, 129, 17}, {0, 4, 4},    {7, 3, 0}};

std::size_t count_of(std::int64_t value) { return static_cast<std::size_t>(value); }

template <class T>
double epsilon_of() {
  if (std::is_same_v<T, double>) return 1e-13;
  if (std::is_same_v<T, float>) return 1e-5;
  return std::is_same_v<T, Half> ? 1e-3 : 8e-3;
}

template <class T>
class AxisTest : public testing::Test {
 protected:
  ThreadPool pool_{3};
  ScopedThreadPool scope_{pool_};
};
using Types = testing::Types<double, float, Half, BFloat16>;
TYPED_TEST_SUITE(AxisTest, Types);

TYPED_TEST(AxisTest, SumsAndMeansMatchPlainLoops) {
  using T = TypeParam;
  for_each_target([] {
    for (const Axis& axis : kAxes) {
      const auto in = ordinary_buffer<T>(count_of(axis.outer * axis.reduced * axis.inner), 1);
      Buffer<T> sum(count_of(axis.outer * axis.inner)), mean(sum.size());
      reduce_axis(AxisOp::sum, dtype_of<T>, axis, sum.data(), in.data());
      reduce_axis(AxisOp::mean, dtype_of<T>, axis, mean.data(), in.data());
      for (std::int64_t i = 0; i < axis.outer * axis.inner; ++i) {
        double want = 0.0, size = 0.0;
        for (std::int64_t r = 0; r < axis.reduced; ++r) {
          const double x = as_double(
              in.get(count_of((i / axis.inner * axis.reduced + r) * axis.inner + i % axis.inner)));
          want += x;
          size += std::fabs(x);
        }
        const double allowed = epsilon_of<T>() * (std::fabs(want) + 1e-2 * size + 1e-6);
        ASSERT_NEAR(as_double(sum.get(count_of(i))), want, allowed)
            << axis.outer << " " << axis.reduced << " " << axis.inner << " at " << i;
        if (axis.reduced > 0) {
          const auto count = static_cast<double>(axis.reduced);
          ASSERT_NEAR(as_double(mean.get(count_of(i))), want / count, allowed / count);
        } else {
          ASSERT_TRUE(std::isnan(as_double(mean.get(count_of(i)))));
        }
      }
      ASSERT_TRUE(sum.guards_are_whole() && mean.guards_are_whole());
    }
  });
}

TYPED_TEST(AxisTest, SumsDoNotDependOnThreads) {
  using T = TypeParam;
  for (const Axis& axis : kAxes) {
    const auto in = ordinary_buffer<T>(count_of(axis.outer * axis.reduced * axis.inner), 1);
    Buffer<T> first(count_of(axis.outer * axis.inner));
    reduce_axis(AxisOp::sum, dtype_of<T>, axis, first.data(), in.data());
    for (const int threads : {1, 2, 7}) {
      ThreadPool pool(threads);
      const ScopedThreadPool scope(pool);
      Buffer<T> again(first.size());
      reduce_axis(AxisOp::sum, dtype_of<T>, axis, again.data(), in.data());
      for (std::size_t i = 0; i < first.size(); ++i) {
        ASSERT_TRUE(same(first.get(i), again.get(i))) << threads << " threads, " << i;
      }
    }
  }
}

TYPED_TEST(AxisTest, MaxFindsTheFirstLargestAndItsBackwardReturnsThere) {
  using T = TypeParam;
  for (const Axis& axis : {Axis{4, 7, 1}, Axis{2, 33, 5}, Axis{1, 100, 300}, Axis{3, 1, 2}}) {
    const std::size_t outputs = count_of(axis.outer * axis.inner);
    const auto in = awkward_buffer<T>(count_of(axis.outer * axis.reduced * axis.inner), 0, 3);
    Buffer<T> best(outputs), back(in.size());
    std::vector<std::int64_t> where(outputs);
    max_axis(dtype_of<T>, axis, best.data(), where.data(), in.data());
    max_axis_backward(dtype_of<T>, axis, back.data(), best.data(), where.data());
    for (std::int64_t i = 0; i < axis.outer * axis.inner; ++i) {
      const auto at = [&](std::int64_t r) {
        return count_of((i / axis.inner * axis.reduced + r) * axis.inner + i % axis.inner);
      };
      std::int64_t want = 0;
      for (std::int64_t r = 1; r < axis.reduced; ++r) {
        const double x = as_double(in.get(at(r))), top = as_double(in.get(at(want)));
        if (!std::isnan(top) && (std::isnan(x) || x > top)) want = r;
      }
      ASSERT_EQ(where[count_of(i)], want);
      ASSERT_TRUE(same(best.get(count_of(i)), in.get(at(want))));
      for (std::int64_t r = 0; r < axis.reduced; ++r) {
        const T expected = r == want ? best.get(count_of(i)) : from_double<T>(0.0);
        ASSERT_TRUE(same(back.get(at(r)), expected));
      }
    }
  }
}

TEST(AxisIntegerTest, SumsWrapAndMeanIsRefused) {
  const std::uint8_t in[] = {200, 100, 1, 2, 3, 4};
  std::uint8_t out[2];
  reduce_axis(AxisOp::sum, DType::u8, {1, 3, 2}, out, in);
  EXPECT_EQ(out[0], 204);
  EXPECT_EQ(out[1], 106);
  EXPECT_THROW(reduce_axis(AxisOp::mean, DType::u8, {1, 3, 2}, out, in), InvalidArgument);
}

TEST(AxisErrorTest, RefusesTheLargestOfNothingAndBadIndices) {
  float x[4] = {};
  std::int64_t index[2] = {0, 5};
  EXPECT_THROW(max_axis(DType::f32, {2, 0, 1}, x, index, x), InvalidArgument);
  EXPECT_THROW(max_axis_backward(DType::f32, {2, 2, 1}, x, x, index), InvalidArgument);
  EXPECT_THROW(reduce_axis(AxisOp::sum, DType::f32, {-1, 2, 1}, x, x), InvalidArgument);
}

}  // namespace
}  // namespace weft::kernels

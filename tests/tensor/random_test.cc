#include "tensor/random.h"

#include <gmock/gmock.h>

#include <array>
#include <cmath>

#include "kernels/base/thread_pool.h"
#include "kernels/philox.h"
#include "tests/tensor/gradcheck.h"

namespace weft::tests {
namespace {

using kernels::Philox;
using tensor::Generator;

TEST(RandomTest, WordsAreThoseOfTheStream) {
  Generator generator(5, 9);
  const Philox philox{5, 9};
  for (std::uint64_t n = 0; n < 10; ++n) EXPECT_EQ(generator.next_u32(), philox.at(n));
  EXPECT_EQ(generator.offset(), 10u);
  generator.set_offset(3);
  EXPECT_EQ(generator.next_u32(), philox.at(3));
}

TEST(RandomTest, BlocksStartAfterABegunOne) {
  Generator generator(1);
  EXPECT_EQ(generator.reserve_blocks(5), 0u);
  EXPECT_EQ(generator.offset(), 8u);
  (void)generator.next_u32();
  EXPECT_EQ(generator.reserve_blocks(4), 3u);
  EXPECT_EQ(generator.offset(), 16u);
}

// `count` numbers of a distribution with the given mean and variance stand within five standard
// errors.
void expect_moments(const std::vector<double>& values, double mean, double variance) {
  const auto count = static_cast<double>(values.size());
  double sum = 0.0, squares = 0.0;
  for (const auto value : values) {
    sum += value;
    squares += (value - mean) * (value - mean);
  }
  EXPECT_NEAR(sum / count, mean, 5 * std::sqrt(variance / count));
  EXPECT_NEAR(squares / count, variance, 10 * variance / std::sqrt(count));
}

TEST(RandomTest, MomentsAreRight) {
  for (const auto dtype : {DType::f64, DType::f32, DType::bf16}) {
    SCOPED_TRACE(name_of(dtype));
    Generator generator(42);
    const auto normal = Tensor::randn({100, 1001}, generator, {dtype, {}}).to_vector<double>();
    expect_moments(normal, 0.0, 1.0);
    double neighbours = 0.0, beyond_two = 0.0;
    for (std::size_t i = 0; i + 1 < normal.size(); ++i) {
      neighbours += normal[i] * normal[i + 1];
      beyond_two += std::abs(normal[i]) > 2.0 ? 1.0 : 0.0;
    }
    EXPECT_NEAR(neighbours / static_cast<double>(normal.size()), 0.0, 0.02);
    EXPECT_NEAR(beyond_two / static_cast<double>(normal.size()), 0.0455, 0.005);
    const auto uniform = Tensor::rand({100, 1001}, generator, {dtype, {}}).to_vector<double>();
    expect_moments(uniform, 0.5, 1.0 / 12);
    for (const auto value : uniform) {
      ASSERT_GE(value, 0.0);
      ASSERT_LE(value, dtype == DType::bf16 ? 1.0 : std::nextafter(1.0, 0.0));
    }
  }
}

TEST(RandomTest, NumberOfThreadsChangesNothing) {
  std::vector<float> first;
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    const ScopedThreadPool scope(pool);
    Generator generator(7);
    const auto values = Tensor::randn({50'001}, generator).to_vector<float>();
    if (first.empty()) first = values;
    EXPECT_EQ(values, first) << threads << " threads";
    EXPECT_EQ(generator.offset(), 50'004u);
  }
}

TEST(RandomTest, SeedsStreamsAndPositionsDiffer) {
  const auto draw = [](std::uint64_t seed, std::uint64_t stream, std::uint64_t offset) {
    Generator generator(seed, stream);
    generator.set_offset(offset);
    return Tensor::rand({16}, generator).to_vector<float>();
  };
  EXPECT_EQ(draw(1, 2, 4), draw(1, 2, 4));
  EXPECT_NE(draw(1, 2, 4), draw(2, 2, 4));
  EXPECT_NE(draw(1, 2, 4), draw(1, 3, 4));
  EXPECT_NE(draw(1, 2, 4), draw(1, 2, 8));
  EXPECT_NE(draw(1, 2, 0), draw(1, 2, std::uint64_t{1} << 40));
}

TEST(RandomTest, BelowIsUniformAndInRange) {
  Generator generator(3);
  std::array<int, 7> counts{};
  for (int i = 0; i < 70'000; ++i) ++counts[generator.next_below(7)];
  for (const int count : counts) EXPECT_NEAR(count, 10'000, 500);
  // Where n does not divide 2^64, some numbers would come twice as often but for the rejection.
  int threes = 0;
  for (int i = 0; i < 3000; ++i) {
    threes += generator.next_below(std::uint64_t{3} << 62) % 3 == 0 ? 1 : 0;
  }
  EXPECT_NEAR(threes, 1000, 130);
  EXPECT_EQ(generator.next_below(1), 0u);
  EXPECT_LT(generator.next_below(~std::uint64_t{0}), ~std::uint64_t{0});
  EXPECT_THROW(generator.next_below(0), InvalidArgument);
  const double value = generator.next_double();
  EXPECT_GE(value, 0.0);
  EXPECT_LT(value, 1.0);
}

TEST(RandomTest, OnlyFloatingTypesHoldThem) {
  Generator generator(3);
  EXPECT_THROW(Tensor::randn({2}, generator, {DType::i32, {}}), InvalidArgument);
  EXPECT_THROW(Tensor::rand({2}, generator, {DType::u8, {}}), InvalidArgument);
  EXPECT_EQ(generator.offset(), 0u);
  EXPECT_EQ(Tensor::randn({0}, generator).numel(), 0);
}

}  // namespace
}  // namespace weft::tests

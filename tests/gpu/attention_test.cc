// Causal attention on a device against the CPU's, and against f64.
#include "kernels/cuda/attention.h"

#include <gmock/gmock.h>

#include <string>
#include <tuple>

#include "kernels/base/error.h"
#include "kernels/compute_type.h"
#include "tests/gpu/device_array.h"

namespace weft::kernels {
namespace {

template <class T>
using Real = std::conditional_t<std::is_same_v<T, double>, double, float>;

struct Case {
  std::int64_t batch = 1, length = 1, heads = 1, width = 1;
  DropoutMask dropout;
  std::size_t skew = 0;  // elements that tensors lie past an aligned address

  std::string text() const {
    return "batch " + std::to_string(batch) + " length " + std::to_string(length) + " heads " +
           std::to_string(heads) + " width " + std::to_string(width) + " dropout " +
           std::to_string(dropout.probability) + " skew " + std::to_string(skew);
  }
  std::size_t tokens() const { return static_cast<std::size_t>(batch * length); }
  std::size_t channels() const { return static_cast<std::size_t>(heads * width); }
};

template <class T>
struct Result {
  std::vector<T> out, dqkv;
  std::vector<Real<T>> log_sum_exp;
};

template <class T>
struct Input {
  std::vector<T> qkv, dout;
  explicit Input(const Case& c)
      : qkv(ordinary<T>(c.tokens() * 3 * c.channels(), 1)),
        dout(ordinary<T>(c.tokens() * c.channels(), 2)) {}
};

CausalAttention problem_of(const Case& c, DType dtype) {
  CausalAttention p;
  p.dtype = dtype;
  p.batch = c.batch, p.length = c.length, p.heads = c.heads, p.width = c.width;
  p.dropout = c.dropout;
  return p;
}

template <class T>
Result<T> on_device(const Case& c, const Input<T>& input) {
  const DeviceArray<T> qkv(input.qkv, c.skew), dout(input.dout, c.skew);
  const DeviceArray<T> out(input.dout.size(), c.skew), dqkv(input.qkv.size(), c.skew);
  const DeviceArray<Real<T>> log_sum_exp(c.tokens() * static_cast<std::size_t>(c.heads));
  CausalAttention p = problem_of(c, dtype_of<T>);
  p.qkv = qkv.data(), p.out = out.data(), p.log_sum_exp = log_sum_exp.data();
  cuda::causal_attention(p, nullptr);
  cuda::causal_attention_backward(p, dout.data(), dqkv.data(), nullptr);
  return {out.read(), dqkv.read(), log_sum_exp.read()};
}

template <class T>
Result<T> on_cpu(const Case& c, const Input<T>& input) {
  Result<T> result{std::vector<T>(input.dout.size()), std::vector<T>(input.qkv.size()),
                   std::vector<Real<T>>(c.tokens() * static_cast<std::size_t>(c.heads))};
  CausalAttention p = problem_of(c, dtype_of<T>);
  p.qkv = input.qkv.data(), p.out = result.out.data();
  p.log_sum_exp = result.log_sum_exp.data();
  causal_attention(p);
  causal_attention_backward(p, input.dout.data(), result.dqkv.data());
  return result;
}

template <class T>
Result<double> in_f64(const Case& c, const Input<T>& input) {
  Input<double> wide(Case{});
  const auto widen = [](const std::vector<T>& from) {
    std::vector<double> to;
    for (const T value : from) to.push_back(as_double(value));
    return to;
  };
  wide.qkv = widen(input.qkv), wide.dout = widen(input.dout);
  return on_cpu<double>(c, wide);
}

// |got - want| / |want|, Euclidean.
template <class A, class B>
double distance(const std::vector<A>& got, const std::vector<B>& want) {
  EXPECT_EQ(got.size(), want.size());
  double difference = 0.0, size = 0.0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double w = as_double(want[i]), d = as_double(got[i]) - w;
    difference += d * d;
    size += w * w;
  }
  if (size == 0.0) return std::sqrt(difference);
  return std::sqrt(difference / size);
}

// The worst of rows of `width`: |got - want| against |want|, or against the usual row where that is
// more. One wrong row among many shows.
template <class A, class B>
double worst_row(const std::vector<A>& got, const std::vector<B>& want, std::int64_t width) {
  const auto columns = static_cast<std::size_t>(width);
  double size = 0.0;
  for (const B value : want) size += as_double(value) * as_double(value);
  const double usual = std::sqrt(size * static_cast<double>(width) /
                                 static_cast<double>(std::max<std::size_t>(want.size(), 1)));
  double worst = 0.0;
  for (std::size_t row = 0; row < want.size(); row += columns) {
    double difference = 0.0, row_size = 0.0;
    for (std::size_t i = row; i < row + columns; ++i) {
      const double w = as_double(want[i]), d = as_double(got[i]) - w;
      difference += d * d;
      row_size += w * w;
    }
    const double against = std::max(std::sqrt(row_size), usual);
    worst = std::max(worst, std::sqrt(difference) / (against > 0.0 ? against : 1.0));
  }
  return worst;
}

template <class T>
constexpr double allowed() {
  if constexpr (std::is_same_v<T, BFloat16>) return 1e-2;
  if constexpr (std::is_same_v<T, Half>) return 2e-3;
  return std::is_same_v<T, float> ? 1e-5 : 1e-13;
}

template <class T>
void check(const Case& c) {
  SCOPED_TRACE(std::string(name_of(dtype_of<T>)) + " " + c.text());
  const Input<T> input(c);
  const Result<T> got = on_device<T>(c, input), cpu = on_cpu<T>(c, input);
  const Result<double> want = in_f64<T>(c, input);
  ASSERT_LE(distance(got.out, want.out), allowed<T>());
  ASSERT_LE(distance(got.out, cpu.out), allowed<T>());
  ASSERT_LE(distance(got.log_sum_exp, want.log_sum_exp), std::min(allowed<T>(), 1e-5));
  ASSERT_LE(distance(got.dqkv, want.dqkv), allowed<T>());
  ASSERT_LE(distance(got.dqkv, cpu.dqkv), allowed<T>());
  ASSERT_LE(worst_row(got.out, want.out, c.width), 4.0 * allowed<T>());
  ASSERT_LE(worst_row(got.dqkv, want.dqkv, c.width), 4.0 * allowed<T>());
}

template <class T>
class CudaAttentionTest : public DeviceTest {};
using Types = testing::Types<double, float, Half, BFloat16>;
TYPED_TEST_SUITE(CudaAttentionTest, Types);

TYPED_TEST(CudaAttentionTest, EveryLengthUpTo130) {
  for (std::int64_t length = 1; length <= 130; ++length) {
    ASSERT_NO_FATAL_FAILURE(check<TypeParam>({1, length, 1, 16 + length % 3 * 24, {}, 0}));
  }
}

TYPED_TEST(CudaAttentionTest, WidthsUpTo256) {
  for (const std::int64_t width : {1, 7, 8, 16, 20, 32, 33, 40, 64, 72, 80, 100, 128}) {
    ASSERT_NO_FATAL_FAILURE(check<TypeParam>({2, 70, 2, width, {}, 0}));
  }
  for (const std::int64_t width : {129, 136, 200, 256}) {
    ASSERT_NO_FATAL_FAILURE(check<TypeParam>({1, 35, 2, width, {}, 0}));
  }
}

TYPED_TEST(CudaAttentionTest, ManyTilesHeadsAndImages) {
  ASSERT_NO_FATAL_FAILURE(check<TypeParam>({2, 257, 3, 64, {}, 0}));
  ASSERT_NO_FATAL_FAILURE(check<TypeParam>({1, 320, 1, 128, {}, 0}));
}

TYPED_TEST(CudaAttentionTest, AnyAlignment) {
  for (const std::int64_t width : {64, 40, 136}) {
    ASSERT_NO_FATAL_FAILURE(check<TypeParam>({2, 67, 2, width, {}, 1}));
  }
}

TYPED_TEST(CudaAttentionTest, DropsWhatTheCpuDrops) {
  for (const double probability : {0.1, 0.5, 1.0}) {
    for (const auto& [length, width] : {std::tuple{1, 64}, {67, 64}, {130, 32}, {99, 128}}) {
      const DropoutMask mask{probability, 7, 3, 1001};
      ASSERT_NO_FATAL_FAILURE(check<TypeParam>({2, length, 2, width, mask, 0}));
    }
  }
}

TYPED_TEST(CudaAttentionTest, DropoutAdvancesByWhatDeviceMemorySays) {
  Case c{1, 80, 2, 64, {0.3, 5, 1, 12}, 0};
  const Input<TypeParam> input(c);
  c.dropout.offset = 12 + 4096;
  const auto want = on_device<TypeParam>(c, input);
  const DeviceArray<std::uint64_t> advance(std::vector<std::uint64_t>{4096});
  c.dropout.offset = 12, c.dropout.advance = advance.data();
  const auto got = on_device<TypeParam>(c, input);
  EXPECT_EQ(distance(got.out, want.out), 0.0);
  EXPECT_EQ(distance(got.dqkv, want.dqkv), 0.0);
}

TYPED_TEST(CudaAttentionTest, RepeatsToTheBit) {
  const Case c{2, 150, 2, 64, {0.2, 1, 2, 3}, 0};
  const Input<TypeParam> input(c);
  const auto first = on_device<TypeParam>(c, input), second = on_device<TypeParam>(c, input);
  const auto equal = [](const auto& a, const auto& b) {
    return std::equal(a.begin(), a.end(), b.begin(), [](auto x, auto y) { return same(x, y); });
  };
  EXPECT_TRUE(equal(first.out, second.out));
  EXPECT_TRUE(equal(first.dqkv, second.dqkv));
  EXPECT_TRUE(equal(first.log_sum_exp, second.log_sum_exp));
}

TYPED_TEST(CudaAttentionTest, RunsFromACapturedGraph) {
  const Case c{1, 70, 2, 64, {}, 0};
  const Input<TypeParam> input(c);
  const auto want = on_device<TypeParam>(c, input);
  const DeviceArray<TypeParam> qkv(input.qkv), dout(input.dout);
  const DeviceArray<TypeParam> out(input.dout.size()), dqkv(input.qkv.size());
  const DeviceArray<Real<TypeParam>> log_sum_exp(want.log_sum_exp.size());
  CausalAttention p = problem_of(c, dtype_of<TypeParam>);
  p.qkv = qkv.data(), p.out = out.data(), p.log_sum_exp = log_sum_exp.data();
  const cuda::OwnedStream stream;
  cuda::begin_capture(stream.get());
  cuda::causal_attention(p, stream.get());
  cuda::causal_attention_backward(p, dout.data(), dqkv.data(), stream.get());
  void* const graph = cuda::end_capture(stream.get());
  for (int replay = 0; replay < 2; ++replay) cuda::launch_graph(graph, stream.get());
  stream.synchronize();
  cuda::destroy_graph(graph);
  EXPECT_EQ(distance(out.read(), want.out), 0.0);
  EXPECT_EQ(distance(dqkv.read(), want.dqkv), 0.0);
}

// Scores far apart: exponentials that underflow, maxima that come late, none that overflows.
TYPED_TEST(CudaAttentionTest, LargeScoresStayFinite) {
  const Case c{1, 140, 1, 64, {}, 0};
  Input<TypeParam> input(c);
  for (auto& value : input.qkv) value = from_double<TypeParam>(as_double(value) * 8.0);
  const auto got = on_device<TypeParam>(c, input);
  const auto want = in_f64<TypeParam>(c, input);
  // The scores are sums of 64 products of 16-bit or f32 numbers; their rounding is multiplied.
  const double factor = std::is_same_v<TypeParam, double> ? 10.0 : 20.0;
  EXPECT_LE(distance(got.out, want.out), factor * allowed<TypeParam>());
  EXPECT_LE(distance(got.dqkv, want.dqkv), factor * allowed<TypeParam>());
}

class CudaAttentionErrorTest : public DeviceTest {};

TEST_F(CudaAttentionErrorTest, NothingToDoIsDone) {
  cuda::causal_attention(problem_of({0, 5, 2, 16, {}, 0}, DType::f32), nullptr);
  cuda::causal_attention(problem_of({5, 0, 2, 16, {}, 0}, DType::f16), nullptr);
  cuda::causal_attention_backward(problem_of({0, 5, 2, 16, {}, 0}, DType::bf16), nullptr, nullptr,
                                  nullptr);
}

TEST_F(CudaAttentionErrorTest, WhatCannotBeIsRefused) {
  const auto run = [](const Case& c, DType dtype) {
    cuda::causal_attention(problem_of(c, dtype), nullptr);
  };
  EXPECT_THROW(run({1, 5, 2, 257, {}, 0}, DType::f32), Unsupported);
  EXPECT_THROW(run({1, 5, 0, 16, {}, 0}, DType::f32), InvalidArgument);
  EXPECT_THROW(run({1, 5, 2, 0, {}, 0}, DType::f32), InvalidArgument);
  EXPECT_THROW(run({-1, 5, 2, 16, {}, 0}, DType::f32), InvalidArgument);
  EXPECT_THROW(run({1, 5, 2, 16, {}, 0}, DType::i32), InvalidArgument);
  EXPECT_THROW(run({1 << 20, 1 << 20, 64, 16, {}, 0}, DType::f32), Unsupported);
  try {
    run({1, 5, 2, 300, {}, 0}, DType::bf16);
    FAIL();
  } catch (const Unsupported& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("width=300"));
  }
}

}  // namespace
}  // namespace weft::kernels

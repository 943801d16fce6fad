// The functors that CUDA kernels run, against the CPU's vectors: to the bit, whatever the
// instruction set, but for those without fused multiply-add where the functor has one.
#include <gtest/gtest.h>

#include "kernels/cast.h"
#include "kernels/functors/convert.h"
#include "kernels/functors/norm.h"
#include "kernels/functors/optimizer.h"
#include "kernels/functors/reduce.h"
#include "kernels/loss_scale.h"
#include "tests/kernels/values.h"

namespace weft::kernels {
namespace {

Elems elems(std::size_t count) { return Elems(static_cast<std::int64_t>(count)); }

bool target_has_fma() {
#if HWY_ARCH_X86
  return (hwy::SupportedTargets() & HWY_AVX2) != 0;
#else
  return true;
#endif
}

template <class T>
void expect_same_or_near(const Buffer<T>& got, const std::vector<T>& want) {
  const bool exact = target_has_fma();
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (exact) {
      ASSERT_TRUE(same(got.get(i), want[i])) << i << ": " << got.get(i) << " and " << want[i];
    } else {
      const T allowed = std::numeric_limits<T>::epsilon() * 16;
      ASSERT_NEAR(got.get(i), want[i], allowed * (1 + std::fabs(want[i]))) << i;
    }
  }
}

template <class T>
std::vector<T> values_of(const Buffer<T>& buffer) {
  std::vector<T> values;
  for (std::size_t i = 0; i < buffer.size(); ++i) values.push_back(buffer.get(i));
  return values;
}

template <class P, class G>
void check_adam(bool decoupled) {
  constexpr std::size_t kCount = 1003;
  AdamParams params;
  params.learning_rate = 0.003;
  params.weight_decay = 0.1;
  params.decoupled = decoupled;
  params.gradient_scale = 0.3;
  auto p = ordinary_buffer<P>(kCount, 1);
  auto m = ordinary_buffer<P>(kCount, 2, -0.1, 0.1), v = ordinary_buffer<P>(kCount, 3, 0.0, 0.1);
  auto p1 = values_of(p), m1 = values_of(m), v1 = values_of(v);
  Buffer<Half> copy(kCount);
  for (const std::int64_t step : {1, 2, 3, 1000, 1000000}) {
    params.step = step;
    const auto g = ordinary_buffer<G>(kCount, static_cast<std::uint64_t>(step));
    const AdamTensor tensor{p.data(),      g.data(),    m.data(),    v.data(),  copy.data(),
                            elems(kCount), dtype_of<P>, dtype_of<G>, DType::f16};
    adam({&tensor, 1}, params);
    const AdamStep<P> functor(adam_factors(params));
    for (std::size_t i = 0; i < kCount; ++i) functor(p1[i], convert<P>(g.get(i)), m1[i], v1[i]);
  }
  expect_same_or_near(p, p1);
  expect_same_or_near(m, m1);
  expect_same_or_near(v, v1);
  for (std::size_t i = 0; i < kCount; ++i) {
    ASSERT_EQ(copy.get(i).bits, convert<Half>(p.get(i)).bits) << i;
  }
}

TEST(FunctorsTest, AdamIsWhatTheVectorsDo) {
  for_each_target([] {
    for (const bool decoupled : {true, false}) {
      ASSERT_NO_FATAL_FAILURE((check_adam<float, float>(decoupled)));
      ASSERT_NO_FATAL_FAILURE((check_adam<float, Half>(decoupled)));
      ASSERT_NO_FATAL_FAILURE((check_adam<float, BFloat16>(decoupled)));
      ASSERT_NO_FATAL_FAILURE((check_adam<float, double>(decoupled)));
      ASSERT_NO_FATAL_FAILURE((check_adam<double, double>(decoupled)));
      ASSERT_NO_FATAL_FAILURE((check_adam<double, BFloat16>(decoupled)));
    }
  });
}

template <class P, class G>
void check_sgd(double momentum, bool nesterov) {
  constexpr std::size_t kCount = 517;
  SgdParams params{0.1, momentum, 0.2, 0.01, nesterov, true, 0.7};
  auto p = ordinary_buffer<P>(kCount, 1), buffer = ordinary_buffer<P>(kCount, 2);
  auto p1 = values_of(p), buffer1 = values_of(buffer);
  Buffer<BFloat16> copy(kCount);
  for (int step = 0; step < 3; ++step) {
    params.first_step = step == 0;
    const auto g = ordinary_buffer<G>(kCount, static_cast<std::uint64_t>(step) + 5);
    const SgdTensor tensor{p.data(),      g.data(),    momentum != 0.0 ? buffer.data() : nullptr,
                           elems(kCount), dtype_of<P>, dtype_of<G>,
                           copy.data(),   DType::bf16};
    sgd({&tensor, 1}, params);
    const SgdStep<P> functor(params);
    for (std::size_t i = 0; i < kCount; ++i) {
      const P gradient = convert<P>(g.get(i));
      momentum != 0.0 ? functor(p1[i], gradient, buffer1[i]) : functor(p1[i], gradient);
    }
  }
  expect_same_or_near(p, p1);
  expect_same_or_near(buffer, buffer1);
  for (std::size_t i = 0; i < kCount; ++i) {
    ASSERT_EQ(copy.get(i).bits, convert<BFloat16>(p.get(i)).bits) << i;
  }
}

TEST(FunctorsTest, SgdIsWhatTheVectorsDo) {
  for_each_target([] {
    for (const double momentum : {0.0, 0.9}) {
      for (const bool nesterov : {false, true}) {
        ASSERT_NO_FATAL_FAILURE((check_sgd<float, float>(momentum, nesterov)));
        ASSERT_NO_FATAL_FAILURE((check_sgd<float, Half>(momentum, nesterov)));
        ASSERT_NO_FATAL_FAILURE((check_sgd<double, double>(momentum, nesterov)));
      }
    }
  });
}

TEST(FunctorsTest, IntegerPowersAreThoseOfTheLibrary) {
  for (const double base : {0.9, 0.99, 0.999, 0.9999, 0.0, 1.0}) {
    for (const std::int64_t n : {0, 1, 2, 3, 7, 100, 1000, 99999, 100000000}) {
      const double want = std::pow(base, static_cast<double>(n));
      const double allowed = 1e-15 + 1.2e-16 * static_cast<double>(n) * want;
      EXPECT_NEAR(integer_power(base, n), want, allowed) << base << " ^ " << n;
    }
  }
}

template <class To, class From>
void check_convert() {
  const auto from = awkward_buffer<From>(301, 0, 7);
  Buffer<To> plain(301), scaled(301);
  cast(plain.data(), dtype_of<To>, from.data(), dtype_of<From>, Elems(301));
  cast(scaled.data(), dtype_of<To>, from.data(), dtype_of<From>, Elems(301), 1.0 / 3.0);
  for (std::size_t i = 0; i < 301; ++i) {
    ASSERT_TRUE(same(plain.get(i), convert<To>(from.get(i)))) << i;
    ASSERT_TRUE(same(scaled.get(i), (convert_scaled<To, From>(from.get(i), 1.0 / 3.0)))) << i;
  }
}

TEST(FunctorsTest, ConversionsAreWhatTheVectorsDo) {
  for_each_target([] {
    for (int t = 0; t < kDTypeCount; ++t) {
      for (int f = 0; f < kDTypeCount; ++f) {
        dispatch(static_cast<DType>(t), [&]<class To>() {
          dispatch(static_cast<DType>(f), [&]<class From>() {
            SCOPED_TRACE(std::string(name_of(dtype_of<From>)) + " to " +
                         std::string(name_of(dtype_of<To>)));
            check_convert<To, From>();
          });
        });
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  });
}

template <ReduceOp kOp, class T>
T fold(const std::vector<Buffer<T>>& inputs, std::size_t i, std::int64_t divisor) {
  using C = ReduceCompute<T>;
  C sum = static_cast<C>(inputs[0].get(i));
  for (std::size_t k = 1; k < inputs.size(); ++k) {
    sum = reduce_pair<kOp>(sum, static_cast<C>(inputs[k].get(i)));
  }
  if (kOp == ReduceOp::avg) sum = Mean<C>(divisor)(sum);
  return static_cast<T>(sum);
}

template <ReduceOp kOp, class T>
void check_reduce() {
  SCOPED_TRACE(std::string(name_of(kOp)) + " of " + std::string(name_of(dtype_of<T>)));
  for (const std::size_t count : {5, 133}) {
    std::vector<Buffer<T>> inputs;
    std::vector<const void*> pointers;
    for (std::size_t k = 0; k < 9; ++k) {
      inputs.push_back(awkward_buffer<T>(count, 0, k + count));
      pointers.clear();
      for (const auto& input : inputs) pointers.push_back(input.data());
      for (const std::int64_t divisor : {8, 3}) {
        Buffer<T> out(count);
        reduce(out.data(), pointers, elems(count), dtype_of<T>, kOp, divisor);
        for (std::size_t i = 0; i < count; ++i) {
          ASSERT_TRUE(same(out.get(i), fold<kOp>(inputs, i, divisor)))
              << "element " << i << " of " << k + 1 << " inputs, divisor " << divisor;
        }
      }
    }
  }
}

TEST(FunctorsTest, ReductionsAreWhatTheVectorsDo) {
  for_each_target([] {
    for (int type = 0; type < kDTypeCount; ++type) {
      dispatch(static_cast<DType>(type), []<class T>() {
        check_reduce<ReduceOp::sum, T>();
        check_reduce<ReduceOp::prod, T>();
        check_reduce<ReduceOp::min, T>();
        check_reduce<ReduceOp::max, T>();
        check_reduce<ReduceOp::avg, T>();
      });
      if (testing::Test::HasFatalFailure()) return;
    }
  });
}

double folded(std::vector<double> sums) {
  for (std::size_t width = sums.size() / 2; width > 0; width /= 2) {
    for (std::size_t lane = 0; lane < width; ++lane) sums[lane] += sums[lane + width];
  }
  return sums[0];
}

TEST(FunctorsTest, TheSquaredNormHasTheShapeThatNormHSays) {
  // More chunks than lanes for them.
  const std::size_t counts[] = {kSquareChunk * (kPartialLanes + 3) + 5, 0, 1, 777};
  std::vector<Buffer<float>> buffers;
  std::vector<FlatTensor> tensors;
  std::vector<double> sums(kPartialLanes);
  std::size_t chunk = 0;
  for (const std::size_t count : counts) {
    buffers.push_back(ordinary_buffer<float>(count, count));
    for (std::size_t begin = 0; begin < count; begin += kSquareChunk) {
      std::vector<double> lanes(kSquareLanes);
      for (std::size_t i = 0; i < kSquareChunk && begin + i < count; ++i) {
        const double x = buffers.back().get(begin + i);
        lanes[i % kSquareLanes] += x * x;  // exact but for the addition
      }
      sums[chunk++ % kPartialLanes] += folded(lanes);
    }
  }
  for (std::size_t t = 0; t < buffers.size(); ++t) {
    tensors.push_back({buffers[t].data(), elems(counts[t]), DType::f32});
  }
  for_each_target([&] { EXPECT_EQ(squared_norm(tensors), folded(sums)); });
}

TEST(LossScaleTest, BacksOffGrowsAndStaysInItsBounds) {
  LossScale state;
  const LossScaleParams params{2.0, 0.5, 3, 1.0};
  const auto step = [&](bool bad) {
    state.found_inf = bad ? 1 : 0;
    update_loss_scale(state, params);
    EXPECT_EQ(state.found_inf, 0);
    return state.scale;
  };
  EXPECT_EQ(step(true), 32768.0f);
  EXPECT_EQ(step(false), 32768.0f);
  EXPECT_EQ(step(false), 32768.0f);
  EXPECT_EQ(step(false), 65536.0f);  // the third clean step in a row
  EXPECT_EQ(state.clean_steps, 0);
  EXPECT_EQ(step(false), 65536.0f);
  EXPECT_EQ(step(true), 32768.0f);  // and the count starts again
  EXPECT_EQ(state.clean_steps, 0);
  state.scale = 1.5f;
  EXPECT_EQ(step(true), 1.0f);
  EXPECT_EQ(state.lost, 0);
  EXPECT_EQ(step(true), 1.0f);
  EXPECT_EQ(state.lost, 1);
  state.scale = 3e38f;
  for (int i = 0; i < 7; ++i) EXPECT_EQ(step(false), 3e38f);
  EXPECT_EQ(state.skipped, 4);
}

TEST(LossScaleTest, StartsAndMovesAsGradScalerDoes) {
  LossScale state;
  EXPECT_EQ(state.scale, 65536.0f);
  for (int i = 0; i < 1999; ++i) update_loss_scale(state, {});
  EXPECT_EQ(state.scale, 65536.0f);
  update_loss_scale(state, {});
  EXPECT_EQ(state.scale, 131072.0f);
}

}  // namespace
}  // namespace weft::kernels

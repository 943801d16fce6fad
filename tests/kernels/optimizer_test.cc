#include "kernels/optimizer.h"

#include <gtest/gtest.h>

#include "kernels/base/error.h"
#include "kernels/base/thread_pool.h"
#include "tests/kernels/values.h"

namespace weft::kernels {
namespace {

constexpr std::size_t kCounts[] = {1, 3, 100, 2047, 2049, 40001};

std::int64_t elems(std::size_t count) { return static_cast<std::int64_t>(count); }

// Five steps over several tensors at once against the formulas of Kingma, Ba, 2015 and Loshchilov,
// Hutter, 2019 in f64.
template <class P, class G>
void check_adam(bool decoupled, double allowed) {
  AdamParams params;
  params.learning_rate = 0.01;
  params.weight_decay = 0.1;
  params.decoupled = decoupled;
  params.gradient_scale = 0.5;
  std::vector<Buffer<P>> parameter, m, v;
  std::vector<Buffer<G>> gradient;
  std::vector<Buffer<BFloat16>> low;
  std::vector<std::vector<double>> p64, m64, v64;
  for (const std::size_t count : kCounts) {
    parameter.push_back(ordinary_buffer<P>(count, count));
    gradient.push_back(ordinary_buffer<G>(count, count + 1));
    m.push_back(ordinary_buffer<P>(count, 0, 0.0, 0.0));
    v.push_back(m.back());
    low.emplace_back(count);
    p64.emplace_back();
    for (std::size_t i = 0; i < count; ++i)
      p64.back().push_back(as_double(parameter.back().get(i)));
    m64.emplace_back(count, 0.0);
    v64.emplace_back(count, 0.0);
  }
  std::vector<AdamTensor> tensors;
  for (std::size_t t = 0; t < std::size(kCounts); ++t) {
    tensors.push_back({parameter[t].data(), gradient[t].data(), m[t].data(), v[t].data(),
                       t % 2 == 0 ? low[t].data() : nullptr, Elems(elems(kCounts[t])), dtype_of<P>,
                       dtype_of<G>, DType::bf16});
  }
  for (int step = 1; step <= 5; ++step) {
    params.step = step;
    adam(tensors, params);
    for (std::size_t t = 0; t < std::size(kCounts); ++t) {
      for (std::size_t i = 0; i < kCounts[t]; ++i) {
        double& p = p64[t][i];
        double g = as_double(gradient[t].get(i)) * params.gradient_scale;
        if (decoupled) {
          p *= 1.0 - params.learning_rate * params.weight_decay;
        } else {
          g += params.weight_decay * p;
        }
        m64[t][i] = params.beta1 * m64[t][i] + (1.0 - params.beta1) * g;
        v64[t][i] = params.beta2 * v64[t][i] + (1.0 - params.beta2) * g * g;
        const double m_hat = m64[t][i] / (1.0 - std::pow(params.beta1, step));
        const double v_hat = v64[t][i] / (1.0 - std::pow(params.beta2, step));
        p -= params.learning_rate * m_hat / (std::sqrt(v_hat) + params.epsilon);
      }
    }
  }
  for (std::size_t t = 0; t < std::size(kCounts); ++t) {
    for (std::size_t i = 0; i < kCounts[t]; ++i) {
      ASSERT_NEAR(as_double(parameter[t].get(i)), p64[t][i], allowed) << t << " " << i;
      ASSERT_NEAR(as_double(v[t].get(i)), v64[t][i], allowed * (1 + v64[t][i]));
      if (t % 2 == 0) {
        const auto rounded = BFloat16(static_cast<float>(as_double(parameter[t].get(i))));
        ASSERT_EQ(low[t].get(i).bits, rounded.bits);
      }
    }
    ASSERT_TRUE(parameter[t].guards_are_whole() && low[t].guards_are_whole());
  }
}

TEST(AdamTest, MatchesTheFormulaInEveryMixOfTypes) {
  ThreadPool pool(2);
  const ScopedThreadPool scope(pool);
  for_each_target([] {
    for (const bool decoupled : {true, false}) {
      ASSERT_NO_FATAL_FAILURE((check_adam<float, float>(decoupled, 4e-6)));
      ASSERT_NO_FATAL_FAILURE((check_adam<double, double>(decoupled, 1e-13)));
    }
    ASSERT_NO_FATAL_FAILURE((check_adam<float, Half>(true, 4e-6)));
    ASSERT_NO_FATAL_FAILURE((check_adam<float, BFloat16>(true, 4e-6)));
    ASSERT_NO_FATAL_FAILURE((check_adam<float, double>(true, 4e-6)));
    ASSERT_NO_FATAL_FAILURE((check_adam<double, float>(true, 1e-13)));
  });
}

void check_sgd(double momentum, bool nesterov) {
  SgdParams params{0.1, momentum, 0.2, 0.01, nesterov, true, 2.0};
  const std::size_t count = 3001;
  auto p = ordinary_buffer<float>(count, 1);
  const auto g = ordinary_buffer<float>(count, 2);
  Buffer<float> buffer(count);
  std::vector<double> p64(count), b64(count);
  for (std::size_t i = 0; i < count; ++i) p64[i] = as_double(p.get(i));
  for (int step = 0; step < 4; ++step) {
    params.first_step = step == 0;
    const SgdTensor tensor{
        p.data(),   g.data(),  momentum != 0.0 ? buffer.data() : nullptr, Elems(elems(count)),
        DType::f32, DType::f32};
    sgd({&tensor, 1}, params);
    for (std::size_t i = 0; i < count; ++i) {
      double d = as_double(g.get(i)) * 2.0 + 0.01 * p64[i];
      if (momentum != 0.0) {
        b64[i] = step == 0 ? d : momentum * b64[i] + 0.8 * d;
        d = nesterov ? d + momentum * b64[i] : b64[i];
      }
      p64[i] -= 0.1 * d;
    }
  }
  for (std::size_t i = 0; i < count; ++i) ASSERT_NEAR(as_double(p.get(i)), p64[i], 1e-5) << i;
}

TEST(SgdTest, MatchesTheFormula) {
  for_each_target([] {
    ASSERT_NO_FATAL_FAILURE(check_sgd(0.0, false));
    ASSERT_NO_FATAL_FAILURE(check_sgd(0.9, false));
    ASSERT_NO_FATAL_FAILURE(check_sgd(0.9, true));
  });
}

TEST(SquaredNormTest, MatchesAndDoesNotDependOnThreadsOrVectors) {
  const auto a = ordinary_buffer<float>(100003, 1);
  const auto b = ordinary_buffer<double>(777, 2);
  const auto c = ordinary_buffer<BFloat16>(5000, 3);
  const FlatTensor tensors[] = {{const_cast<void*>(a.data()), Elems(100003), DType::f32},
                                {const_cast<void*>(b.data()), Elems(777), DType::f64},
                                {nullptr, Elems(0), DType::f32},
                                {const_cast<void*>(c.data()), Elems(5000), DType::bf16}};
  double want = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) want += as_double(a.get(i)) * as_double(a.get(i));
  for (std::size_t i = 0; i < b.size(); ++i) want += b.get(i) * b.get(i);
  for (std::size_t i = 0; i < c.size(); ++i) want += as_double(c.get(i)) * as_double(c.get(i));
  const double first = squared_norm(tensors);
  EXPECT_NEAR(first, want, 1e-9 * want);
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    const ScopedThreadPool scope(pool);
    EXPECT_EQ(squared_norm(tensors), first) << threads;
  }
  // f32 squares are exact in f64, so the sum is the same however wide the vectors are.
  const FlatTensor single[] = {tensors[0]};
  const double one = squared_norm(single);
  for_each_target([&] { EXPECT_EQ(squared_norm(single), one); });
}

template <class T>
void check_unscale(std::size_t count) {
  const auto clean = ordinary_buffer<T>(count, count);
  auto data = clean;
  const FlatTensor tensor[] = {{data.data(), Elems(elems(count)), dtype_of<T>}};
  ASSERT_FALSE(unscale_and_check(tensor, 8.0));
  for (std::size_t i = 0; i < count; ++i) {
    ASSERT_TRUE(same(data.get(i), from_double<T>(as_double(clean.get(i)) / 8.0))) << i;
  }
  for (const double bad : {HUGE_VAL, -HUGE_VAL, std::nan("")}) {
    for (const std::size_t where : {std::size_t{0}, count / 2, count - 1}) {
      data = clean;
      data.set(where, from_double<T>(bad));
      ASSERT_TRUE(unscale_and_check(tensor, 8.0)) << bad << " at " << where << " of " << count;
    }
  }
}

TEST(UnscaleTest, FindsWhatIsNotFiniteWhereverItIs) {
  for_each_target([] {
    for (const std::size_t count : {1, 2, 17, 63, 2048, 2049, 50000}) {
      ASSERT_NO_FATAL_FAILURE(check_unscale<float>(count));
      ASSERT_NO_FATAL_FAILURE(check_unscale<double>(count));
      ASSERT_NO_FATAL_FAILURE(check_unscale<Half>(count));
      ASSERT_NO_FATAL_FAILURE(check_unscale<BFloat16>(count));
    }
  });
}

TEST(UnscaleTest, SeesResultsThatOverflowTheirType) {
  Half big(40000.0f);
  const FlatTensor half[] = {{&big, Elems(1), DType::f16}};
  EXPECT_TRUE(unscale_and_check(half, 0.5));
  EXPECT_TRUE(std::isinf(static_cast<float>(big)));
  Half fits(30000.0f);
  const FlatTensor good[] = {{&fits, Elems(1), DType::f16}};
  EXPECT_FALSE(unscale_and_check(good, 0.5));
}

TEST(ScaleTest, MultipliesEveryTensor) {
  auto a = ordinary_buffer<float>(3000, 1);
  auto b = ordinary_buffer<Half>(1001, 2);
  const auto a0 = a;
  const auto b0 = b;
  const FlatTensor tensors[] = {{a.data(), Elems(3000), DType::f32},
                                {b.data(), Elems(1001), DType::f16}};
  scale(tensors, 0.3);
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_EQ(a.get(i), a0.get(i) * 0.3f);
  for (std::size_t i = 0; i < b.size(); ++i) {
    ASSERT_EQ(b.get(i).bits, Half(static_cast<float>(b0.get(i)) * 0.3f).bits);
  }
}

TEST(OptimizerErrorTest, RefusesWrongTypesAndMissingPointers) {
  float x[4] = {};
  AdamTensor good{x, x, x, x, nullptr, Elems(4), DType::f32, DType::f32, DType::bf16};
  AdamParams params;
  const auto broken = [&](auto change) {
    AdamTensor t = good;
    change(t);
    return std::vector<AdamTensor>{t};
  };
  EXPECT_THROW(adam(broken([](auto& t) { t.parameter_type = DType::f16; }), params),
               InvalidArgument);
  EXPECT_THROW(adam(broken([](auto& t) { t.gradient_type = DType::i32; }), params),
               InvalidArgument);
  EXPECT_THROW(adam(broken([](auto& t) { t.exp_avg = nullptr; }), params), InvalidArgument);
  params.step = 0;
  EXPECT_THROW(adam(broken([](auto&) {}), params), InvalidArgument);
  const SgdTensor plain{x, x, nullptr, Elems(4), DType::f32, DType::f32};
  SgdParams heavy;
  heavy.momentum = 0.9;
  EXPECT_THROW(sgd({&plain, 1}, heavy), InvalidArgument);
  const FlatTensor integers[] = {{x, Elems(4), DType::i32}};
  EXPECT_THROW(squared_norm(integers), InvalidArgument);
  const FlatTensor floats[] = {{x, Elems(4), DType::f32}};
  EXPECT_THROW(unscale_and_check(floats, 0.0), InvalidArgument);
  EXPECT_THROW(unscale_and_check(floats, std::nan("")), InvalidArgument);
}

}  // namespace
}  // namespace weft::kernels

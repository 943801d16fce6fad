#include "kernels/gemm.h"

#include <gtest/gtest.h>

#include "kernels/base/error.h"
#include "kernels/base/thread_pool.h"
#include "tests/kernels/values.h"

namespace weft::kernels {
namespace {

struct Shape {
  std::int64_t m, n, k;
};

double gelu(double x) {
  return 0.5 * x * (1.0 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

template <class T>
double tolerance(std::int64_t k) {
  const double epsilon = std::is_same_v<T, double>  ? 1e-15
                         : std::is_same_v<T, float> ? 1e-6
                         : std::is_same_v<T, Half>  ? 1e-3
                                                    : 8e-3;
  return epsilon * (4.0 + std::sqrt(static_cast<double>(k)));
}

struct Options {
  Transpose ta = Transpose::no, tb = Transpose::no;
  double alpha = 1.0, beta = 0.0;
  std::int64_t padding = 0;
  Epilogue epilogue = Epilogue::none;
  bool keeps_pre_activation = true;
};

template <class T>
void check(const Shape& s, const Options& o) {
  const auto count = [](std::int64_t rows, std::int64_t ld) {
    return static_cast<std::size_t>(rows * ld);
  };
  const bool ta = o.ta == Transpose::yes, tb = o.tb == Transpose::yes;
  const std::int64_t lda = (ta ? s.m : s.k) + o.padding, ldb = (tb ? s.k : s.n) + o.padding;
  const std::int64_t ldc = s.n + o.padding;
  const auto a = ordinary_buffer<T>(count(ta ? s.k : s.m, lda), 1);
  const auto b = ordinary_buffer<T>(count(tb ? s.n : s.k, ldb), 2);
  const auto bias = ordinary_buffer<T>(static_cast<std::size_t>(s.n), 3);
  auto c = ordinary_buffer<T>(count(s.m, ldc), 4);
  if (o.beta == 0.0) {  // must not be read
    for (std::size_t i = 0; i < c.size(); ++i) c.set(i, from_double<T>(std::nan("")));
  }
  const auto before = c;
  Buffer<T> pre(count(s.m, s.n));
  gemm({dtype_of<T>, o.ta, o.tb, s.m, s.n, s.k, o.alpha, a.data(), lda, b.data(), ldb, o.beta,
        c.data(), ldc},
       o.epilogue, bias.data(), o.keeps_pre_activation ? pre.data() : nullptr);
  const auto at = [](const Buffer<T>& x, std::int64_t i) {
    return as_double(x.get(static_cast<std::size_t>(i)));
  };
  const double allowed = tolerance<T>(s.k);
  for (std::int64_t i = 0; i < s.m; ++i) {
    for (std::int64_t j = 0; j < s.n; ++j) {
      double sum = 0.0;
      for (std::int64_t l = 0; l < s.k; ++l) {
        sum += at(a, ta ? l * lda + i : i * lda + l) * at(b, tb ? j * ldb + l : l * ldb + j);
      }
      double want = o.alpha * sum + (o.beta != 0.0 ? o.beta * at(before, i * ldc + j) : 0.0);
      if (o.epilogue != Epilogue::none) want += at(bias, j);
      if (o.epilogue == Epilogue::bias_gelu) {
        if (o.keeps_pre_activation) {
          ASSERT_NEAR(at(pre, i * s.n + j), want, allowed * (1 + std::fabs(want)));
        }
        want = gelu(want);
      }
      ASSERT_NEAR(at(c, i * ldc + j), want, allowed * (1 + std::fabs(want)))
          << name_of(dtype_of<T>) << " (" << i << ", " << j << ") of m=" << s.m << " n=" << s.n
          << " k=" << s.k << " ta=" << ta << " tb=" << tb;
    }
    for (std::int64_t j = s.n; j < ldc; ++j) {  // what lies between rows is not ours
      const auto index = static_cast<std::size_t>(i * ldc + j);
      ASSERT_TRUE(same(c.get(index), before.get(index)));
    }
  }
  ASSERT_TRUE(c.guards_are_whole() && pre.guards_are_whole());
}

template <class T>
class GemmTest : public testing::Test {};
using Types = testing::Types<double, float, Half, BFloat16>;
TYPED_TEST_SUITE(GemmTest, Types);

constexpr Transpose kBoth[] = {Transpose::no, Transpose::yes};

TYPED_TEST(GemmTest, MatchesPlainLoopsForEveryTransposeAndOddSizes) {
  ThreadPool pool(3);
  const ScopedThreadPool scope(pool);
  const Shape shapes[] = {{1, 1, 1},     {1, 7, 3},    {5, 1, 9},    {17, 13, 31}, {64, 64, 64},
                          {65, 33, 129}, {200, 3, 70}, {3, 200, 70}, {97, 161, 40}};
  for (const Shape& shape : shapes) {
    for (const Transpose ta : kBoth) {
      for (const Transpose tb : kBoth) {
        ASSERT_NO_FATAL_FAILURE((check<TypeParam>(shape, {ta, tb})));
        ASSERT_NO_FATAL_FAILURE((check<TypeParam>(shape, {ta, tb, -0.5, 0.75, 3})));
      }
    }
  }
}

TYPED_TEST(GemmTest, FusesBiasAndGelu) {
  ThreadPool pool(2);
  const ScopedThreadPool scope(pool);
  for_each_target([] {
    for (const Shape& shape : {Shape{1, 1, 1}, Shape{33, 65, 17}, Shape{600, 40, 24}}) {
      for (const Epilogue epilogue : {Epilogue::bias, Epilogue::bias_gelu}) {
        Options options{Transpose::no, Transpose::yes, 1.0, 0.0, 5, epilogue};
        ASSERT_NO_FATAL_FAILURE(check<TypeParam>(shape, options));
        options.keeps_pre_activation = false;
        ASSERT_NO_FATAL_FAILURE(check<TypeParam>(shape, options));
      }
    }
  });
}

TYPED_TEST(GemmTest, ZeroSizes) {
  ASSERT_NO_FATAL_FAILURE((check<TypeParam>({0, 5, 3}, {})));
  ASSERT_NO_FATAL_FAILURE((check<TypeParam>({5, 0, 3}, {})));
  ASSERT_NO_FATAL_FAILURE((check<TypeParam>({0, 0, 0}, {})));
  ASSERT_NO_FATAL_FAILURE((check<TypeParam>({5, 3, 0}, {})));  // C becomes 0
  ASSERT_NO_FATAL_FAILURE((check<TypeParam>({5, 3, 0}, {kBoth[0], kBoth[0], 1.0, 0.5})));
  ASSERT_NO_FATAL_FAILURE(
      (check<TypeParam>({5, 3, 0}, {kBoth[0], kBoth[0], 1.0, 0.0, 2, Epilogue::bias})));
}

TEST(GemmHalfTest, WidensLargeMatricesBlockByBlock) {
  // k n and m k beyond what is widened at a time.
  ASSERT_NO_FATAL_FAILURE((check<Half>({70, 300, 20000}, {})));
  ASSERT_NO_FATAL_FAILURE((check<BFloat16>({40, 260, 20000}, {kBoth[1], kBoth[1]})));
}

TEST(GemmDeterminismTest, OnePoolSizeGivesOneResult) {
  const Shape s{130, 190, 333};
  const auto a = ordinary_buffer<float>(static_cast<std::size_t>(s.m * s.k), 1);
  const auto b = ordinary_buffer<float>(static_cast<std::size_t>(s.k * s.n), 2);
  const auto run = [&] {
    ThreadPool pool(3);
    const ScopedThreadPool scope(pool);
    Buffer<float> c(static_cast<std::size_t>(s.m * s.n));
    gemm({DType::f32, kBoth[0], kBoth[0], s.m, s.n, s.k, 1.0, a.data(), s.k, b.data(), s.n, 0.0,
          c.data(), s.n});
    return c;
  };
  const auto first = run();
  for (int i = 0; i < 5; ++i) {
    const auto again = run();
    for (std::size_t j = 0; j < first.size(); ++j) ASSERT_TRUE(same(first.get(j), again.get(j)));
  }
}

TYPED_TEST(GemmTest, BatchedMatchesOneByOne) {
  using T = TypeParam;
  const Shape s{19, 23, 11};
  for (const int threads : {1, 2, 8}) {
    ThreadPool pool(threads);
    const ScopedThreadPool scope(pool);
    for (const std::int64_t batch : {0, 1, 3, 50}) {
      const auto a = ordinary_buffer<T>(static_cast<std::size_t>(batch * 300), 1);
      const auto b = ordinary_buffer<T>(static_cast<std::size_t>(s.k * s.n), 2);  // shared
      Buffer<T> c(static_cast<std::size_t>(batch * s.m * s.n)), one(c.size());
      Gemm problem{dtype_of<T>, kBoth[0], kBoth[0], s.m, s.n, s.k,      1.0,
                   a.data(),    s.k,      b.data(), s.n, 0.0, c.data(), s.n};
      gemm_batched(problem, batch, 300, 0, s.m * s.n);
      for (std::int64_t i = 0; i < batch; ++i) {
        Gemm single = problem;
        single.a = static_cast<const T*>(a.data()) + i * 300;
        single.c = static_cast<T*>(one.data()) + i * s.m * s.n;
        gemm(single);
      }
      for (std::size_t i = 0; i < c.size(); ++i) {
        const double want = as_double(one.get(i));
        ASSERT_NEAR(as_double(c.get(i)), want, tolerance<T>(s.k) * (1 + std::fabs(want)));
      }
    }
  }
}

TEST(GemmErrorTest, RefusesWhatItCannotDo) {
  float x[16] = {};
  const Gemm good{DType::f32, kBoth[0], kBoth[0], 4, 4, 4, 1.0, x, 4, x, 4, 0.0, x, 4};
  const auto with = [&](auto change) {
    Gemm g = good;
    change(g);
    return g;
  };
  EXPECT_THROW(gemm(with([](Gemm& g) { g.dtype = DType::i32; })), InvalidArgument);
  EXPECT_THROW(gemm(with([](Gemm& g) { g.m = -1; })), InvalidArgument);
  EXPECT_THROW(gemm(with([](Gemm& g) { g.lda = 3; })), InvalidArgument);
  EXPECT_THROW(gemm(with([](Gemm& g) { g.ldb = 3; })), InvalidArgument);
  EXPECT_THROW(gemm(with([](Gemm& g) { g.ldc = 3; })), InvalidArgument);
  EXPECT_THROW(gemm(with([](Gemm& g) { g.a = nullptr; })), InvalidArgument);
  EXPECT_THROW(gemm(with([](Gemm& g) { g.c = nullptr; })), InvalidArgument);
  EXPECT_THROW(gemm(good, Epilogue::bias), InvalidArgument);
  EXPECT_THROW(gemm(with([](Gemm& g) { g.lda = std::int64_t{1} << 40; })), Unsupported);
  EXPECT_THROW(gemm_batched(good, -1, 0, 0, 0), InvalidArgument);
}

}  // namespace
}  // namespace weft::kernels

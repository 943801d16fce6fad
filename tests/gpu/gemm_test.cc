// Matrix products on a device against plain loops in f64: every way to store the factors, what is
// fused and what is not, and the products of a backward pass.
#include "kernels/cuda/gemm.h"

#include <gmock/gmock.h>

#include <optional>
#include <string>
#include <thread>

#include "kernels/base/error.h"
#include "tests/gpu/device_array.h"

namespace weft::kernels {
namespace {

struct Sizes {
  std::int64_t m, n, k;
};

struct Options {
  Transpose ta = Transpose::no, tb = Transpose::no;
  double alpha = 1.0, beta = 0.0;
  std::int64_t padding = 0;  // elements between rows
  std::size_t skew = 0;      // elements past an aligned address
};

constexpr Transpose kBoth[] = {Transpose::no, Transpose::yes};

double gelu(double x) {
  return 0.5 * x * (1.0 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}
double gelu_slope(double x) {
  const double t = std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x));
  return 0.5 * (1.0 + t) +
         0.5 * x * (1.0 - t * t) * 0.7978845608028654 * (1.0 + 3.0 * 0.044715 * x * x);
}

template <class T>
double tolerance(std::int64_t terms) {
  const double epsilon = std::is_same_v<T, double>  ? 1e-15
                         : std::is_same_v<T, float> ? 2e-6
                         : std::is_same_v<T, Half>  ? 1.5e-3
                                                    : 1.2e-2;
  return epsilon * (4.0 + std::sqrt(static_cast<double>(terms)));
}

// One product: its factors on both sides, and what it should give.
template <class T>
class Trial {
 public:
  Trial(const Sizes& s, const Options& o)
      : s_(s),
        o_(o),
        lda_((transposed(o.ta) ? s.m : s.k) + o.padding),
        ldb_((transposed(o.tb) ? s.k : s.n) + o.padding),
        ldc_(s.n + o.padding),
        a_(ordinary<T>(count(transposed(o.ta) ? s.k : s.m, lda_), 1)),
        b_(ordinary<T>(count(transposed(o.tb) ? s.n : s.k, ldb_), 2)),
        before_(ordinary<T>(count(s.m, ldc_), 3)) {
    if (o.beta == 0.0) {  // must not be read
      for (T& value : before_) value = from_double<T>(std::nan(""));
    }
    device_a_.emplace(a_, o.skew);
    device_b_.emplace(b_, o.skew);
    device_c_.emplace(before_, o.skew);
  }

  Gemm problem() const {
    return {dtype_of<T>,
            o_.ta,
            o_.tb,
            s_.m,
            s_.n,
            s_.k,
            o_.alpha,
            device_a_->data(),
            lda_,
            device_b_->data(),
            ldb_,
            o_.beta,
            device_c_->data(),
            ldc_};
  }
  // op(A) and op(B).
  double a(std::int64_t i, std::int64_t l) const {
    return at(a_, transposed(o_.ta) ? l * lda_ + i : i * lda_ + l);
  }
  double b(std::int64_t l, std::int64_t j) const {
    return at(b_, transposed(o_.tb) ? j * ldb_ + l : l * ldb_ + j);
  }
  double product(std::int64_t i, std::int64_t j) const {
    double sum = 0.0;
    for (std::int64_t l = 0; l < s_.k; ++l) sum += a(i, l) * b(l, j);
    return o_.alpha * sum + (o_.beta != 0.0 ? o_.beta * at(before_, i * ldc_ + j) : 0.0);
  }

  // C is want(i, j); what lies between its rows is as it was.
  template <class Want>
  void expect(const Want& want) const {
    const std::vector<T> got = device_c_->read();
    for (std::int64_t i = 0; i < s_.m; ++i) {
      for (std::int64_t j = 0; j < s_.n; ++j) {
        const double w = want(i, j);
        ASSERT_NEAR(at(got, i * ldc_ + j), w, tolerance<T>(s_.k) * (1.0 + std::fabs(w)))
            << text() << ": C(" << i << ", " << j << ")";
      }
      for (std::int64_t j = s_.n; j < ldc_; ++j) {
        const auto index = static_cast<std::size_t>(i * ldc_ + j);
        ASSERT_TRUE(same(got[index], before_[index])) << text();
      }
    }
  }
  std::string text() const {
    return std::string(name_of(dtype_of<T>)) + " m=" + std::to_string(s_.m) +
           " n=" + std::to_string(s_.n) + " k=" + std::to_string(s_.k) +
           " ta=" + std::to_string(transposed(o_.ta)) + " tb=" + std::to_string(transposed(o_.tb)) +
           " padding=" + std::to_string(o_.padding) + " skew=" + std::to_string(o_.skew);
  }

  static double at(const std::vector<T>& x, std::int64_t i) {
    return as_double(x[static_cast<std::size_t>(i)]);
  }

 private:
  static bool transposed(Transpose t) { return t == Transpose::yes; }
  static std::size_t count(std::int64_t rows, std::int64_t ld) {
    return static_cast<std::size_t>(rows * ld);
  }

  Sizes s_;
  Options o_;
  std::int64_t lda_, ldb_, ldc_;
  std::vector<T> a_, b_, before_;
  std::optional<DeviceArray<T>> device_a_, device_b_, device_c_;
};

template <class T>
void expect_vector(const std::vector<T>& got, std::int64_t terms, const std::string& what,
                   const auto& want) {
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double w = want(static_cast<std::int64_t>(i));
    ASSERT_NEAR(as_double(got[i]), w, tolerance<T>(terms) * (1.0 + std::fabs(w)))
        << what << ": sum " << i;
  }
}

template <class T>
class CudaGemmTest : public DeviceTest {};
using Types = testing::Types<double, float, Half, BFloat16>;
TYPED_TEST_SUITE(CudaGemmTest, Types);

TYPED_TEST(CudaGemmTest, MatchesPlainLoopsForEveryTransposeAndOddSizes) {
  const Sizes all[] = {{1, 1, 1},    {1, 7, 3},     {5, 1, 9},    {17, 13, 31},
                       {64, 64, 64}, {65, 33, 129}, {3, 100, 70}, {128, 64, 96}};
  for (const Sizes& s : all) {
    for (const Transpose ta : kBoth) {
      for (const Transpose tb : kBoth) {
        for (const Options& o : {Options{ta, tb}, Options{ta, tb, -0.5, 0.75, 3, 1},
                                 Options{ta, tb, 2.0, 1.0, 8, 8}}) {
          const Trial<TypeParam> trial(s, o);
          cuda::gemm(trial.problem(), Epilogue::none, nullptr, nullptr, nullptr);
          ASSERT_NO_FATAL_FAILURE(
              trial.expect([&](auto i, auto j) { return trial.product(i, j); }));
        }
      }
    }
  }
}

TYPED_TEST(CudaGemmTest, AddsBiasAndGelu) {
  // n a multiple of 8 and aligned: fused; else another pass.
  for (const Sizes& s : {Sizes{24, 40, 16}, Sizes{9, 13, 7}, Sizes{1, 1, 1}, Sizes{5, 16, 0}}) {
    for (const Options& o : {Options{}, Options{kBoth[0], kBoth[1], 0.5, 0.25, 5, 1}}) {
      const auto bias = ordinary<TypeParam>(static_cast<std::size_t>(s.n), 4);
      const DeviceArray<TypeParam> device_bias(bias, o.skew);
      const DeviceArray<TypeParam> pre(static_cast<std::size_t>(s.m * s.n), o.skew);
      for (const int kind : {0, 1, 2}) {
        const Trial<TypeParam> trial(s, o);
        const auto before = [&](std::int64_t i, std::int64_t j) {
          return trial.product(i, j) + Trial<TypeParam>::at(bias, j);
        };
        cuda::gemm(trial.problem(), kind == 0 ? Epilogue::bias : Epilogue::bias_gelu,
                   device_bias.data(), kind == 2 ? pre.data() : nullptr, nullptr);
        ASSERT_NO_FATAL_FAILURE(trial.expect(
            [&](auto i, auto j) { return kind == 0 ? before(i, j) : gelu(before(i, j)); }));
        if (kind != 2) continue;
        ASSERT_NO_FATAL_FAILURE(expect_vector(pre.read(), s.k, trial.text(),
                                              [&](auto i) { return before(i / s.n, i % s.n); }));
      }
    }
  }
}

TYPED_TEST(CudaGemmTest, BackwardThroughGeluWithAndWithoutTheBias) {
  for (const Sizes& s : {Sizes{24, 40, 16}, Sizes{9, 13, 7}}) {
    for (const auto sums : {cuda::BiasGradient::none, cuda::BiasGradient::of_c}) {
      const Trial<TypeParam> trial(s, {kBoth[0], kBoth[1]});
      const auto pre = ordinary<TypeParam>(static_cast<std::size_t>(s.m * s.n), 5);
      const DeviceArray<TypeParam> device_pre(pre);
      const DeviceArray<TypeParam> dbias(static_cast<std::size_t>(s.n));
      cuda::gemm_backward(trial.problem(), {device_pre.data(), sums, dbias.data()}, nullptr);
      const auto want = [&](std::int64_t i, std::int64_t j) {
        return trial.product(i, j) * gelu_slope(Trial<TypeParam>::at(pre, i * s.n + j));
      };
      ASSERT_NO_FATAL_FAILURE(trial.expect(want));
      if (sums == cuda::BiasGradient::none) continue;
      ASSERT_NO_FATAL_FAILURE(expect_vector(dbias.read(), s.m * s.k, trial.text(), [&](auto j) {
        double sum = 0.0;
        for (std::int64_t i = 0; i < s.m; ++i) sum += want(i, j);
        return sum;
      }));
    }
  }
}

TYPED_TEST(CudaGemmTest, BackwardSumsTheFactorThatIsAGradient) {
  for (const Sizes& s :
       {Sizes{24, 40, 16}, Sizes{9, 13, 70}, Sizes{0, 8, 5}, Sizes{8, 0, 5}, Sizes{3, 4, 0}}) {
    for (const Transpose ta : kBoth) {
      for (const Transpose tb : kBoth) {
        for (const auto sums :
             {cuda::BiasGradient::of_a, cuda::BiasGradient::of_b, cuda::BiasGradient::of_c}) {
          const bool of_a = sums == cuda::BiasGradient::of_a;
          const bool of_b = sums == cuda::BiasGradient::of_b;
          const Trial<TypeParam> trial(s, {ta, tb, 1.0, 0.0, 8});
          const DeviceArray<TypeParam> dbias(static_cast<std::size_t>(of_a ? s.m : s.n));
          cuda::gemm_backward(trial.problem(), {nullptr, sums, dbias.data()}, nullptr);
          ASSERT_NO_FATAL_FAILURE(
              trial.expect([&](auto i, auto j) { return trial.product(i, j); }));
          const std::int64_t terms = of_a || of_b ? s.k : s.m;
          ASSERT_NO_FATAL_FAILURE(
              expect_vector(dbias.read(), std::max(terms, s.k * s.m), trial.text(), [&](auto x) {
                double sum = 0.0;
                for (std::int64_t l = 0; l < terms; ++l) {
                  sum += of_a ? trial.a(x, l) : of_b ? trial.b(l, x) : trial.product(l, x);
                }
                return sum;
              }));
        }
      }
    }
  }
}

TYPED_TEST(CudaGemmTest, Batches) {
  // Five products, C two rows apart, the same B for all.
  const Sizes s{6, 10, 12};
  const std::int64_t batch = 5, stride_a = s.m * s.k, stride_c = (s.m + 2) * s.n;
  const auto a = ordinary<TypeParam>(static_cast<std::size_t>(batch * stride_a), 1);
  const auto b = ordinary<TypeParam>(static_cast<std::size_t>(s.k * s.n), 2);
  const DeviceArray<TypeParam> device_a(a), device_b(b);
  const DeviceArray<TypeParam> c(static_cast<std::size_t>(batch * stride_c));
  const auto before = c.read();
  const Gemm g{dtype_of<TypeParam>, kBoth[0], kBoth[0],        s.m, s.n, s.k,      1.0,
               device_a.data(),     s.k,      device_b.data(), s.n, 0.0, c.data(), s.n};
  cuda::gemm_batched(g, batch, stride_a, 0, stride_c, nullptr);
  const auto got = c.read();
  const auto at = Trial<TypeParam>::at;
  for (std::int64_t i = 0; i < batch * stride_c; ++i) {
    const std::int64_t image = i / stride_c, row = i % stride_c / s.n, column = i % s.n;
    const auto index = static_cast<std::size_t>(i);
    if (row >= s.m) {
      ASSERT_TRUE(same(got[index], before[index]));
      continue;
    }
    double want = 0.0;
    for (std::int64_t l = 0; l < s.k; ++l) {
      want += at(a, image * stride_a + row * s.k + l) * at(b, l * s.n + column);
    }
    ASSERT_NEAR(at(got, i), want, tolerance<TypeParam>(s.k) * (1.0 + std::fabs(want)));
  }
}

TYPED_TEST(CudaGemmTest, EmptySizes) {
  for (const Sizes& s : {Sizes{0, 5, 3}, Sizes{5, 0, 3}, Sizes{0, 0, 0}, Sizes{5, 3, 0}}) {
    for (const double beta : {0.0, 0.5}) {
      const Trial<TypeParam> trial(s, {kBoth[0], kBoth[0], 1.0, beta, 2});
      cuda::gemm(trial.problem(), Epilogue::none, nullptr, nullptr, nullptr);
      ASSERT_NO_FATAL_FAILURE(trial.expect([&](auto i, auto j) { return trial.product(i, j); }));
    }
  }
}

TYPED_TEST(CudaGemmTest, RepeatsToTheBitFromSeveralThreads) {
  const Sizes s{70, 50, 300};
  const Trial<TypeParam> first(s, {});
  cuda::gemm(first.problem(), Epilogue::none, nullptr, nullptr, nullptr);
  std::vector<std::unique_ptr<Trial<TypeParam>>> trials;
  for (int i = 0; i < 4; ++i) trials.push_back(std::make_unique<Trial<TypeParam>>(s, Options{}));
  {
    std::vector<std::jthread> threads;
    for (const auto& trial : trials) {
      threads.emplace_back([&trial] {
        for (int repeat = 0; repeat < 3; ++repeat) {
          cuda::gemm(trial->problem(), Epilogue::none, nullptr, nullptr, nullptr);
        }
      });
    }
  }
  const auto c_of = [&](const Trial<TypeParam>& trial) {
    std::vector<TypeParam> c(static_cast<std::size_t>(s.m * s.n));
    cuda::copy_to_host(c.data(), trial.problem().c,
                       bytes_of(Elems(s.m * s.n), dtype_of<TypeParam>));
    return c;
  };
  const auto want = c_of(first);
  for (const auto& trial : trials) {
    const auto got = c_of(*trial);
    ASSERT_TRUE(std::equal(got.begin(), got.end(), want.begin(),
                           [](auto x, auto y) { return same(x, y); }));
  }
}

TYPED_TEST(CudaGemmTest, RunsFromACapturedGraph) {
  const cuda::OwnedStream stream;
  const Sizes s{24, 40, 16};
  const auto bias = ordinary<TypeParam>(static_cast<std::size_t>(s.n), 4);
  const DeviceArray<TypeParam> device_bias(bias);
  const Trial<TypeParam> trial(s, {});
  cuda::begin_capture(stream.get());
  cuda::gemm(trial.problem(), Epilogue::bias, device_bias.data(), nullptr, stream.get());
  void* const graph = cuda::end_capture(stream.get());
  for (int replay = 0; replay < 2; ++replay) cuda::launch_graph(graph, stream.get());
  stream.synchronize();
  cuda::destroy_graph(graph);
  ASSERT_NO_FATAL_FAILURE(trial.expect(
      [&](auto i, auto j) { return trial.product(i, j) + Trial<TypeParam>::at(bias, j); }));
}

class CudaGemmErrorTest : public DeviceTest {};

TEST_F(CudaGemmErrorTest, Tf32IsAChoice) {
  EXPECT_FALSE(cuda::tf32_allowed());
  cuda::allow_tf32(true);
  EXPECT_TRUE(cuda::tf32_allowed());
  const Trial<float> trial({64, 64, 64}, {});
  cuda::gemm(trial.problem(), Epilogue::none, nullptr, nullptr, nullptr);
  cuda::allow_tf32(false);
  std::vector<float> got(64 * 64);
  cuda::copy_to_host(got.data(), trial.problem().c, Bytes(64 * 64 * 4));
  for (std::int64_t i = 0; i < 64 * 64; ++i) {  // ten bits of mantissa a factor
    ASSERT_NEAR(got[static_cast<std::size_t>(i)], trial.product(i / 64, i % 64), 3e-2);
  }
}

TEST_F(CudaGemmErrorTest, WhatCannotBeIsRefused) {
  const Trial<float> trial({4, 8, 4}, {});
  const DeviceArray<float> vector(std::size_t{8});
  const auto run = [](const Gemm& g, Epilogue epilogue = Epilogue::none) {
    cuda::gemm(g, epilogue, nullptr, nullptr, nullptr);
  };
  Gemm g = trial.problem();
  g.dtype = DType::i32;
  EXPECT_THROW(run(g), InvalidArgument);
  g = trial.problem(), g.lda = 3;
  EXPECT_THROW(run(g), InvalidArgument);
  g = trial.problem(), g.m = -1;
  EXPECT_THROW(run(g), InvalidArgument);
  g = trial.problem(), g.b = nullptr;
  EXPECT_THROW(run(g), InvalidArgument);
  g = trial.problem();
  EXPECT_THROW(run(g, Epilogue::bias), InvalidArgument);
  EXPECT_THROW(cuda::gemm_batched(g, -1, 0, 0, 0, nullptr), InvalidArgument);
  using cuda::BiasGradient;
  EXPECT_THROW(cuda::gemm_backward(g, {nullptr, BiasGradient::of_c, nullptr}, nullptr),
               InvalidArgument);
  EXPECT_THROW(cuda::gemm_backward(g, {vector.data(), BiasGradient::of_a, vector.data()}, nullptr),
               InvalidArgument);
}

}  // namespace
}  // namespace weft::kernels

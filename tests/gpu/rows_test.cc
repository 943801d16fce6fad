// Layer norm, activations and softmax on a device against the CPU's.
#include <gtest/gtest.h>

#include "kernels/base/error.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/layer_norm.h"
#include "kernels/cuda/softmax.h"
#include "tests/gpu/device_array.h"

namespace weft::kernels {
namespace {

using cuda::Stream;
constexpr Stream kDefault = nullptr;

class RowsDeviceTest : public DeviceTest {};

template <class T>
using Real = std::conditional_t<std::is_same_v<T, double>, double, float>;

struct Sizes {
  std::int64_t rows, columns;
};
// Columns that fit a warp's registers, a block's, and neither; odd ones; one; many rows.
const Sizes kSizes[] = {{3, 8},   {5, 768}, {2, 1024}, {2, 1600}, {1, 4096}, {2, 9000},
                        {37, 10}, {9, 1},   {4, 771},  {700, 64}, {65, 33},  {1, 40000}};

template <class T>
void check_layer_norm(Sizes s, bool affine, std::size_t skew) {
  const auto n = static_cast<std::size_t>(s.rows * s.columns);
  const auto rows = static_cast<std::size_t>(s.rows), columns = static_cast<std::size_t>(s.columns);
  const auto what = std::to_string(s.rows) + " x " + std::to_string(s.columns);
  const auto x = ordinary<T>(n, 1, -1.0, 3.0), dy = ordinary<T>(n, 2);
  const auto weight = ordinary<T>(columns, 3), bias = ordinary<T>(columns, 4);
  std::vector<T> y(n), dx(n), dweight(columns), dbias(columns);
  std::vector<Real<T>> mean(rows), rstd(rows);
  const DeviceArray<T> x_(x, skew), dy_(dy, skew), weight_(weight, skew), bias_(bias, skew);
  const DeviceArray<T> y_(n, skew), dx_(n, skew), dweight_(columns), dbias_(columns);
  const DeviceArray<Real<T>> mean_(rows), rstd_(rows);
  LayerNorm f{dtype_of<T>,   s.rows,      s.columns, 1e-5,        x.data(),
              weight.data(), bias.data(), y.data(),  mean.data(), rstd.data()};
  LayerNorm g{dtype_of<T>,    s.rows,       s.columns, 1e-5,         x_.data(),
              weight_.data(), bias_.data(), y_.data(), mean_.data(), rstd_.data()};
  if (!affine) f.weight = f.bias = g.weight = g.bias = nullptr;
  layer_norm(f);
  cuda::layer_norm(g, kDefault);
  expect_close(y_.read(), y, "layer norm " + what, 2 * rounding<T>());
  expect_close(mean_.read(), mean, "mean " + what);
  expect_close(rstd_.read(), rstd, "rstd " + what, 4 * rounding<Real<T>>());
  LayerNormBackward b{dtype_of<T>, s.rows,         s.columns,   dy.data(),
                      x.data(),    weight.data(),  mean.data(), rstd.data(),
                      dx.data(),   dweight.data(), dbias.data()};
  LayerNormBackward c{dtype_of<T>, s.rows,          s.columns,    dy_.data(),
                      x_.data(),   weight_.data(),  mean_.data(), rstd_.data(),
                      dx_.data(),  dweight_.data(), dbias_.data()};
  if (!affine) {
    b.weight = c.weight = nullptr;
    b.dbias = c.dbias = nullptr;
    c.dx = dy_.data();  // in place
  }
  layer_norm_backward(b);
  cuda::layer_norm_backward(c, kDefault);
  const double sums = std::sqrt(static_cast<double>(s.rows));
  expect_close(affine ? dx_.read() : dy_.read(), dx, "dx " + what, 2 * rounding<T>(), 8.0);
  expect_close(dweight_.read(), dweight, "dweight " + what, 2 * rounding<T>(), sums);
  if (affine) expect_close(dbias_.read(), dbias, "dbias " + what, 2 * rounding<T>(), sums);
}

TEST_F(RowsDeviceTest, LayerNormAgreesWithTheCpu) {
  for_floating_types([]<class T>() {
    for (const Sizes s : kSizes) {
      check_layer_norm<T>(s, true, 0);
      check_layer_norm<T>(s, false, 0);
      if (s.columns < 2000) check_layer_norm<T>(s, true, 1);
    }
  });
}

TEST_F(RowsDeviceTest, LayerNormOfNothingWritesZerosForTheParameters) {
  const DeviceArray<float> dweight(8), dbias(8);
  LayerNormBackward p;
  p.columns = 8;
  p.dweight = dweight.data(), p.dbias = dbias.data();
  cuda::layer_norm_backward(p, kDefault);
  cuda::layer_norm({}, kDefault);
  EXPECT_EQ(dweight.read(), std::vector<float>(8, 0.0f));
  EXPECT_EQ(dbias.read(), std::vector<float>(8, 0.0f));
}

TEST_F(RowsDeviceTest, LayerNormRepeatsToTheBit) {
  constexpr std::int64_t kRows = 500, kColumns = 256;
  const DeviceArray<float> x(ordinary<float>(kRows * kColumns, 5)), mean(kRows), rstd(kRows);
  const DeviceArray<float> y(kRows * kColumns), dweight(kColumns), again(kColumns);
  cuda::layer_norm({DType::f32, kRows, kColumns, 1e-5, x.data(), nullptr, nullptr, y.data(),
                    mean.data(), rstd.data()},
                   kDefault);
  for (const DeviceArray<float>* out : {&dweight, &again}) {
    LayerNormBackward p;
    p.rows = kRows, p.columns = kColumns;
    p.dy = x.data(), p.x = x.data(), p.mean = mean.data(), p.rstd = rstd.data();
    p.dweight = out->data();
    cuda::layer_norm_backward(p, kDefault);
  }
  EXPECT_EQ(dweight.read(), again.read());
}

TEST_F(RowsDeviceTest, ActivationsAgreeWithTheCpu) {
  for_floating_types([]<class T>() {
    for (const std::size_t count : {0, 1, 9, 1000, 4001}) {
      for (const std::size_t skew : {0, 3}) {
        const auto x = ordinary<T>(count, 6, -12.0, 12.0), dy = ordinary<T>(count, 7);
        const DeviceArray<T> x_(x, skew), dy_(dy, skew), out(count, 0);
        std::vector<T> want(count);
        const Elems n(static_cast<std::int64_t>(count));
        for (const GeluKind kind : {GeluKind::exact, GeluKind::tanh}) {
          gelu(kind, dtype_of<T>, n, x.data(), want.data());
          cuda::gelu(kind, dtype_of<T>, n, x_.data(), out.data(), kDefault);
          expect_close(out.read(), want, "gelu");
          gelu_backward(kind, dtype_of<T>, n, dy.data(), x.data(), want.data());
          cuda::gelu_backward(kind, dtype_of<T>, n, dy_.data(), x_.data(), out.data(), kDefault);
          expect_close(out.read(), want, "gelu backward", 2 * rounding<T>());
        }
        relu(dtype_of<T>, n, x.data(), want.data());
        cuda::relu(dtype_of<T>, n, x_.data(), out.data(), kDefault);
        expect_close(out.read(), want, "relu", 0.0);
        relu_backward(dtype_of<T>, n, dy.data(), x.data(), want.data());
        cuda::relu_backward(dtype_of<T>, n, dy_.data(), x_.data(), out.data(), kDefault);
        expect_close(out.read(), want, "relu backward", 0.0);
      }
    }
  });
}

TEST_F(RowsDeviceTest, BiasActivationBackwardAgreesWithTheCpu) {
  for_floating_types([]<class T>() {
    for (const Sizes s : {Sizes{0, 16}, {1, 8}, {300, 40}, {33, 513}, {1000, 24}, {2, 3072}}) {
      for (const auto activation :
           {EpilogueActivation::none, EpilogueActivation::gelu_tanh, EpilogueActivation::relu}) {
        const auto n = static_cast<std::size_t>(s.rows * s.columns);
        const auto columns = static_cast<std::size_t>(s.columns);
        const auto dy = ordinary<T>(n, 8), saved = ordinary<T>(n, 9);
        std::vector<T> dx(n), dbias(columns);
        const DeviceArray<T> dy_(dy), saved_(saved), dx_(n), only_dx(n), dbias_(columns);
        BiasActivationBackward p{dtype_of<T>, activation,   s.rows,    s.columns,
                                 dy.data(),   saved.data(), dx.data(), dbias.data()};
        bias_activation_backward(p);
        p.dy = dy_.data(), p.saved = saved_.data(), p.dx = dx_.data(), p.dbias = dbias_.data();
        cuda::bias_activation_backward(p, kDefault);
        p.dx = only_dx.data(), p.dbias = nullptr;
        cuda::bias_activation_backward(p, kDefault);
        if (activation != EpilogueActivation::none) {
          expect_close(dx_.read(), dx, "dx", 2 * rounding<T>());
          expect_close(only_dx.read(), dx, "dx alone", 2 * rounding<T>());
        }
        expect_close(dbias_.read(), dbias, "dbias", 2 * rounding<T>(),
                     std::sqrt(static_cast<double>(s.rows)));
      }
    }
  });
}

TEST_F(RowsDeviceTest, SoftmaxAgreesWithTheCpu) {
  for_floating_types([]<class T>() {
    for (const Sizes s : {Sizes{3, 1}, {40, 10}, {5, 64}, {2, 1001}, {1, 50257}, {0, 7}, {7, 0}}) {
      for (const SoftmaxKind kind : {SoftmaxKind::plain, SoftmaxKind::log}) {
        for (const std::size_t skew : {0, 1}) {
          const auto n = static_cast<std::size_t>(s.rows * s.columns);
          const auto x = ordinary<T>(n, 10, -8.0, 8.0), dy = ordinary<T>(n, 11);
          std::vector<T> y(n), dx(n);
          const DeviceArray<T> x_(x, skew), dy_(dy, skew), y_(n), dx_(n);
          const auto what = std::to_string(s.rows) + " x " + std::to_string(s.columns);
          softmax(kind, dtype_of<T>, s.rows, s.columns, x.data(), y.data());
          softmax_backward(kind, dtype_of<T>, s.rows, s.columns, dy.data(), y.data(), dx.data());
          cuda::softmax(kind, dtype_of<T>, s.rows, s.columns, x_.data(), y_.data(), kDefault);
          expect_close(y_.read(), y, "softmax " + what, 4 * rounding<T>(),
                       kind == SoftmaxKind::plain ? 1e-3 : 8.0);
          cuda::softmax_backward(kind, dtype_of<T>, s.rows, s.columns, dy_.data(), y_.data(),
                                 dx_.data(), kDefault);
          expect_close(dx_.read(), dx, "softmax backward " + what, 8 * rounding<T>());
        }
      }
    }
  });
}

TEST_F(RowsDeviceTest, SoftmaxOfInfinitiesAndNaN) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  const std::vector<float> x = {1,    -inf, 2,    -inf,  // ordinary
                                -inf, -inf, -inf, -inf,  // nothing: NaN
                                1,    inf,  0,    0,     // NaN
                                0,    nan,  0,    0};    // NaN
  for (const SoftmaxKind kind : {SoftmaxKind::plain, SoftmaxKind::log}) {
    std::vector<float> want(16);
    const DeviceArray<float> x_(x), y_(16);
    softmax(kind, DType::f32, 4, 4, x.data(), want.data());
    cuda::softmax(kind, DType::f32, 4, 4, x_.data(), y_.data(), kDefault);
    expect_close(y_.read(), want, "softmax");
  }
}

TEST_F(RowsDeviceTest, OnlyFloatingTypesAreServed) {
  int x = 0;
  EXPECT_THROW(cuda::softmax(SoftmaxKind::plain, DType::i32, 1, 1, &x, &x, kDefault),
               InvalidArgument);
  EXPECT_THROW(cuda::gelu(GeluKind::tanh, DType::i64, Elems(1), &x, &x, kDefault), InvalidArgument);
  LayerNorm p;
  p.dtype = DType::u8;
  EXPECT_THROW(cuda::layer_norm(p, kDefault), InvalidArgument);
}

}  // namespace
}  // namespace weft::kernels

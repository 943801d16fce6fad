// Convolution and pooling on a device against the CPU's.
#include <gtest/gtest.h>

#include "kernels/base/error.h"
#include "kernels/cuda/conv.h"
#include "kernels/cuda/pool.h"
#include "tests/gpu/device_array.h"

namespace weft::kernels {
namespace {

using cuda::Stream;
constexpr Stream kDefault = nullptr;

class ImageDeviceTest : public DeviceTest {};

template <class T>
void check_conv(Conv2d p, bool with_bias) {
  p.dtype = dtype_of<T>;
  const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  const std::size_t in = size(p.batch * p.image()),
                    out = size(p.batch * p.out_channels * p.pixels());
  const std::size_t filters = size(p.out_channels * p.filter()), channels = size(p.out_channels);
  const auto x = ordinary<T>(in, 1), weight = ordinary<T>(filters, 2);
  const auto bias = ordinary<T>(channels, 3), dy = ordinary<T>(out, 4);
  std::vector<T> y(out), dx(in), dweight(filters), dbias(channels);
  const DeviceArray<T> x_(x), weight_(weight), bias_(bias, 1), dy_(dy);
  const DeviceArray<T> y_(out), dx_(in), dweight_(filters), dbias_(channels);
  conv2d(p, x.data(), weight.data(), with_bias ? bias.data() : nullptr, y.data());
  cuda::conv2d(p, x_.data(), weight_.data(), with_bias ? bias_.data() : nullptr, y_.data(),
               kDefault);
  const double terms = std::sqrt(static_cast<double>(p.filter()));
  expect_close(y_.read(), y, "conv2d", 2 * rounding<T>(), terms);
  conv2d_backward(p, dy.data(), x.data(), weight.data(), dx.data(), dweight.data(), dbias.data());
  cuda::conv2d_backward(p, dy_.data(), x_.data(), weight_.data(), dx_.data(), dweight_.data(),
                        dbias_.data(), kDefault);
  const double sums = std::sqrt(static_cast<double>(p.batch * p.pixels()));
  expect_close(dx_.read(), dx, "dx", 2 * rounding<T>(), terms);
  expect_close(dweight_.read(), dweight, "dweight", 2 * rounding<T>(), sums);
  expect_close(dbias_.read(), dbias, "dbias", 2 * rounding<T>(), sums);
}

Conv2d conv(std::int64_t batch, std::int64_t in, std::int64_t height, std::int64_t width,
            std::int64_t out, std::int64_t kernel, std::int64_t stride, std::int64_t padding) {
  Conv2d p;
  p.batch = batch, p.in_channels = in, p.in_height = height, p.in_width = width;
  p.out_channels = out, p.kernel_height = kernel, p.kernel_width = kernel;
  p.stride = stride, p.padding = padding;
  return p;
}

TEST_F(ImageDeviceTest, ConvolutionAgreesWithTheCpu) {
  for_floating_types([]<class T>() {
    check_conv<T>(conv(3, 2, 9, 7, 5, 3, 1, 1), true);
    check_conv<T>(conv(2, 3, 8, 11, 70, 3, 2, 1), false);
    check_conv<T>(conv(1, 1, 5, 5, 1, 5, 1, 0), true);
    check_conv<T>(conv(2, 66, 4, 4, 3, 1, 3, 0), true);
    check_conv<T>(conv(0, 2, 4, 4, 3, 3, 1, 1), true);
  });
  check_conv<float>(conv(6, 1, 28, 28, 8, 5, 1, 2), true);  // several parts of dweight
  Conv2d wide = conv(2, 2, 6, 9, 3, 2, 1, 0);
  wide.kernel_width = 4;
  check_conv<double>(wide, true);
}

TEST_F(ImageDeviceTest, GradientsMayBeLeftOut) {
  Conv2d p = conv(1, 1, 4, 4, 1, 3, 1, 0);
  const DeviceArray<float> x(ordinary<float>(16, 5)), weight(ordinary<float>(9, 6));
  const DeviceArray<float> dy(ordinary<float>(4, 7)), dweight(9);
  cuda::conv2d_backward(p, dy.data(), x.data(), weight.data(), nullptr, dweight.data(), nullptr,
                        kDefault);
  std::vector<float> want(9);
  conv2d_backward(p, dy.read().data(), x.read().data(), weight.read().data(), nullptr, want.data(),
                  nullptr);
  expect_close(dweight.read(), want, "dweight alone");
}

TEST_F(ImageDeviceTest, TooLargeAConvolutionIsRefused) {
  float x = 0;
  EXPECT_THROW(
      cuda::conv2d(conv(1 << 20, 1, 1 << 10, 1 << 10, 1, 1, 1, 0), &x, &x, nullptr, &x, kDefault),
      InvalidArgument);
}

template <class T>
void check_pools(Pool2d p) {
  p.dtype = dtype_of<T>;
  const auto in = static_cast<std::size_t>(p.planes * p.in_height * p.in_width);
  const auto out = static_cast<std::size_t>(p.planes * p.out_height() * p.out_width());
  const auto x = awkward<T>(in, 8), plain = ordinary<T>(in, 9), dy = ordinary<T>(out, 10);
  std::vector<T> y(out), dx(in);
  std::vector<std::int32_t> winners(out);
  const DeviceArray<T> x_(x), plain_(plain), dy_(dy), y_(out), dx_(in);
  const DeviceArray<std::int32_t> winners_(out);
  max_pool2d(p, x.data(), y.data(), winners.data());
  max_pool2d_backward(p, dy.data(), winners.data(), dx.data());
  cuda::max_pool2d(p, x_.data(), y_.data(), winners_.data(), kDefault);
  cuda::max_pool2d_backward(p, dy_.data(), winners_.data(), dx_.data(), kDefault);
  expect_close(y_.read(), y, "max pool", 0.0);
  expect_close(winners_.read(), winners, "winners");
  expect_close(dx_.read(), dx, "max pool backward", 0.0);
  avg_pool2d(p, plain.data(), y.data());
  avg_pool2d_backward(p, dy.data(), dx.data());
  cuda::avg_pool2d(p, plain_.data(), y_.data(), kDefault);
  cuda::avg_pool2d_backward(p, dy_.data(), dx_.data(), kDefault);
  expect_close(y_.read(), y, "average pool");
  expect_close(dx_.read(), dx, "average pool backward");
}

TEST_F(ImageDeviceTest, PoolsAgreeWithTheCpu) {
  for_floating_types([]<class T>() {
    for (const std::int64_t kernel : {1, 2, 3}) {
      for (const std::int64_t stride : {1, 2, 3}) {
        Pool2d p;
        p.planes = 5, p.in_height = 9, p.in_width = 11;
        p.kernel = kernel, p.stride = stride, p.padding = kernel / 2;
        check_pools<T>(p);
        p.padding = 0;
        check_pools<T>(p);
      }
    }
    Pool2d nothing;
    nothing.in_height = nothing.in_width = 4;
    check_pools<T>(nothing);
  });
}

}  // namespace
}  // namespace weft::kernels

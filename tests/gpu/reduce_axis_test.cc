// Sums, means and maxima along a dimension on a device against the CPU's.
#include <gtest/gtest.h>

#include "kernels/base/error.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/faults.h"
#include "tests/gpu/device_array.h"

namespace weft::kernels {
namespace {

using cuda::Stream;
constexpr Stream kDefault = nullptr;

class ReduceAxisDeviceTest : public DeviceTest {};

std::string text_of(Axis axis) {
  return "(" + std::to_string(axis.outer) + ", " + std::to_string(axis.reduced) + ", " +
         std::to_string(axis.inner) + ")";
}

// Few terms, long rows, rows of several chunks, wide and narrow columns, nothing.
const Axis kAxes[] = {{1, 1, 1},    {7, 5, 1},   {300, 64, 1}, {3, 1000, 1}, {2, 40001, 1},
                      {1, 70, 256}, {3, 500, 9}, {2, 333, 64}, {1, 2000, 3}, {4, 65, 40},
                      {0, 5, 3},    {3, 0, 2},   {3, 5, 0}};

template <class T>
void check_sum(AxisOp op, Axis axis, std::size_t skew) {
  const auto results = static_cast<std::size_t>(axis.outer * axis.inner);
  const auto in = ordinary<T>(results * static_cast<std::size_t>(axis.reduced), 1, 0.0, 2.0);
  std::vector<T> want(results);
  const DeviceArray<T> din(in, skew), dout(results, skew);
  reduce_axis(op, dtype_of<T>, axis, want.data(), in.data());
  cuda::reduce_axis(op, dtype_of<T>, axis, dout.data(), din.data(), kDefault);
  expect_close(dout.read(), want, "sum over " + text_of(axis), rounding<T>(), 0.0);
}

TEST_F(ReduceAxisDeviceTest, SumsAndMeansAgreeWithTheCpu) {
  for_all_types([]<class T>() {
    for (const Axis axis : kAxes) {
      check_sum<T>(AxisOp::sum, axis, 0);
      check_sum<T>(AxisOp::sum, axis, 1);
      if (is_floating(dtype_of<T>)) check_sum<T>(AxisOp::mean, axis, 0);
    }
  });
}

TEST_F(ReduceAxisDeviceTest, ASumRepeatsToTheBit) {
  const Axis axis{3, 20001, 1};
  const DeviceArray<float> in(ordinary<float>(3 * 20001, 2)), first(3), second(3);
  cuda::reduce_axis(AxisOp::sum, DType::f32, axis, first.data(), in.data(), kDefault);
  cuda::reduce_axis(AxisOp::sum, DType::f32, axis, second.data(), in.data(), kDefault);
  EXPECT_EQ(first.read(), second.read());
}

template <class T>
void check_max(Axis axis, const std::vector<T>& in) {
  const auto results = static_cast<std::size_t>(axis.outer * axis.inner);
  std::vector<T> want(results), want_grad(in.size());
  std::vector<std::int64_t> where(results);
  const DeviceArray<T> din(in), dout(results), dgrad(in.size());
  const DeviceArray<std::int64_t> dwhere(results);
  max_axis(dtype_of<T>, axis, want.data(), where.data(), in.data());
  cuda::max_axis(dtype_of<T>, axis, dout.data(), dwhere.data(), din.data(), kDefault);
  expect_close(dout.read(), want, "max over " + text_of(axis), 0.0);
  expect_close(dwhere.read(), where, "argmax over " + text_of(axis));
  max_axis_backward(dtype_of<T>, axis, want_grad.data(), want.data(), where.data());
  cuda::max_axis_backward(dtype_of<T>, axis, dgrad.data(), dout.data(), dwhere.data(), kDefault);
  expect_close(dgrad.read(), want_grad, "backward of max over " + text_of(axis), 0.0);
}

TEST_F(ReduceAxisDeviceTest, MaximaAndTheirGradientsAgreeWithTheCpu) {
  for_all_types([]<class T>() {
    for (const Axis axis : kAxes) {
      if (axis.reduced == 0) continue;
      const auto count = static_cast<std::size_t>(axis.outer * axis.reduced * axis.inner);
      check_max<T>(axis, awkward<T>(count, 3));
      check_max<T>(axis, std::vector<T>(count, from_double<T>(2.0)));  // all alike: the first
    }
  });
  cuda::check_faults();
}

TEST_F(ReduceAxisDeviceTest, EitherResultOfAMaximumMayBeLeftOut) {
  const Axis axis{2, 100, 1};
  const DeviceArray<float> in(ordinary<float>(200, 4)), out(2);
  const DeviceArray<std::int64_t> where(2);
  cuda::max_axis(DType::f32, axis, out.data(), nullptr, in.data(), kDefault);
  cuda::max_axis(DType::f32, axis, nullptr, where.data(), in.data(), kDefault);
  const auto values = in.read();
  const auto indices = where.read();
  for (std::size_t r = 0; r < 2; ++r) {
    EXPECT_EQ(out.read()[r], values[r * 100 + static_cast<std::size_t>(indices[r])]);
  }
}

TEST_F(ReduceAxisDeviceTest, BadArgumentsAreRefused) {
  float x = 0;
  EXPECT_THROW(cuda::reduce_axis(AxisOp::mean, DType::i32, {1, 1, 1}, &x, &x, kDefault),
               InvalidArgument);
  EXPECT_THROW(cuda::reduce_axis(AxisOp::sum, DType::f32, {1, -1, 1}, &x, &x, kDefault),
               InvalidArgument);
  EXPECT_THROW(cuda::max_axis(DType::f32, {2, 0, 1}, &x, nullptr, &x, kDefault), InvalidArgument);
}

TEST_F(ReduceAxisDeviceTest, AnIndexOutOfRangeIsToldAfterwards) {
  const DeviceArray<float> grad_out(std::vector<float>{1, 2, 3}), grad_in(12);
  const DeviceArray<std::int64_t> where(std::vector<std::int64_t>{3, 4, -1});
  cuda::max_axis_backward(DType::f32, {3, 4, 1}, grad_in.data(), grad_out.data(), where.data(),
                          kDefault);
  const auto values = grad_in.read();
  EXPECT_EQ(values, (std::vector<float>{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}));
  try {
    cuda::check_faults();
    FAIL() << "no error";
  } catch (const InvalidArgument& error) {
    EXPECT_STREQ(error.what(), "max_axis_backward: index 4 at 1: expected 0..3.");
  }
  cuda::check_faults();  // told once
}

}  // namespace
}  // namespace weft::kernels

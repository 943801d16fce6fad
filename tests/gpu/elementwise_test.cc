// Element-wise kernels on a device against the CPU's: every operation and type, odd counts and
// alignments, broadcasting, transposes, many dimensions, bad arguments.
#include "kernels/cuda/elementwise.h"

#include <gmock/gmock.h>

#include "kernels/base/error.h"
#include "kernels/cpu/lanes.h"
#include "tests/gpu/device_array.h"

namespace weft::kernels {
namespace {

using cuda::Stream;
constexpr Stream kDefault = nullptr;

class ElementwiseDeviceTest : public DeviceTest {};

// A box of memory seen through strides; the values of elements in the box's order of memory.
struct View {
  std::vector<std::int64_t> strides;
  std::int64_t first = 0;  // where element (0, 0, ...) lies
  std::size_t size = 0;    // of the memory

  View(const std::vector<std::int64_t>& shape, std::vector<std::int64_t> with)
      : strides(std::move(with)) {
    std::int64_t low = 0, high = 0;
    for (std::size_t d = 0; d < shape.size(); ++d) {
      const std::int64_t reach = strides[d] * (shape[d] - 1);
      (reach < 0 ? low : high) += reach;
    }
    first = -low;
    size = static_cast<std::size_t>(high - low + 1);
  }
};

std::vector<std::int64_t> contiguous(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t d = shape.size(); d-- > 1;) strides[d - 1] = strides[d] * shape[d];
  return strides;
}

// exp and the like differ by an ulp or a few; sums and products do not differ at all.
template <class T>
double tolerance_of(UnaryOp op) {
  const bool exact = op == UnaryOp::neg || op == UnaryOp::abs || op == UnaryOp::relu ||
                     op == UnaryOp::add_scalar || op == UnaryOp::mul_scalar || op == UnaryOp::sqrt;
  return exact ? 0.0 : rounding<T>();
}

constexpr UnaryOp kUnary[] = {UnaryOp::neg,  UnaryOp::abs,        UnaryOp::exp,       UnaryOp::log,
                              UnaryOp::sqrt, UnaryOp::tanh,       UnaryOp::sigmoid,   UnaryOp::relu,
                              UnaryOp::pow,  UnaryOp::add_scalar, UnaryOp::mul_scalar};
constexpr BinaryOp kBinary[] = {
    BinaryOp::add,           BinaryOp::sub,           BinaryOp::mul,
    BinaryOp::div,           BinaryOp::max,           BinaryOp::min,
    BinaryOp::sqrt_backward, BinaryOp::tanh_backward, BinaryOp::sigmoid_backward,
    BinaryOp::relu_backward, BinaryOp::pow_backward,  BinaryOp::abs_backward};

template <class T>
void check_unary(UnaryOp op, std::size_t count, std::size_t skew_out, std::size_t skew_in,
                 double scalar, const std::vector<T>& in) {
  const DeviceArray<T> x(in, skew_in), y(count, skew_out);
  std::vector<T> want(count);
  const Elems n(static_cast<std::int64_t>(count));
  unary(op, dtype_of<T>, n, want.data(), in.data(), scalar);
  cuda::unary(op, dtype_of<T>, n, y.data(), x.data(), scalar, kDefault);
  expect_close(y.read(), want,
               "unary " + std::to_string(static_cast<int>(op)) + " of " + std::to_string(count) +
                   " scalar " + std::to_string(scalar),
               tolerance_of<T>(op), 1e-3);
}

TEST_F(ElementwiseDeviceTest, UnaryOperationsAgreeWithTheCpu) {
  for_all_types([]<class T>() {
    for (const UnaryOp op : kUnary) {
      if (!lanes::serves(op, dtype_of<T>)) continue;
      check_unary<T>(op, 1003, 0, 0, 3.0, awkward<T>(1003, 1));
      check_unary<T>(op, 33, 3, 3, 2.5, ordinary<T>(33, 2, 0.01, 4.0));
      check_unary<T>(op, 17, 1, 2, -1.75, ordinary<T>(17, 3, 0.5, 4.0));
    }
    if constexpr (!std::is_integral_v<T>) {
      for (const double power : {2.0, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0, 3.0, 0.3, -1.7}) {
        check_unary<T>(UnaryOp::pow, 40, 0, 0, power, ordinary<T>(40, 4, 0.1, 3.0));
      }
    }
  });
}

TEST_F(ElementwiseDeviceTest, CountsFromNothingToMoreThanABlock) {
  for (const std::size_t count : {0, 1, 2, 7, 8, 9, 15, 16, 17, 511, 4096, 4099, 20001}) {
    for (const std::size_t skew : {0, 1, 5}) {
      check_unary<BFloat16>(UnaryOp::neg, count, skew, skew, 0, ordinary<BFloat16>(count, count));
      check_unary<float>(UnaryOp::neg, count, skew, 0, 0, ordinary<float>(count, count));
    }
  }
}

template <class T>
void check_binary(BinaryOp op, const std::vector<std::int64_t>& shape, const View& out,
                  const View& a, const View& b, double scalar, bool awkward_values) {
  const auto values = [&](std::size_t n, std::uint64_t seed) {
    return awkward_values ? awkward<T>(n, seed) : ordinary<T>(n, seed, 0.5, 2.0);
  };
  const auto in_a = values(a.size, 5), in_b = values(b.size, 6);
  std::vector<T> want = ordinary<T>(out.size, 7);
  const DeviceArray<T> da(in_a), db(in_b), dout(want);
  binary(op, dtype_of<T>, shape, {want.data() + out.first, out.strides},
         {in_a.data() + a.first, a.strides}, {in_b.data() + b.first, b.strides}, scalar);
  cuda::binary(op, dtype_of<T>, shape, {dout.data() + out.first, out.strides},
               {da.data() + a.first, a.strides}, {db.data() + b.first, b.strides}, scalar,
               kDefault);
  const bool exact = op != BinaryOp::tanh_backward && op != BinaryOp::pow_backward;
  expect_close(dout.read(), want, "binary " + std::to_string(static_cast<int>(op)),
               exact ? 0.0 : rounding<T>(), 1e-3);
}

TEST_F(ElementwiseDeviceTest, BinaryOperationsAgreeWithTheCpu) {
  const std::vector<std::int64_t> shape = {5, 77};
  const View plain(shape, contiguous(shape));
  for_all_types([&]<class T>() {
    for (const BinaryOp op : kBinary) {
      if (!lanes::serves(op, dtype_of<T>)) continue;
      check_binary<T>(op, shape, plain, plain, plain, 3.0, true);
      check_binary<T>(op, shape, plain, plain, plain, 0.7, false);
    }
    if constexpr (!std::is_integral_v<T>) {
      for (const double power : {0.0, 1.0, 2.0, 1.5, -1.0, 4.0}) {
        check_binary<T>(BinaryOp::pow_backward, shape, plain, plain, plain, power, false);
      }
    }
  });
}

TEST_F(ElementwiseDeviceTest, BroadcastAndStridedOperands) {
  const std::vector<std::int64_t> shape = {6, 5, 32};
  const View plain(shape, contiguous(shape));
  const View row(shape, {0, 0, 1}), column(shape, {5, 1, 0}), scalar(shape, {0, 0, 0});
  const View backwards(shape, {160, -32, -1}), gaps(shape, {5 * 40, 40, 1});
  const View transposed(shape, {1, 192, 6}), apart(shape, {480, 96, 3});
  for_all_types([&]<class T>() {
    for (const View* a : {&plain, &row, &column, &scalar, &backwards, &gaps, &transposed}) {
      for (const View* b : {&plain, &row, &column, &apart}) {
        check_binary<T>(BinaryOp::add, shape, plain, *a, *b, 0, false);
        check_binary<T>(BinaryOp::sub, shape, gaps, *a, *b, 0, false);
      }
      check_binary<T>(BinaryOp::mul, shape, transposed, *a, row, 0, false);
      check_binary<T>(BinaryOp::mul, shape, backwards, *a, row, 0, false);
    }
  });
}

TEST_F(ElementwiseDeviceTest, SixteenDimensions) {
  std::vector<std::int64_t> shape(16, 1), strides(16), other(16);
  for (std::size_t d = 0; d < 16; d += 2) shape[d] = d == 0 ? 3 : 2;
  std::int64_t step = 1;
  for (std::size_t d = 0; d < 16; ++d) {  // the reverse of contiguous
    strides[d] = step;
    step *= shape[d];
  }
  other = contiguous(shape);
  const View out(shape, other), in(shape, strides);
  check_binary<float>(BinaryOp::sub, shape, out, in, out, 0, false);
  check_binary<std::uint8_t>(BinaryOp::sub, shape, out, in, out, 0, false);
}

TEST_F(ElementwiseDeviceTest, OutputsMayBeInputs) {
  const auto in = ordinary<float>(1001, 9);
  const DeviceArray<float> x(in, 1);
  std::vector<float> want = in;
  unary(UnaryOp::exp, DType::f32, Elems(1001), want.data(), want.data());
  cuda::unary(UnaryOp::exp, DType::f32, Elems(1001), x.data(), x.data(), 0, kDefault);
  expect_close(x.read(), want, "exp in place");
}

TEST_F(ElementwiseDeviceTest, AccumulateAndFill) {
  const std::vector<std::int64_t> shape = {9, 24};
  const View plain(shape, contiguous(shape)), row(shape, {0, 1}), wide(shape, {30, 1});
  for_all_types([&]<class T>() {
    for (const double alpha : {1.0, -2.0, 0.5}) {
      for (const View* view : {&plain, &row}) {
        const auto x = ordinary<T>(view->size, 10, 0.0, 4.0);
        std::vector<T> want = ordinary<T>(wide.size, 11, 0.0, 4.0);
        const DeviceArray<T> dx(x), dy(want);
        accumulate(dtype_of<T>, shape, {want.data(), wide.strides}, {x.data(), view->strides},
                   alpha);
        cuda::accumulate(dtype_of<T>, shape, {dy.data(), wide.strides}, {dx.data(), view->strides},
                         alpha, kDefault);
        expect_close(dy.read(), want, "accumulate", rounding<T>() / 4, 0.0);
      }
    }
    for (const double value : {0.0, 1.0, 300.25, -7.0, 1e30}) {
      std::vector<T> want = ordinary<T>(wide.size, 12);
      const DeviceArray<T> dy(want, 1);
      fill(dtype_of<T>, shape, {want.data(), wide.strides}, value);
      cuda::fill(dtype_of<T>, shape, {dy.data(), wide.strides}, value, kDefault);
      expect_close(dy.read(), want, "fill", 0.0);
    }
  });
}

TEST_F(ElementwiseDeviceTest, CopiesOfEveryLayout) {
  const std::vector<std::int64_t> shape = {3, 70, 45};
  const std::vector<std::vector<std::int64_t>> layouts = {
      contiguous(shape), {70 * 45, 1, 70}, {45, 135, 1},   {70, 1, 210},
      {0, 45, 1},        {6300, 90, 2},    {3150, -45, -1}};
  for_all_types([&]<class T>() {
    for (const auto& in_strides : layouts) {
      const View from(shape, in_strides);
      const auto in = awkward<T>(from.size, 13);
      const DeviceArray<T> din(in);
      for (const auto& out_strides : layouts) {
        if (out_strides[0] == 0) continue;
        const View to(shape, out_strides);
        std::vector<T> want = ordinary<T>(to.size, 14);
        const DeviceArray<T> dout(want);
        copy(shape, {want.data() + to.first, to.strides}, dtype_of<T>,
             {in.data() + from.first, from.strides}, dtype_of<T>);
        cuda::copy(shape, {dout.data() + to.first, to.strides}, dtype_of<T>,
                   {din.data() + from.first, from.strides}, dtype_of<T>, kDefault);
        expect_close(dout.read(), want, "copy", 0.0);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  });
}

TEST_F(ElementwiseDeviceTest, CopiesBetweenEveryTwoTypes) {
  const std::vector<std::int64_t> shape = {37, 29};
  const View plain(shape, contiguous(shape)), transposed(shape, {1, 37});
  for_all_types([&]<class From>() {
    const auto in = awkward<From>(plain.size, 15);
    const DeviceArray<From> din(in);
    for_all_types([&]<class To>() {
      for (const View* from : {&plain, &transposed}) {
        std::vector<To> want(plain.size);
        const DeviceArray<To> dout(plain.size);
        copy(shape, {want.data(), plain.strides}, dtype_of<To>, {in.data(), from->strides},
             dtype_of<From>);
        cuda::copy(shape, {dout.data(), plain.strides}, dtype_of<To>, {din.data(), from->strides},
                   dtype_of<From>, kDefault);
        expect_close(dout.read(), want, "copy from " + std::string(name_of(dtype_of<From>)), 0.0);
      }
    });
  });
}

TEST_F(ElementwiseDeviceTest, BadArgumentsAreRefusedBeforeAnythingIsQueued) {
  const std::vector<std::int64_t> shape = {2, 3}, one = {1}, zero = {0, 1};
  std::int32_t word = 0;
  EXPECT_THROW(cuda::unary(UnaryOp::exp, DType::i32, Elems(1), &word, &word, 0, kDefault),
               InvalidArgument);
  EXPECT_THROW(cuda::binary(BinaryOp::div, DType::u8, Elems(1), &word, &word, &word, 0, kDefault),
               InvalidArgument);
  EXPECT_THROW(cuda::fill(DType::i32, shape, {&word, one}, 0, kDefault), InvalidArgument);
  EXPECT_THROW(cuda::accumulate(DType::f32, shape, {&word, zero}, {&word, shape}, 1, kDefault),
               InvalidArgument);
  const std::vector<std::int64_t> many(17, 1);
  EXPECT_THROW(cuda::fill(DType::i32, many, {&word, many}, 0, kDefault), InvalidArgument);
  const std::vector<std::int64_t> empty = {4, 0, 3}, strides = {0, 3, 1};
  cuda::fill(DType::i32, empty, {nullptr, strides}, 1, kDefault);  // nothing to do
}

}  // namespace
}  // namespace weft::kernels

#include "kernels/elementwise.h"

#include <gtest/gtest.h>

#include <functional>

#include "kernels/base/error.h"
#include "kernels/base/thread_pool.h"
#include "tests/kernels/values.h"

namespace weft::kernels {
namespace {

using Index = std::vector<std::int64_t>;

// Calls visit(index) for every index of a shape, in row-major order.
void for_each_index(const Index& shape, const std::function<void(const Index&)>& visit) {
  Index index(shape.size());
  for (const std::int64_t size : shape) {
    if (size == 0) return;
  }
  for (;;) {
    visit(index);
    std::size_t d = shape.size();
    while (d > 0 && ++index[d - 1] == shape[d - 1]) index[--d] = 0;
    if (d == 0) return;
  }
}

std::size_t offset(const Index& index, const Index& strides, std::int64_t base = 0) {
  for (std::size_t d = 0; d < index.size(); ++d) base += index[d] * strides[d];
  return static_cast<std::size_t>(base);
}

// A shape with one stride list for the output and two for inputs, and where each operand's index 0
// lies in a buffer of kSpan elements.
struct Strided {
  Index shape, out, a, b;
  std::int64_t first = 0;
};
constexpr std::size_t kSpan = 60000;

const Strided kLayouts[] = {
    {{}, {}, {}, {}},                                               // one element
    {{0, 3}, {3, 1}, {3, 1}, {3, 1}},                               // none
    {{1000}, {1}, {1}, {1}},                                        // side by side
    {{5000}, {1}, {1}, {0}},                                        // a scalar operand
    {{40, 50}, {50, 1}, {50, 1}, {0, 1}},                           // a row, broadcast
    {{40, 50}, {50, 1}, {1, 0}, {50, 1}},                           // a column, broadcast
    {{3, 700}, {700, 1}, {800, 1}, {0, 1}},                         // long rows with gaps
    {{33, 65}, {65, 1}, {1, 33}, {65, 1}},                          // transposed
    {{33, 65}, {1, 33}, {1, 33}, {65, 1}},                          // into a transposed output
    {{2, 3, 4, 5}, {60, 20, 5, 1}, {60, 5, 15, 1}, {0, 20, 0, 1}},  // permuted
    {{7, 11}, {22, 2}, {11, 1}, {-11, -1}, 300},                    // steps and reversals
    {{4, 1, 6, 1}, {6, 99, 1, 77}, {6, 0, 1, 5}, {0, 3, 1, 0}},     // sizes of one
    {{3, 2, 2, 2, 2, 2, 2},
     {64, 32, 16, 8, 4, 2, 1},
     {1, 3, 6, 12, 24, 48, 96},
     {64, 1, 2, 4, 8, 16, 32}},  // nothing to merge
};

double reference(BinaryOp op, double a, double b, double s) {
  switch (op) {
    case BinaryOp::add:
      return a + b;
    case BinaryOp::sub:
      return a - b;
    case BinaryOp::mul:
      return a * b;
    case BinaryOp::div:
      return a / b;
    case BinaryOp::max:
      return std::max(a, b);
    case BinaryOp::min:
      return std::min(a, b);
    case BinaryOp::sqrt_backward:
      return a / (2 * b);
    case BinaryOp::tanh_backward:
      return a * (1 - b * b);
    case BinaryOp::sigmoid_backward:
      return a * b * (1 - b);
    case BinaryOp::relu_backward:
      return b > 0 ? a : 0;
    case BinaryOp::pow_backward:
      return a * s * std::pow(b, s - 1);
    case BinaryOp::abs_backward:
      return b > 0 ? a : b < 0 ? -a : 0;
  }
  return 0;
}

double reference(UnaryOp op, double x, double s) {
  switch (op) {
    case UnaryOp::neg:
      return -x;
    case UnaryOp::abs:
      return std::fabs(x);
    case UnaryOp::exp:
      return std::exp(x);
    case UnaryOp::log:
      return std::log(x);
    case UnaryOp::sqrt:
      return std::sqrt(x);
    case UnaryOp::tanh:
      return std::tanh(x);
    case UnaryOp::sigmoid:
      return 1 / (1 + std::exp(-x));
    case UnaryOp::relu:
      return std::max(x, 0.0);
    case UnaryOp::pow:
      return std::pow(x, s);
    case UnaryOp::add_scalar:
      return x + s;
    case UnaryOp::mul_scalar:
      return x * s;
  }
  return 0;
}

template <class T>
double epsilon_of() {
  if (std::is_same_v<T, double>) return 1e-15;
  if (std::is_same_v<T, float>) return 5e-7;
  return std::is_same_v<T, Half> ? 1e-3 : 8e-3;
}

template <class T>
void expect_close(T got, double want) {
  const double rounded = as_double(from_double<T>(want));
  if (std::isnan(rounded) || std::isinf(rounded)) {
    ASSERT_TRUE(same(got, from_double<T>(rounded))) << as_double(got) << " " << want;
  } else {
    ASSERT_NEAR(as_double(got), rounded, epsilon_of<T>() * (std::fabs(rounded) + 1e-3));
  }
}

template <class T>
void check_binary(BinaryOp op, const Strided& l, double scalar) {
  const auto a = ordinary_buffer<T>(kSpan, 1, 0.2, 2.0);
  const auto b = ordinary_buffer<T>(kSpan, 2, 0.2, 0.9);
  Buffer<T> out(kSpan);
  const auto start = [&](const Buffer<T>& x) {
    return const_cast<void*>(static_cast<const void*>(static_cast<const T*>(x.data()) + l.first));
  };
  binary(op, dtype_of<T>, l.shape, {start(out), l.out}, {start(a), l.a}, {start(b), l.b}, scalar);
  Buffer<T> untouched(kSpan);
  std::vector<bool> written(kSpan);
  for_each_index(l.shape, [&](const Index& index) {
    const std::size_t o = offset(index, l.out, l.first);
    written[o] = true;
    expect_close(out.get(o), reference(op, as_double(a.get(offset(index, l.a, l.first))),
                                       as_double(b.get(offset(index, l.b, l.first))), scalar));
  });
  for (std::size_t i = 0; i < kSpan; ++i) {
    if (!written[i]) {
      ASSERT_TRUE(same(out.get(i), untouched.get(i))) << i;
    }
  }
}

template <class T>
class ElementwiseTest : public testing::Test {
 protected:
  ThreadPool pool_{3};
  ScopedThreadPool scope_{pool_};
};
using Types = testing::Types<double, float, Half, BFloat16>;
TYPED_TEST_SUITE(ElementwiseTest, Types);

TYPED_TEST(ElementwiseTest, BinaryOnEveryLayout) {
  for (const Strided& layout : kLayouts) {
    ASSERT_NO_FATAL_FAILURE(check_binary<TypeParam>(BinaryOp::sub, layout, 0));
  }
}

TYPED_TEST(ElementwiseTest, EveryBinaryOperation) {
  for_each_target([] {
    for (int o = 0; o <= static_cast<int>(BinaryOp::abs_backward); ++o) {
      const auto op = static_cast<BinaryOp>(o);
      for (const double scalar : {3.0, 2.5, 0.0}) {
        ASSERT_NO_FATAL_FAILURE(check_binary<TypeParam>(op, kLayouts[4], scalar));
        if (op != BinaryOp::pow_backward) break;
      }
    }
  });
}

template <class T>
void check_unary(UnaryOp op, const Buffer<T>& in, double scalar) {
  Buffer<T> out(in.size());
  unary(op, dtype_of<T>, Elems(static_cast<std::int64_t>(in.size())), out.data(), in.data(),
        scalar);
  for (std::size_t i = 0; i < in.size(); ++i) {
    const double x = as_double(in.get(i));
    SCOPED_TRACE(x);
    ASSERT_NO_FATAL_FAILURE(expect_close(out.get(i), reference(op, x, scalar)));
  }
}

TYPED_TEST(ElementwiseTest, EveryUnaryOperation) {
  for_each_target([] {
    for (const UnaryOp op : {UnaryOp::neg, UnaryOp::abs, UnaryOp::exp, UnaryOp::tanh,
                             UnaryOp::sigmoid, UnaryOp::add_scalar, UnaryOp::mul_scalar}) {
      ASSERT_NO_FATAL_FAILURE(
          check_unary(op, ordinary_buffer<TypeParam>(20011, 1, -9.0, 9.0), 1.5));
    }
    const auto positive = ordinary_buffer<TypeParam>(9001, 2, 1e-3, 60.0);
    ASSERT_NO_FATAL_FAILURE(check_unary(UnaryOp::log, positive, 0));
    ASSERT_NO_FATAL_FAILURE(check_unary(UnaryOp::sqrt, positive, 0));
    for (const double exponent : {2.0, 3.0, 1.0, 0.5, -0.5, -1.0, -2.0, 0.0, 1.7}) {
      ASSERT_NO_FATAL_FAILURE(
          check_unary(UnaryOp::pow, ordinary_buffer<TypeParam>(777, 3, 0.1, 4.0), exponent));
    }
  });
}

TEST(ElementwiseSpecialTest, EndsOfTheRangeInfinitiesAndNan) {
  const double infinity = HUGE_VAL;
  const auto value = [](UnaryOp op, double x) {
    unary(op, DType::f64, Elems(1), &x, &x);
    auto y = static_cast<float>(x);
    return std::pair(x, y);
  };
  for_each_target([&] {
    EXPECT_EQ(value(UnaryOp::exp, infinity).first, infinity);
    EXPECT_EQ(value(UnaryOp::exp, 1000.0).first, infinity);
    EXPECT_EQ(value(UnaryOp::exp, -infinity).first, 0.0);
    EXPECT_NEAR(value(UnaryOp::exp, 709.0).first / std::exp(709.0), 1.0, 1e-14);
    EXPECT_EQ(value(UnaryOp::log, 0.0).first, -infinity);
    EXPECT_EQ(value(UnaryOp::log, infinity).first, infinity);
    EXPECT_TRUE(std::isnan(value(UnaryOp::log, -1.0).first));
    EXPECT_EQ(value(UnaryOp::tanh, infinity).first, 1.0);
    EXPECT_EQ(value(UnaryOp::tanh, -1e300).first, -1.0);
    EXPECT_EQ(value(UnaryOp::sigmoid, -infinity).first, 0.0);
    EXPECT_EQ(value(UnaryOp::sigmoid, infinity).first, 1.0);
    for (const UnaryOp op : {UnaryOp::exp, UnaryOp::log, UnaryOp::tanh, UnaryOp::sigmoid,
                             UnaryOp::relu, UnaryOp::sqrt}) {
      EXPECT_TRUE(std::isnan(value(op, std::nan("")).first)) << static_cast<int>(op);
    }
    float x = 89.0f, y = std::nanf(""), z = 0.0f;
    unary(UnaryOp::exp, DType::f32, Elems(1), &x, &x);
    EXPECT_EQ(x, static_cast<float>(infinity));
    binary(BinaryOp::max, DType::f32, Elems(1), &z, &z, &y);
    EXPECT_TRUE(std::isnan(z));
  });
}

TEST(ElementwiseIntegerTest, ArithmeticWrapsAndTheRestIsRefused) {
  std::int32_t a[] = {2147483647, -5}, b[] = {1, 3}, out[2];
  binary(BinaryOp::add, DType::i32, Elems(2), out, a, b);
  EXPECT_EQ(out[0], -2147483647 - 1);
  binary(BinaryOp::mul, DType::i32, Elems(2), out, a, b);
  EXPECT_EQ(out[1], -15);
  unary(UnaryOp::mul_scalar, DType::i32, Elems(2), out, a, -2.0);
  EXPECT_EQ(out[1], 10);
  EXPECT_THROW(binary(BinaryOp::div, DType::i32, Elems(2), out, a, b), InvalidArgument);
  EXPECT_THROW(unary(UnaryOp::exp, DType::u8, Elems(2), out, a), InvalidArgument);
}

TYPED_TEST(ElementwiseTest, AccumulateFillAndCopyOnEveryLayout) {
  using T = TypeParam;
  for (const Strided& l : kLayouts) {
    const auto a = ordinary_buffer<T>(kSpan, 5);
    const auto before = ordinary_buffer<T>(kSpan, 6);
    auto sum = before, filled = before, copied = before;
    Buffer<double> wide(kSpan);
    const auto start = [&](auto& x) {
      return static_cast<std::byte*>(x.data()) +
             l.first * static_cast<std::int64_t>(sizeof(x.get(0)));
    };
    const auto* const source =
        static_cast<const std::byte*>(a.data()) + l.first * static_cast<std::int64_t>(sizeof(T));
    accumulate(dtype_of<T>, l.shape, {start(sum), l.out}, {source, l.a}, 0.5);
    fill(dtype_of<T>, l.shape, {start(filled), l.out}, 3.5);
    copy(l.shape, {start(copied), l.out}, dtype_of<T>, {source, l.a}, dtype_of<T>);
    copy(l.shape, {start(wide), l.out}, DType::f64, {source, l.a}, dtype_of<T>);
    std::vector<bool> written(kSpan);
    for_each_index(l.shape, [&](const Index& index) {
      const std::size_t o = offset(index, l.out, l.first), i = offset(index, l.a, l.first);
      written[o] = true;
      expect_close(sum.get(o), as_double(before.get(o)) + 0.5 * as_double(a.get(i)));
      ASSERT_EQ(as_double(filled.get(o)), 3.5);
      ASSERT_TRUE(same(copied.get(o), a.get(i)));
      ASSERT_EQ(wide.get(o), as_double(a.get(i)));
    });
    for (std::size_t i = 0; i < kSpan; ++i) {
      if (written[i]) continue;
      ASSERT_TRUE(same(sum.get(i), before.get(i)) && same(filled.get(i), before.get(i)) &&
                  same(copied.get(i), before.get(i)));
    }
  }
}

TEST(CopyTest, TransposesPlanesOfEveryWordSizeAndOddShape) {
  ThreadPool pool(2);
  const ScopedThreadPool scope(pool);
  for (const auto& [rows, columns] :
       {std::pair<std::int64_t, std::int64_t>{1, 9}, {70, 33}, {257, 130}, {3, 1000}}) {
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::u8}) {
      dispatch(dtype, [&, r = rows, c = columns]<class T>() {
        const auto in = awkward_buffer<T>(static_cast<std::size_t>(3 * r * c), 0, 1);
        Buffer<T> out(in.size());
        const Index shape = {3, r, c}, to = {r * c, c, 1}, from = {r * c, 1, r};
        copy(shape, {out.data(), to}, dtype, {in.data(), from}, dtype);
        for_each_index(shape, [&](const Index& index) {
          ASSERT_TRUE(same(out.get(offset(index, to)), in.get(offset(index, from))));
        });
      });
    }
  }
}

TEST(ElementwiseErrorTest, RefusesRanksThatDiffer) {
  float x[4] = {};
  const Index shape = {2, 2}, good = {2, 1}, shorter = {1}, repeating = {0, 1};
  EXPECT_THROW(fill(DType::f32, shape, {x, shorter}, 1.0), InvalidArgument);
  EXPECT_THROW(copy(shape, {x, good}, DType::f32, {x, shorter}, DType::f32), InvalidArgument);
  EXPECT_THROW(accumulate(DType::f32, shape, {x, repeating}, {x, good}), InvalidArgument);
  const Index negative = {-1, 2}, deep(kDimsMax + 1, 1);
  EXPECT_THROW(fill(DType::f32, negative, {x, good}, 1.0), InvalidArgument);
  EXPECT_THROW(fill(DType::f32, deep, {x, deep}, 1.0), InvalidArgument);
}

}  // namespace
}  // namespace weft::kernels

// Unary, binary, accumulate, fill: bodies of the element-wise kernel. The operation is one branch
// a pack, the same for every thread, which memory hides.
#include "kernels/cuda/elementwise.h"

#include <string>

#include "kernels/cpu/lanes.h"
#include "kernels/cuda/map.cuh"
#include "kernels/functors/convert.h"
#include "kernels/functors/elementwise.h"

namespace weft::kernels::cuda {
namespace {

template <class T>
using ScalarFor = functors::ScalarOf<ComputeOf<T>>;

template <class T>
ScalarFor<T> scalar_for(double scalar) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<std::uint64_t>(integer_from<std::int64_t>(scalar));
  } else {
    return static_cast<ScalarFor<T>>(scalar);
  }
}

template <class T>
struct UnaryBody {
  UnaryOp op;
  bool exact_power;
  ScalarFor<T> scalar;

  template <class Op, int N>
  __device__ void each(Op f, Pack<T, N>& y, const Pack<T, N>& x) const {
    ComputeOf<T> values[N];
    widen(x, values);
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = f(values[i], scalar);
    y = narrow<T>(values);
  }

  template <int N>
  __device__ void operator()(Pack<T, N>& y, const Pack<T, N>* x) const {
    using namespace functors;
    if constexpr (!std::is_integral_v<T>) {
      switch (op) {
        case UnaryOp::exp:
          return each(Exp(), y, *x);
        case UnaryOp::log:
          return each(Log(), y, *x);
        case UnaryOp::sqrt:
          return each(Sqrt(), y, *x);
        case UnaryOp::tanh:
          return each(Tanh(), y, *x);
        case UnaryOp::sigmoid:
          return each(Sigmoid(), y, *x);
        case UnaryOp::pow:
          return exact_power ? each(ExactPower(), y, *x) : each(Power(), y, *x);
        default:
          break;
      }
    }
    switch (op) {
      case UnaryOp::neg:
        return each(Neg(), y, *x);
      case UnaryOp::abs:
        return each(Abs(), y, *x);
      case UnaryOp::relu:
        return each(PlainRelu(), y, *x);
      case UnaryOp::add_scalar:
        return each(AddScalar(), y, *x);
      default:
        return each(MulScalar(), y, *x);
    }
  }
};

template <class T>
struct BinaryBody {
  BinaryOp op;
  bool axpy;  // a + s b of accumulate(), instead of op
  bool exact_power;
  ScalarFor<T> scalar;

  template <class Op, int N>
  __device__ void each(Op f, Pack<T, N>& y, const Pack<T, N>* x) const {
    ComputeOf<T> a[N], b[N];
    widen(x[0], a);
    widen(x[1], b);
#pragma unroll
    for (int i = 0; i < N; ++i) a[i] = f(a[i], b[i], scalar);
    y = narrow<T>(a);
  }

  template <int N>
  __device__ void operator()(Pack<T, N>& y, const Pack<T, N>* x) const {
    using namespace functors;
    if (axpy) return each(Axpy(), y, x);
    if constexpr (!std::is_integral_v<T>) {
      switch (op) {
        case BinaryOp::div:
          return each(Div(), y, x);
        case BinaryOp::sqrt_backward:
          return each(SqrtBackward(), y, x);
        case BinaryOp::tanh_backward:
          return each(TanhBackward(), y, x);
        case BinaryOp::sigmoid_backward:
          return each(SigmoidBackward(), y, x);
        case BinaryOp::relu_backward:
          return each(ReluBackward(), y, x);
        case BinaryOp::abs_backward:
          return each(AbsBackward(), y, x);
        case BinaryOp::pow_backward:
          return exact_power ? each(ExactPowerBackward(), y, x) : each(PowerBackward(), y, x);
        default:
          break;
      }
    }
    switch (op) {
      case BinaryOp::add:
        return each(Add(), y, x);
      case BinaryOp::sub:
        return each(Sub(), y, x);
      case BinaryOp::mul:
        return each(Mul(), y, x);
      case BinaryOp::max:
        return each(Max(), y, x);
      default:
        return each(Min(), y, x);
    }
  }
};

template <class Word>
struct FillBody {
  Word value;
  template <int N>
  __device__ void operator()(Pack<Word, N>& y, const Pack<Word, N>*) const {
#pragma unroll
    for (int i = 0; i < N; ++i) y[i] = value;
  }
};

template <class Op>
void require_served(const char* operation, Op op, DType dtype) {
  if (lanes::serves(op, dtype)) return;
  refuse(std::string(operation) + ": operation " + std::to_string(static_cast<int>(op)) +
         " does not serve " + std::string(name_of(dtype)) + ": convert to a floating type first.");
}

constexpr std::int64_t kOne[] = {1};

void pairs(BinaryOp op, bool axpy, DType dtype, const strided::Layout& layout, void* out,
           const void* a, const void* b, double scalar, Stream stream) {
  dispatch(dtype, [&]<class T>() {
    const bool exact =
        op == BinaryOp::pow_backward && (scalar == 0.0 || functors::has_exact_power(scalar - 1.0));
    launch_map<kWidth<T>, 2>(
        layout,
        MapOperands<T, T, 2>{static_cast<T*>(out),
                             {static_cast<const T*>(a), static_cast<const T*>(b)}},
        BinaryBody<T>{op, axpy, exact, scalar_for<T>(scalar)}, stream);
  });
}

template <class T>
std::uint64_t bits_of(double value) {
  const T converted = convert<T>(value);
  std::uint64_t bits = 0;
  __builtin_memcpy(&bits, &converted, sizeof converted);
  return bits;
}

template <class Word>
void fill_words(const strided::Layout& layout, void* out, std::uint64_t bits, Stream stream) {
  launch_map<kWidth<Word>, 0>(layout, MapOperands<Word, Word, 0>{static_cast<Word*>(out)},
                              FillBody<Word>{static_cast<Word>(bits)}, stream);
}

}  // namespace

void unary(UnaryOp op, DType dtype, Dims shape, Operand out, ConstOperand in, double scalar,
           Stream stream) {
  require_served("unary", op, dtype);
  const Dims strides[] = {out.strides, in.strides};
  const strided::Layout layout = strided::make_layout("unary", shape, strides);
  dispatch(dtype, [&]<class T>() {
    launch_map<kWidth<T>, 1>(
        layout, MapOperands<T, T, 1>{static_cast<T*>(out.data), {static_cast<const T*>(in.data)}},
        UnaryBody<T>{op, functors::has_exact_power(scalar), scalar_for<T>(scalar)}, stream);
  });
}

void binary(BinaryOp op, DType dtype, Dims shape, Operand out, ConstOperand a, ConstOperand b,
            double scalar, Stream stream) {
  require_served("binary", op, dtype);
  const Dims strides[] = {out.strides, a.strides, b.strides};
  pairs(op, false, dtype, strided::make_layout("binary", shape, strides), out.data, a.data, b.data,
        scalar, stream);
}

void accumulate(DType dtype, Dims shape, Operand y, ConstOperand x, double alpha, Stream stream) {
  const Dims strides[] = {y.strides, y.strides, x.strides};
  const strided::Layout layout = strided::make_layout("accumulate", shape, strides);
  for (int d = 0; d < layout.dims; ++d) {
    if (layout.strides[0][static_cast<std::size_t>(d)] != 0) continue;
    refuse("accumulate: y repeats its elements (a stride of 0 over " +
           std::to_string(layout.shape[static_cast<std::size_t>(d)]) +
           "): sum x along that dimension first.");
  }
  pairs(BinaryOp::add, alpha != 1.0, dtype, layout, y.data, y.data, x.data, alpha, stream);
}

void fill(DType dtype, Dims shape, Operand out, double value, Stream stream) {
  const Dims strides[] = {out.strides};
  const strided::Layout layout = strided::make_layout("fill", shape, strides);
  std::uint64_t bits = 0;
  dispatch(dtype, [&]<class T>() { bits = bits_of<T>(value); });
  switch (size_of(dtype).value) {
    case 8:
      return fill_words<std::uint64_t>(layout, out.data, bits, stream);
    case 4:
      return fill_words<std::uint32_t>(layout, out.data, bits, stream);
    case 2:
      return fill_words<std::uint16_t>(layout, out.data, bits, stream);
    default:
      return fill_words<std::uint8_t>(layout, out.data, bits, stream);
  }
}

void unary(UnaryOp op, DType dtype, Elems count, void* out, const void* in, double scalar,
           Stream stream) {
  const std::int64_t shape[] = {count.value};
  unary(op, dtype, shape, {out, kOne}, {in, kOne}, scalar, stream);
}

void binary(BinaryOp op, DType dtype, Elems count, void* out, const void* a, const void* b,
            double scalar, Stream stream) {
  const std::int64_t shape[] = {count.value};
  binary(op, dtype, shape, {out, kOne}, {a, kOne}, {b, kOne}, scalar, stream);
}

void accumulate(DType dtype, Elems count, void* y, const void* x, double alpha, Stream stream) {
  const std::int64_t shape[] = {count.value};
  accumulate(dtype, shape, {y, kOne}, {x, kOne}, alpha, stream);
}

void fill(DType dtype, Elems count, void* out, double value, Stream stream) {
  const std::int64_t shape[] = {count.value};
  fill(dtype, shape, {out, kOne}, value, stream);
}

}  // namespace weft::kernels::cuda

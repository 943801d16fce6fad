#include "kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/base/error.h"
#include "kernels/base/thread_pool.h"
#include "kernels/cast.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/strided.h"

namespace weft::kernels {
namespace {

using strided::kRun;
using strided::Layout;

constexpr std::int64_t kGrain = 32768;      // a few microseconds of additions
constexpr std::int64_t kGrainHeavy = 4096;  // of exponentials

constexpr std::int64_t grain_of(UnaryOp op) {
  const bool heavy = op == UnaryOp::exp || op == UnaryOp::log || op == UnaryOp::tanh ||
                     op == UnaryOp::sigmoid || op == UnaryOp::pow;
  return heavy ? kGrainHeavy : kGrain;
}
constexpr std::int64_t grain_of(BinaryOp op) {
  return op == BinaryOp::pow_backward ? kGrainHeavy : kGrain;
}

// One operand's window on the current run: memory itself where the run lies side by side there and
// needs no widening, else a buffer.
class Window {
 public:
  Window(const Layout& layout, int operand, DType dtype)
      : layout_(layout), operand_(operand), dtype_(dtype), bytes_(size_of(dtype).value) {}

  const void* read(const void* data, std::int64_t begin, std::int64_t count) {
    const void* raw = in_place(data, begin, count);
    if (raw == nullptr) {
      strided::gather(layout_, operand_, dtype_, data, begin, count, raw_);
      raw = raw_;
    }
    if (!is_half(dtype_)) return raw;
    cast(wide_, DType::f32, raw, dtype_, Elems(count));
    return wide_;
  }

  // Where results are to be put before commit().
  void* target(void* data, std::int64_t begin, std::int64_t count) {
    place_ = const_cast<void*>(in_place(data, begin, count));
    if (is_half(dtype_)) return wide_;
    return place_ != nullptr ? place_ : raw_;
  }
  void commit(void* data, std::int64_t begin, std::int64_t count) {
    if (is_half(dtype_)) {
      cast(place_ != nullptr ? place_ : raw_, dtype_, wide_, DType::f32, Elems(count));
    }
    if (place_ == nullptr) {
      strided::scatter(layout_, operand_, dtype_, data, begin, count, raw_);
    }
  }

 private:
  const void* in_place(const void* data, std::int64_t begin, std::int64_t count) const {
    if (layout_.dims > 0) {
      if (layout_.inner_stride(operand_) != 1) return nullptr;
      const std::int64_t inner = layout_.inner_size();
      if (begin / inner != (begin + count - 1) / inner) return nullptr;
    }
    return static_cast<const std::byte*>(data) +
           strided::offset_of(layout_, operand_, begin) * bytes_;
  }

  const Layout& layout_;
  const int operand_;
  const DType dtype_;
  const std::int64_t bytes_;
  void* place_ = nullptr;
  alignas(64) float wide_[kRun];
  alignas(64) std::byte raw_[kRun * 8];
};

// Calls run(begin, count) over [begin, end): in one piece where every operand's memory can be used
// as it is, else in pieces that fit the buffers and, for long rows, do not cross them.
template <class Run>
void for_each_run(const Layout& layout, DType dtype, std::int64_t begin, std::int64_t end,
                  const Run& run) {
  bool direct = !is_half(dtype);
  for (int k = 0; k < layout.operands; ++k) {
    direct = direct && (layout.dims == 0 || layout.inner_stride(k) == 1);
  }
  const std::int64_t inner = layout.inner_size();
  const bool by_rows = inner >= kRun / 4;
  while (begin < end) {
    std::int64_t count = end - begin;
    if (by_rows) count = std::min(count, inner - begin % inner);
    if (!(direct && by_rows)) count = std::min(count, kRun);
    run(begin, count);
    begin += count;
  }
}

template <class Op>
[[noreturn]] void refuse(std::string_view operation, Op op, DType dtype) {
  fail<InvalidArgument>("{}: operation {} does not serve {}: convert to a floating type first.",
                        operation, static_cast<int>(op), name_of(dtype));
}

}  // namespace

void unary(UnaryOp op, DType dtype, Dims shape, Operand out, ConstOperand in, double scalar) {
  if (!lanes::serves(op, dtype)) refuse("unary", op, dtype);
  const Dims strides[] = {out.strides, in.strides};
  const Layout layout = strided::make_layout("unary", shape, strides);
  parallel_for(layout.size, grain_of(op), [&](std::int64_t from, std::int64_t to) {
    Window result(layout, 0, dtype), x(layout, 1, dtype);
    for_each_run(layout, dtype, from, to, [&](std::int64_t begin, std::int64_t count) {
      void* const target = result.target(out.data, begin, count);
      lanes::unary(op, dtype, target, x.read(in.data, begin, count),
                   static_cast<std::size_t>(count), scalar);
      result.commit(out.data, begin, count);
    });
  });
}

void binary(BinaryOp op, DType dtype, Dims shape, Operand out, ConstOperand a, ConstOperand b,
            double scalar) {
  if (!lanes::serves(op, dtype)) refuse("binary", op, dtype);
  const Dims strides[] = {out.strides, a.strides, b.strides};
  const Layout layout = strided::make_layout("binary", shape, strides);
  parallel_for(layout.size, grain_of(op), [&](std::int64_t from, std::int64_t to) {
    Window result(layout, 0, dtype), x(layout, 1, dtype), y(layout, 2, dtype);
    for_each_run(layout, dtype, from, to, [&](std::int64_t begin, std::int64_t count) {
      void* const target = result.target(out.data, begin, count);
      lanes::binary(op, dtype, target, x.read(a.data, begin, count), y.read(b.data, begin, count),
                    static_cast<std::size_t>(count), scalar);
      result.commit(out.data, begin, count);
    });
  });
}

void accumulate(DType dtype, Dims shape, Operand y, ConstOperand x, double alpha) {
  const Dims strides[] = {y.strides, x.strides};
  const Layout layout = strided::make_layout("accumulate", shape, strides);
  for (int d = 0; d < layout.dims; ++d) {
    if (layout.strides[0][static_cast<std::size_t>(d)] == 0) {
      fail<InvalidArgument>(
          "accumulate: y repeats its elements (a stride of 0 over {}): sum x along that dimension "
          "first.",
          layout.shape[static_cast<std::size_t>(d)]);
    }
  }
  parallel_for(layout.size, kGrain, [&](std::int64_t from, std::int64_t to) {
    Window sum(layout, 0, dtype), term(layout, 1, dtype);
    for_each_run(layout, dtype, from, to, [&](std::int64_t begin, std::int64_t count) {
      void* const target = sum.target(y.data, begin, count);
      sum.read(y.data, begin, count);  // into the target, unless that is memory itself
      lanes::accumulate(dtype, target, term.read(x.data, begin, count),
                        static_cast<std::size_t>(count), alpha);
      sum.commit(y.data, begin, count);
    });
  });
}

void fill(DType dtype, Dims shape, Operand out, double value) {
  const Dims strides[] = {out.strides};
  const Layout layout = strided::make_layout("fill", shape, strides);
  const std::int64_t bytes = size_of(dtype).value;
  alignas(64) std::byte pattern[kRun * 8];
  double values[kRun];
  const bool zero = value == 0.0 && !std::signbit(value);
  const std::int64_t length = std::min(kRun, layout.size);
  std::fill_n(values, length, value);
  cast(pattern, dtype, values, DType::f64, Elems(length));
  parallel_for(layout.size, kGrain, [&](std::int64_t from, std::int64_t to) {
    for (std::int64_t begin = from; begin < to; begin += kRun) {
      const std::int64_t count = std::min(kRun, to - begin);
      if (zero && layout.is_contiguous(0)) {
        std::memset(static_cast<std::byte*>(out.data) + begin * bytes, 0,
                    static_cast<std::size_t>((to - begin) * bytes));
        return;
      }
      if (layout.is_contiguous(0)) {
        std::memcpy(static_cast<std::byte*>(out.data) + begin * bytes, pattern,
                    static_cast<std::size_t>(count * bytes));
      } else {
        strided::scatter(layout, 0, dtype, out.data, begin, count, pattern);
      }
    }
  });
}

namespace {
constexpr std::int64_t kOne[] = {1};
}

void unary(UnaryOp op, DType dtype, Elems count, void* out, const void* in, double scalar) {
  const std::int64_t shape[] = {count.value};
  unary(op, dtype, shape, {out, kOne}, {in, kOne}, scalar);
}

void binary(BinaryOp op, DType dtype, Elems count, void* out, const void* a, const void* b,
            double scalar) {
  const std::int64_t shape[] = {count.value};
  binary(op, dtype, shape, {out, kOne}, {a, kOne}, {b, kOne}, scalar);
}

void accumulate(DType dtype, Elems count, void* y, const void* x, double alpha) {
  const std::int64_t shape[] = {count.value};
  accumulate(dtype, shape, {y, kOne}, {x, kOne}, alpha);
}

void fill(DType dtype, Elems count, void* out, double value) {
  const std::int64_t shape[] = {count.value};
  fill(dtype, shape, {out, kOne}, value);
}

}  // namespace weft::kernels

#include "kernels/reduce.h"

#include <cstring>

#include "kernels/base/error.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/reduce.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "kernels/cpu/half-inl.h"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

struct Add {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Add(a, b);
  }
};
struct Multiply {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Mul(a, b);
  }
};
template <bool kMax>
struct Extreme {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    if constexpr (hwy::IsFloat<hn::TFromV<V>>()) {
      const auto keep = kMax ? hn::Gt(a, b) : hn::Lt(a, b);
      return hn::IfThenElse(hn::IsNaN(a), a, hn::IfThenElse(keep, a, b));
    } else {
      return kMax ? hn::Max(a, b) : hn::Min(a, b);
    }
  }
};

struct Keep {
  template <class V>
  HWY_INLINE V operator()(V sum) const {
    return sum;
  }
};
// A power of two has an exact reciprocal: the product is the quotient.
template <class T>
struct TimesReciprocal {
  T reciprocal;
  template <class V>
  HWY_INLINE V operator()(V sum) const {
    return hn::Mul(sum, hn::Set(hn::DFromV<V>(), reciprocal));
  }
};
template <class T>
struct DividedBy {
  T divisor;
  template <class V>
  HWY_INLINE V operator()(V sum) const {
    return hn::Div(sum, hn::Set(hn::DFromV<V>(), divisor));
  }
};

template <class T>
struct Call {
  T* out;
  const void* const* inputs;
  std::size_t input_count;
  std::size_t count;

  HWY_INLINE const T* input(std::size_t k) const { return static_cast<const T*>(inputs[k]); }
};

// kInputs: their number where it is known to the compiler, else 0.
template <std::size_t kInputs, class T, class Op, class Finish>
HWY_INLINE void fold_inputs(const Call<T>& call, Op op, Finish finish) {
  using E = Element<T>;
  const typename E::D d;
  const std::size_t lanes = hn::Lanes(d);
  const std::size_t inputs = kInputs != 0 ? kInputs : call.input_count;
  const T* const first = call.input(0);
  T* const out = call.out;
  std::size_t i = 0;
  for (; i + 4 * lanes <= call.count; i += 4 * lanes) {
    auto a0 = E::load(d, first + i);
    auto a1 = E::load(d, first + i + lanes);
    auto a2 = E::load(d, first + i + 2 * lanes);
    auto a3 = E::load(d, first + i + 3 * lanes);
    for (std::size_t k = 1; k < inputs; ++k) {
      const T* const next = call.input(k) + i;
      a0 = op(a0, E::load(d, next));
      a1 = op(a1, E::load(d, next + lanes));
      a2 = op(a2, E::load(d, next + 2 * lanes));
      a3 = op(a3, E::load(d, next + 3 * lanes));
    }
    E::store(d, finish(a0), out + i);
    E::store(d, finish(a1), out + i + lanes);
    E::store(d, finish(a2), out + i + 2 * lanes);
    E::store(d, finish(a3), out + i + 3 * lanes);
  }
  for (; i + lanes <= call.count; i += lanes) {
    auto acc = E::load(d, first + i);
    for (std::size_t k = 1; k < inputs; ++k) acc = op(acc, E::load(d, call.input(k) + i));
    E::store(d, finish(acc), out + i);
  }
  const std::size_t left = call.count - i;
  if (left == 0) return;
  auto acc = E::load_some(d, first + i, left);
  for (std::size_t k = 1; k < inputs; ++k) acc = op(acc, E::load_some(d, call.input(k) + i, left));
  E::store_some(d, finish(acc), out + i, left);
}

template <class T, class Op, class Finish>
void fold(const Call<T>& call, Op op, Finish finish) {
  if (call.input_count == 2) return fold_inputs<2>(call, op, finish);
  fold_inputs<0>(call, op, finish);
}

// Integer products and quotients have no vector form worth the name: plain code.
template <class T>
void integer_product(const Call<T>& call) {
  for (std::size_t i = 0; i < call.count; ++i) {
    std::uint64_t product = 1;
    for (std::size_t k = 0; k < call.input_count; ++k) {
      T value;
      std::memcpy(&value, call.input(k) + i, sizeof value);
      product *= static_cast<std::uint64_t>(value);
    }
    const T result = static_cast<T>(product);
    std::memcpy(call.out + i, &result, sizeof result);
  }
}

template <class T>
void integer_average(Call<T> call, std::int64_t divisor) {
  constexpr std::size_t kBlock = 2048;  // summed, then divided while in cache
  T sums[kBlock];
  const std::size_t count = call.count;
  for (std::size_t begin = 0; begin < count; begin += kBlock) {
    const std::size_t length = count - begin < kBlock ? count - begin : kBlock;
    for (std::size_t i = 0; i < length; ++i) sums[i] = 0;
    for (std::size_t k = 0; k < call.input_count; ++k) {
      const void* const pair[2] = {sums, call.input(k) + begin};
      fold_inputs<2>(Call<T>{sums, pair, 2, length}, Add(), Keep());
    }
    for (std::size_t i = 0; i < length; ++i) {
      sums[i] = static_cast<T>(static_cast<std::int64_t>(sums[i]) / divisor);
    }
    std::memcpy(static_cast<void*>(call.out + begin), sums, length * sizeof(T));
  }
}

template <class T>
void average(const Call<T>& call, std::int64_t divisor) {
  if constexpr (std::is_integral_v<T>) {
    integer_average(call, divisor);
  } else {
    using C = typename Element<T>::Compute;
    if ((divisor & (divisor - 1)) == 0) {
      fold(call, Add(), TimesReciprocal<C>{C(1) / static_cast<C>(divisor)});
    } else {
      fold(call, Add(), DividedBy<C>{static_cast<C>(divisor)});
    }
  }
}

template <class T>
void reduce_as(const Call<T>& call, ReduceOp op, std::int64_t divisor) {
  switch (op) {
    case ReduceOp::sum:
      return fold(call, Add(), Keep());
    case ReduceOp::prod:
      if constexpr (std::is_integral_v<T>) {
        return integer_product(call);
      } else {
        return fold(call, Multiply(), Keep());
      }
    case ReduceOp::min:
      return fold(call, Extreme<false>(), Keep());
    case ReduceOp::max:
      return fold(call, Extreme<true>(), Keep());
    case ReduceOp::avg:
      return average(call, divisor);
  }
}

void reduce_any(void* out, const void* const* inputs, std::size_t input_count, std::size_t count,
                DType dtype, ReduceOp op, std::int64_t divisor) {
  dispatch(dtype, [&]<class T>() {
    reduce_as(Call<T>{static_cast<T*>(out), inputs, input_count, count}, op, divisor);
  });
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(reduce_any);

namespace {

// Sums of a few elements, which a call through the table of targets would take longer than.
constexpr std::int64_t kFew = 16;

template <class T>
void sum_few(void* out, std::span<const void* const> inputs, std::size_t count) {
  T sums[kFew];
  std::memcpy(sums, inputs[0], count * sizeof(T));
  for (std::size_t k = 1; k < inputs.size(); ++k) {
    T next[kFew];
    std::memcpy(next, inputs[k], count * sizeof(T));
    for (std::size_t i = 0; i < count; ++i) sums[i] += next[i];
  }
  std::memcpy(out, sums, count * sizeof(T));
}

}  // namespace

void reduce(void* out, std::span<const void* const> inputs, Elems count, DType dtype, ReduceOp op,
            std::int64_t divisor) {
  if (inputs.empty()) fail<InvalidArgument>("reduce: no input: expected at least one.");
  if (op == ReduceOp::avg && divisor < 1) {
    fail<InvalidArgument>("reduce: avg with divisor {}: expected at least 1.", divisor);
  }
  if (count.value <= 0) return;
  if (inputs.size() == 1 && op != ReduceOp::avg && !is_half(dtype)) {
    if (out != inputs[0]) std::memcpy(out, inputs[0], bytes_of(count, dtype).size());
    return;
  }
  if (count.value <= kFew && op == ReduceOp::sum) {
    if (dtype == DType::f32) return sum_few<float>(out, inputs, count.size());
    if (dtype == DType::f64) return sum_few<double>(out, inputs, count.size());
  }
  HWY_DYNAMIC_DISPATCH(reduce_any)
  (out, inputs.data(), inputs.size(), count.size(), dtype, op, divisor);
}

}  // namespace weft::kernels
#endif

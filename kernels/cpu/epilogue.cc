#include "kernels/cpu/epilogue.h"

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/epilogue.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "kernels/cpu/half-inl.h"
#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

// x / 2 (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2 / pi) (x + 0.044715 x^3): Hendrycks, Gimpel,
// 2016.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V gelu_tanh(D d, V x) {
  using T = hn::TFromD<D>;
  const V cubic = hn::Set(d, static_cast<T>(-2.0 * 0.7978845608028654 * 0.044715));
  const V linear = hn::Set(d, static_cast<T>(-2.0 * 0.7978845608028654));
  const V minus_2u = hn::Mul(x, hn::MulAdd(hn::Mul(x, x), cubic, linear));
  return hn::Div(x, hn::Add(hn::Set(d, static_cast<T>(1)), vector_exp(d, minus_2u)));
}

template <bool kGelu, class T>
HWY_INLINE void epilogue_row(T* c, const T* bias, T* pre, std::size_t columns) {
  using E = Element<T>;
  const typename E::D d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= columns; i += lanes) {
    const auto x = hn::Add(E::load(d, c + i), E::load(d, bias + i));
    if (kGelu && pre != nullptr) E::store(d, x, pre + i);
    E::store(d, kGelu ? gelu_tanh(d, x) : x, c + i);
  }
  if (i == columns) return;
  const std::size_t left = columns - i;
  const auto x = hn::Add(E::load_some(d, c + i, left), E::load_some(d, bias + i, left));
  if (kGelu && pre != nullptr) E::store_some(d, x, pre + i, left);
  E::store_some(d, kGelu ? gelu_tanh(d, x) : x, c + i, left);
}

template <bool kGelu, class T>
void epilogue_tile(const EpilogueTile& tile) {
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    T* const pre = tile.pre_activation != nullptr
                       ? static_cast<T*>(tile.pre_activation) + r * tile.ld_pre
                       : nullptr;
    epilogue_row<kGelu>(static_cast<T*>(tile.c) + r * tile.ldc, static_cast<const T*>(tile.bias),
                        pre, static_cast<std::size_t>(tile.columns));
  }
}

void bias_tile(const EpilogueTile& tile) {
  if (tile.dtype == DType::f64) return epilogue_tile<false, double>(tile);
  epilogue_tile<false, float>(tile);
}

void bias_gelu_tile(const EpilogueTile& tile) {
  if (tile.dtype == DType::f64) return epilogue_tile<true, double>(tile);
  epilogue_tile<true, float>(tile);
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(bias_tile);
HWY_EXPORT(bias_gelu_tile);

void add_bias(const EpilogueTile& tile) { HWY_DYNAMIC_DISPATCH(bias_tile)(tile); }
void add_bias_gelu(const EpilogueTile& tile) { HWY_DYNAMIC_DISPATCH(bias_gelu_tile)(tile); }

}  // namespace weft::kernels
#endif

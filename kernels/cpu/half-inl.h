// Loads and stores that hide the element type: f16 and bf16 appear as vectors of f32. Bit for bit
// what kernels/base/half.h does. Included once for every target (no usual include guard).
//
// The f16 conversions without F16C follow the published integer methods of F. Giesen, "float->half
// variants", 2012: a subnormal result is rounded by adding a power of two in floating point.
#if defined(WEFT_KERNELS_CPU_HALF_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef WEFT_KERNELS_CPU_HALF_INL_H
#undef WEFT_KERNELS_CPU_HALF_INL_H
#else
#define WEFT_KERNELS_CPU_HALF_INL_H
#endif

#include <hwy/highway.h>

#include <cstring>
#include <type_traits>

#include "kernels/base/half.h"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#undef WEFT_HAS_F16C
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2 && !defined(HWY_DISABLE_F16C)
#define WEFT_HAS_F16C 1
#else
#define WEFT_HAS_F16C 0
#endif

template <class DF>
using Bits16 = hn::Rebind<std::uint16_t, DF>;

template <class DF>
HWY_INLINE hn::Vec<DF> widen_f16(DF df, hn::Vec<Bits16<DF>> half) {
#if WEFT_HAS_F16C
  return hn::PromoteTo(df, hn::BitCast(hn::Rebind<hwy::float16_t, DF>(), half));
#else
  const hn::RebindToUnsigned<DF> du;
  const auto wide = hn::PromoteTo(du, half);
  const auto sign = hn::ShiftLeft<16>(hn::And(wide, hn::Set(du, 0x8000u)));
  const auto magnitude = hn::ShiftLeft<13>(hn::And(wide, hn::Set(du, 0x7fffu)));
  const auto exponent = hn::And(magnitude, hn::Set(du, 0x7c00u << 13));
  const auto rebased = hn::Add(magnitude, hn::Set(du, 112u << 23));
  const auto is_special = hn::Eq(exponent, hn::Set(du, 0x7c00u << 13));
  const auto is_nan = hn::Gt(magnitude, hn::Set(du, 0x7c00u << 13));
  auto special = hn::Add(rebased, hn::Set(du, 112u << 23));
  special = hn::Or(special, hn::IfThenElseZero(is_nan, hn::Set(du, 0x400000u)));
  const auto one_up = hn::BitCast(df, hn::Add(rebased, hn::Set(du, 1u << 23)));
  const auto subnormal = hn::BitCast(du, hn::Sub(one_up, hn::BitCast(df, hn::Set(du, 113u << 23))));
  auto result = hn::IfThenElse(is_special, special, rebased);
  result = hn::IfThenElse(hn::Eq(exponent, hn::Zero(du)), subnormal, result);
  return hn::BitCast(df, hn::Or(result, sign));
#endif
}

template <class DF>
HWY_INLINE hn::Vec<Bits16<DF>> narrow_f16(DF df, hn::Vec<DF> value) {
#if WEFT_HAS_F16C
  static_cast<void>(df);
  return hn::BitCast(Bits16<DF>(), hn::DemoteTo(hn::Rebind<hwy::float16_t, DF>(), value));
#else
  const hn::RebindToUnsigned<DF> du;
  const auto bits = hn::BitCast(du, value);
  const auto sign = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 0x8000u));
  const auto magnitude = hn::And(bits, hn::Set(du, 0x7fffffffu));
  const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(du, 1u));
  // 0xfff to round, and 112 << 23 taken from the exponent.
  const auto rounded = hn::Add(hn::Sub(magnitude, hn::Set(du, (112u << 23) - 0xfffu)), odd);
  const auto normal = hn::ShiftRight<13>(rounded);
  const auto magic = hn::Set(du, 126u << 23);  // 0.5: its last bit is a half's smallest subnormal
  const auto sum = hn::Add(hn::BitCast(df, magnitude), hn::BitCast(df, magic));
  const auto subnormal = hn::Sub(hn::BitCast(du, sum), magic);
  const auto payload = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(du, 0x3ffu));
  const auto nan = hn::Or(hn::Set(du, 0x7e00u), payload);
  auto result = hn::IfThenElse(hn::Lt(magnitude, hn::Set(du, 113u << 23)), subnormal, normal);
  result =
      hn::IfThenElse(hn::Lt(magnitude, hn::Set(du, 0x477ff000u)), result, hn::Set(du, 0x7c00u));
  result = hn::IfThenElse(hn::Gt(magnitude, hn::Set(du, 0x7f800000u)), nan, result);
  return hn::TruncateTo(Bits16<DF>(), hn::Or(result, sign));
#endif
}

template <class DF>
HWY_INLINE hn::Vec<DF> widen_bf16(DF df, hn::Vec<Bits16<DF>> half) {
  const hn::RebindToUnsigned<DF> du;
  return hn::BitCast(df, hn::ShiftLeft<16>(hn::PromoteTo(du, half)));
}

template <class DF>
HWY_INLINE hn::Vec<Bits16<DF>> narrow_bf16(DF df, hn::Vec<DF> value) {
  static_cast<void>(df);
  const hn::RebindToUnsigned<DF> du;
  const auto bits = hn::BitCast(du, value);
  const auto high = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(high, hn::Set(du, 1u));
  const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(du, 0x7fffu)), odd));
  const auto nan = hn::Or(high, hn::Set(du, 0x40u));
  const auto magnitude = hn::And(bits, hn::Set(du, 0x7fffffffu));
  const auto result = hn::IfThenElse(hn::Gt(magnitude, hn::Set(du, 0x7f800000u)), nan, rounded);
  return hn::TruncateTo(Bits16<DF>(), result);
}

// Element<T>: the vector type that T is computed in, and how it gets there and back. Pointers need
// no alignment; `count` < Lanes(d) elements go through a buffer and leave the other lanes 0.
template <class T>
struct Element {
  using Compute = std::conditional_t<sizeof(T) == 2, float, T>;
  using D = hn::ScalableTag<Compute>;
  using V = hn::Vec<D>;

  static HWY_INLINE V load(D d, const T* from) {
    if constexpr (std::is_same_v<T, Half>) {
      return widen_f16(d, hn::LoadU(Bits16<D>(), reinterpret_cast<const std::uint16_t*>(from)));
    } else if constexpr (std::is_same_v<T, BFloat16>) {
      return widen_bf16(d, hn::LoadU(Bits16<D>(), reinterpret_cast<const std::uint16_t*>(from)));
    } else {
      return hn::LoadU(d, from);
    }
  }
  static HWY_INLINE void store(D d, V value, T* to) {
    if constexpr (std::is_same_v<T, Half>) {
      hn::StoreU(narrow_f16(d, value), Bits16<D>(), reinterpret_cast<std::uint16_t*>(to));
    } else if constexpr (std::is_same_v<T, BFloat16>) {
      hn::StoreU(narrow_bf16(d, value), Bits16<D>(), reinterpret_cast<std::uint16_t*>(to));
    } else {
      hn::StoreU(value, d, to);
    }
  }
  static HWY_INLINE V load_some(D d, const T* from, std::size_t count) {
    HWY_ALIGN T buffer[hn::MaxLanes(D())];
    std::memset(static_cast<void*>(buffer), 0, sizeof buffer);
    std::memcpy(static_cast<void*>(buffer), static_cast<const void*>(from), count * sizeof(T));
    return load(d, buffer);
  }
  static HWY_INLINE void store_some(D d, V value, T* to, std::size_t count) {
    HWY_ALIGN T buffer[hn::MaxLanes(D())];
    store(d, value, buffer);
    std::memcpy(static_cast<void*>(to), static_cast<const void*>(buffer), count * sizeof(T));
  }
};

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif

#include "kernels/cast.h"

#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/cast.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "kernels/cpu/half-inl.h"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

// Between f32, f16 and bf16: through a vector of f32.
template <bool kScaled, class To, class From>
HWY_INLINE void cast_short(To* to, const From* from, std::size_t count, float scale) {
  const typename Element<float>::D d;
  const auto factor = hn::Set(d, scale);
  const std::size_t lanes = hn::Lanes(d);
  const auto convert_vector = [&](auto value) HWY_ATTR {
    if constexpr (kScaled) value = hn::Mul(value, factor);
    return value;
  };
  std::size_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    const auto v0 = convert_vector(Element<From>::load(d, from + i));
    const auto v1 = convert_vector(Element<From>::load(d, from + i + lanes));
    Element<To>::store(d, v0, to + i);
    Element<To>::store(d, v1, to + i + lanes);
  }
  for (; i < count; i += lanes) {
    const std::size_t left = count - i < lanes ? count - i : lanes;
    const auto value = convert_vector(Element<From>::load_some(d, from + i, left));
    Element<To>::store_some(d, value, to + i, left);
  }
}

// Everything else. Between f32 and f64 compilers vectorise this as well as we would.
template <class To, class From>
void cast_one_by_one(To* to, const From* from, std::size_t count, double scale) {
  const auto each = [&](auto conversion) {
    for (std::size_t i = 0; i < count; ++i) {
      From value;
      std::memcpy(&value, from + i, sizeof value);
      const To result = conversion(value);
      std::memcpy(to + i, &result, sizeof result);
    }
  };
  if (scale == 1.0) {
    each([](From value) { return convert<To>(value); });
  } else {
    each([scale](From value) { return convert_scaled<To>(value, scale); });
  }
}

template <class T>
inline constexpr bool is_short = std::is_same_v<T, float> || is_half_type<T>;

template <class To, class From>
void cast_as(To* to, const From* from, std::size_t count, double scale) {
  if constexpr (is_short<To> && is_short<From>) {
    if (scale == 1.0) {
      cast_short<false>(to, from, count, 1.0f);
    } else {
      cast_short<true>(to, from, count, static_cast<float>(scale));
    }
  } else {
    cast_one_by_one(to, from, count, scale);
  }
}

void cast_any(void* to, DType to_type, const void* from, DType from_type, std::size_t count,
              double scale) {
  dispatch(to_type, [&]<class To>() {
    dispatch(from_type, [&]<class From>() {
      cast_as(static_cast<To*>(to), static_cast<const From*>(from), count, scale);
    });
  });
}

void cast_any_rows(const CastTo& to, const CastFrom& from, std::size_t rows, std::size_t count) {
  dispatch(to.dtype, [&]<class To>() {
    dispatch(from.dtype, [&]<class From>() {
      auto* target = static_cast<To*>(to.data);
      const auto* source = static_cast<const From*>(from.data);
      for (std::size_t r = 0; r < rows; ++r, target += to.stride, source += from.stride) {
        cast_as(target, source, count, 1.0);
      }
    });
  });
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(cast_any);
HWY_EXPORT(cast_any_rows);

void cast(void* to, DType to_type, const void* from, DType from_type, Elems count, double scale) {
  if (count.value <= 0) return;
  if (to_type == from_type && scale == 1.0) {
    if (to != from) std::memcpy(to, from, bytes_of(count, to_type).size());
    return;
  }
  HWY_DYNAMIC_DISPATCH(cast_any)(to, to_type, from, from_type, count.size(), scale);
}

void cast_rows(const CastTo& to, const CastFrom& from, std::int64_t rows, Elems count) {
  if (rows <= 0 || count.value <= 0) return;
  if (to.stride == count.value && from.stride == count.value) {
    return cast(to.data, to.dtype, from.data, from.dtype, Elems(rows * count.value));
  }
  HWY_DYNAMIC_DISPATCH(cast_any_rows)(to, from, static_cast<std::size_t>(rows), count.size());
}

}  // namespace weft::kernels
#endif

// kernels/functors/convert.h on the device, a pack at a time: the same numbers, with halves going
// through the hardware's conversions (NaN stays NaN, but its payload may change).
#pragma once

#include <bit>

#include "hardware.cuh"
#include "kernels/functors/convert.h"

namespace weft::kernels::cuda {

template <class T>
inline constexpr bool is_short_floating = is_half_type<T> || std::is_same_v<T, float>;

// What a value is last before it is stored as To: halves are rounded two at a time.
template <class To>
using BeforeStored = std::conditional_t<is_half_type<To>, float, To>;

// A value of any type on its way to To; narrowed() ends it.
template <class To, class From>
WEFT_DEVICE BeforeStored<To> converted(From value) {
  if constexpr (is_short_floating<From> && is_half_type<To>) {
    return to_float(value);
  } else if constexpr (is_half_type<From>) {
    return convert<To>(to_float(value));
  } else if constexpr (is_half_type<To> && std::is_integral_v<From>) {
    return to_float_odd(to_double_odd(static_cast<std::int64_t>(value)));
  } else if constexpr (is_half_type<To>) {
    return to_float_odd(value);
  } else {
    return convert<To>(value);
  }
}

// The same of value * scale, as kernels::convert_scaled has it.
template <class To, class From>
WEFT_DEVICE BeforeStored<To> converted_scaled(From value, double scale) {
  if constexpr (is_short_floating<To> && is_short_floating<From>) {
    return to_float(value) * static_cast<float>(scale);
  } else {
    return converted<To>(converted<double>(value) * scale);
  }
}

template <class To, int N>
WEFT_DEVICE Pack<To, N> narrowed(const Pack<BeforeStored<To>, N>& values) {
  if constexpr (!is_half_type<To>) {
    return values;
  } else if constexpr (N == 1) {
    return {to<To>(values[0])};
  } else {
    Pack<std::uint32_t, N / 2> twos;
#pragma unroll
    for (int i = 0; i < N / 2; ++i) twos[i] = pack_two<To>(values[2 * i], values[2 * i + 1]);
    return std::bit_cast<Pack<To, N>>(twos);
  }
}

// ---- memory: `from` and `to` are aligned to the pack

template <int N, class T>
WEFT_DEVICE Pack<T, N> load_pack(const T* from) {
  return load_whole<Pack<T, N>>(from);
}
template <class T, int N>
WEFT_DEVICE void store_pack(T* to, const Pack<T, N>& value) {
  store_whole(to, value);
}

// N elements of T in the fewest registers, for packs that wait for their turn.
template <class T, int N>
using Words =
    std::conditional_t<sizeof(T) * N % 4 == 0,
                       Pack<std::uint32_t, static_cast<int>(sizeof(T)) * N / 4>, Pack<T, N>>;

template <int N, class T>
WEFT_DEVICE Words<T, N> load_words(const T* from) {
  return load_whole<Words<T, N>>(from);
}
template <class T, int N>
WEFT_DEVICE Pack<T, N> elements_of(const Words<T, N>& words) {
  return std::bit_cast<Pack<T, N>>(words);
}

}  // namespace weft::kernels::cuda

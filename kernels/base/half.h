// The two 16-bit floating point types, with conversions that round to nearest, ties to even.
//
// They are storage types: arithmetic is done in float and rounded once when stored. The conversions
// are plain integer code, so that host and device (WEFT_HD) agree bit for bit; the vector forms are
// in kernels/cast.h.
#pragma once

#include <bit>
#include <cstdint>

#if defined(__CUDACC__)
#define WEFT_HD __host__ __device__
#else
#define WEFT_HD
#endif

namespace weft {

// IEEE 754 binary32 -> binary16. NaN stays NaN (quiet, payload's top bits kept), overflow gives
// infinity.
WEFT_HD constexpr std::uint16_t float_to_half_bits(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {  // NaN
    return static_cast<std::uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  }
  if (magnitude >= 0x477ff000u) {  // rounds to 65536 or more, or is infinite
    return static_cast<std::uint16_t>(sign | 0x7c00u);
  }
  if (magnitude < 0x33000001u) return static_cast<std::uint16_t>(sign);  // rounds to zero
  const std::uint32_t exponent = magnitude >> 23;
  if (exponent <
      113) {  // subnormal half: shift the full mantissa, keep what falls out for rounding
    const std::uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    const std::uint32_t shift = 126 - exponent;
    const std::uint32_t kept = mantissa >> shift;
    const std::uint32_t rest = mantissa & ((1u << shift) - 1);
    const std::uint32_t tie = 1u << (shift - 1);
    const std::uint32_t up = (rest > tie || (rest == tie && (kept & 1u))) ? 1u : 0u;
    return static_cast<std::uint16_t>(sign | (kept + up));
  }
  const std::uint32_t rebased = magnitude - (112u << 23);
  const std::uint32_t rounded = rebased + 0xfffu + ((rebased >> 13) & 1u);
  return static_cast<std::uint16_t>(sign | (rounded >> 13));
}

WEFT_HD constexpr float half_bits_to_float(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1fu;
  std::uint32_t mantissa = half & 0x3ffu;
  if (exponent == 31) {  // a signalling NaN becomes quiet, as the processors' instructions have it
    const std::uint32_t quiet = mantissa != 0 ? 0x400000u : 0u;
    return std::bit_cast<float>(sign | 0x7f800000u | quiet | (mantissa << 13));
  }
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  if (mantissa == 0) return std::bit_cast<float>(sign);
  std::uint32_t shifted_exponent = 113;  // subnormal: normalise
  while ((mantissa & 0x400u) == 0) {
    mantissa <<= 1;
    --shifted_exponent;
  }
  return std::bit_cast<float>(sign | (shifted_exponent << 23) | ((mantissa & 0x3ffu) << 13));
}

WEFT_HD constexpr std::uint16_t float_to_bfloat16_bits(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

WEFT_HD constexpr float bfloat16_bits_to_float(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

struct Half {
  std::uint16_t bits = 0;
  Half() = default;
  WEFT_HD constexpr explicit Half(float value) : bits(float_to_half_bits(value)) {}
  WEFT_HD constexpr explicit operator float() const { return half_bits_to_float(bits); }
};

struct BFloat16 {
  std::uint16_t bits = 0;
  BFloat16() = default;
  WEFT_HD constexpr explicit BFloat16(float value) : bits(float_to_bfloat16_bits(value)) {}
  WEFT_HD constexpr explicit operator float() const { return bfloat16_bits_to_float(bits); }
};

static_assert(sizeof(Half) == 2 && sizeof(BFloat16) == 2);

}  // namespace weft

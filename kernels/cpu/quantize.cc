#include "kernels/quantize.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/quantize.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, kQuantizeBlock>;
using I32 = hn::RebindToSigned<F32>;
using I8 = hn::Rebind<std::int8_t, F32>;

constexpr std::size_t kBlock = kQuantizeBlock;
constexpr float kLevels = 127.0f;
constexpr float kSmallest = 0x1p-100f;  // of a block's largest: the quotients stay finite

// The bits of a float without its sign are in the order of magnitudes, NaN and infinity above all.
HWY_INLINE float largest_magnitude(const float* values) {
  const F32 d;
  const I32 di;
  auto most = hn::Zero(di);
  for (std::size_t i = 0; i < kBlock; i += hn::Lanes(d)) {
    most = hn::Max(most, hn::BitCast(di, hn::Abs(hn::Load(d, values + i))));
  }
  const std::int32_t bits = hn::GetLane(hn::MaxOfLanes(di, most));
  float magnitude = 0;
  std::memcpy(&magnitude, &bits, sizeof magnitude);
  return magnitude;
}

// One block, already in `values` (aligned, zeros behind a short one's end). Leaves the residual
// there.
HWY_INLINE float quantize_block(std::int8_t* levels, float* values) {
  const F32 d;
  const I8 d8;
  const float largest = largest_magnitude(values);
  const bool finite = largest <= std::numeric_limits<float>::max();
  if (!finite || largest < kSmallest) {
    std::memset(levels, 0, kBlock);
    if (finite) return 0.0f;
    std::memset(values, 0, kBlock * sizeof(float));
    return std::numeric_limits<float>::quiet_NaN();
  }
  const float scale = largest / kLevels;
  const auto inverse = hn::Set(d, kLevels / largest);
  const auto factor = hn::Set(d, scale);
  for (std::size_t i = 0; i < kBlock; i += hn::Lanes(d)) {
    const auto value = hn::Load(d, values + i);
    const auto level = hn::NearestInt(hn::Mul(value, inverse));
    hn::StoreU(hn::DemoteTo(d8, level), d8, levels + i);
    // What arrives is the rounded product (this file is compiled without fused contractions), and
    // the two are so close that their difference is exact.
    const auto arrives = hn::Mul(hn::ConvertTo(d, level), factor);
    hn::Store(hn::Sub(value, arrives), d, values + i);
  }
  return scale;
}

HWY_INLINE void add_block(float* values, const float* more) {
  const F32 d;
  for (std::size_t i = 0; i < kBlock; i += hn::Lanes(d)) {
    hn::Store(hn::Add(hn::Load(d, values + i), hn::Load(d, more + i)), d, values + i);
  }
}

HWY_INLINE void dequantize_block(float* values, const std::int8_t* levels, float scale) {
  const F32 d;
  const I32 di;
  const I8 d8;
  const auto factor = hn::Set(d, scale);
  for (std::size_t i = 0; i < kBlock; i += hn::Lanes(d)) {
    const auto level = hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(d8, levels + i)));
    hn::Store(hn::Mul(level, factor), d, values + i);
  }
}

// Blocks go through aligned memory in the first-level cache: that serves short blocks and odd
// addresses.
void quantize(std::byte* packed, const std::byte* from, std::byte* residual, std::size_t count) {
  HWY_ALIGN float values[kBlock];
  HWY_ALIGN float more[kBlock];
  HWY_ALIGN std::int8_t levels[kBlock];
  const std::size_t blocks = (count + kBlock - 1) / kBlock;
  std::byte* const packed_levels = packed + blocks * sizeof(float);
  for (std::size_t b = 0; b < blocks; ++b) {
    const std::size_t begin = b * kBlock;
    const std::size_t length = std::min(kBlock, count - begin);
    if (length < kBlock) {
      std::memset(values, 0, sizeof values);
      std::memset(more, 0, sizeof more);
    }
    std::memcpy(values, from + begin * sizeof(float), length * sizeof(float));
    if (residual != nullptr) {
      std::memcpy(more, residual + begin * sizeof(float), length * sizeof(float));
      add_block(values, more);
    }
    const float scale = quantize_block(levels, values);
    std::memcpy(packed + b * sizeof scale, &scale, sizeof scale);
    std::memcpy(packed_levels + begin, levels, length);
    if (residual != nullptr) {
      std::memcpy(residual + begin * sizeof(float), values, length * sizeof(float));
    }
  }
}

void dequantize(std::byte* to, const std::byte* packed, std::size_t count, bool adds) {
  HWY_ALIGN float values[kBlock];
  HWY_ALIGN float before[kBlock];
  HWY_ALIGN std::int8_t levels[kBlock];
  std::memset(levels, 0, sizeof levels);
  std::memset(before, 0, sizeof before);
  const std::size_t blocks = (count + kBlock - 1) / kBlock;
  const std::byte* const packed_levels = packed + blocks * sizeof(float);
  for (std::size_t b = 0; b < blocks; ++b) {
    const std::size_t begin = b * kBlock;
    const std::size_t length = std::min(kBlock, count - begin);
    float scale = 0;
    std::memcpy(&scale, packed + b * sizeof scale, sizeof scale);
    std::memcpy(levels, packed_levels + begin, length);
    dequantize_block(values, levels, scale);
    if (adds) {
      std::memcpy(before, to + begin * sizeof(float), length * sizeof(float));
      add_block(values, before);
    }
    std::memcpy(to + begin * sizeof(float), values, length * sizeof(float));
  }
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(quantize);
HWY_EXPORT(dequantize);

void quantize_int8(void* packed, const void* from, void* residual, Elems count) {
  if (count.value <= 0) return;
  HWY_DYNAMIC_DISPATCH(quantize)
  (static_cast<std::byte*>(packed), static_cast<const std::byte*>(from),
   static_cast<std::byte*>(residual), count.size());
}

void dequantize_int8(void* to, const void* packed, Elems count, bool adds) {
  if (count.value <= 0) return;
  HWY_DYNAMIC_DISPATCH(dequantize)
  (static_cast<std::byte*>(to), static_cast<const std::byte*>(packed), count.size(), adds);
}

}  // namespace weft::kernels
#endif

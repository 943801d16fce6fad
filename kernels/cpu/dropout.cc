#include "kernels/dropout.h"

#include "kernels/cpu/operator_targets.h"
#include "kernels/cpu/staging.h"
#include "kernels/philox.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/dropout.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "kernels/cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Words = hn::ScalableTag<std::uint32_t>;

#if HWY_TARGET == HWY_SCALAR  // has no lanes to multiply across
void philox_blocks(const Philox& philox, std::uint64_t first, std::size_t count,
                   std::uint32_t* out) {
  for (std::size_t i = 0; i < count; ++i) {
    const Philox::Block block = philox.block(first + i);
    for (const std::uint32_t word : block.word) *out++ = word;
  }
}
#else
using WordVec = hn::Vec<Words>;

// High and low halves of the products of all lanes with one multiplier.
HWY_INLINE void multiply(Words d, WordVec a, std::uint32_t multiplier, WordVec& high,
                         WordVec& low) {
  const hn::Repartition<std::uint64_t, Words> d64;
  const auto m = hn::Set(d, multiplier);
  const auto even = hn::MulEven(a, m);
  const auto odd = hn::MulEven(hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(d64, a))), m);
  high = hn::OddEven(hn::BitCast(d, odd), hn::BitCast(d, hn::ShiftRight<32>(even)));
  low = hn::OddEven(hn::BitCast(d, hn::ShiftLeft<32>(odd)), hn::BitCast(d, even));
}

// kernels/philox.h, a block a lane: blocks [first, first + count), count a multiple of the lanes.
void philox_blocks(const Philox& philox, std::uint64_t first, std::size_t count,
                   std::uint32_t* out) {
  const Words d;
  const std::size_t width = hn::Lanes(d);
  HWY_ALIGN std::uint32_t low_words[hn::MaxLanes(Words())];
  HWY_ALIGN std::uint32_t high_words[hn::MaxLanes(Words())];
  for (std::size_t i = 0; i < count; i += width) {
    for (std::size_t k = 0; k < width; ++k) {
      low_words[k] = static_cast<std::uint32_t>(first + i + k);
      high_words[k] = static_cast<std::uint32_t>((first + i + k) >> 32);
    }
    auto c0 = hn::Load(d, low_words), c1 = hn::Load(d, high_words);
    auto c2 = hn::Set(d, static_cast<std::uint32_t>(philox.stream));
    auto c3 = hn::Set(d, static_cast<std::uint32_t>(philox.stream >> 32));
    auto key0 = static_cast<std::uint32_t>(philox.seed);
    auto key1 = static_cast<std::uint32_t>(philox.seed >> 32);
    for (int round = 0; round < Philox::kRounds; ++round) {
      WordVec high0, low0, high1, low1;
      multiply(d, c0, Philox::kMultiplier0, high0, low0);
      multiply(d, c2, Philox::kMultiplier1, high1, low1);
      c0 = hn::Xor(hn::Xor(high1, c1), hn::Set(d, key0));
      c2 = hn::Xor(hn::Xor(high0, c3), hn::Set(d, key1));
      c1 = low1;
      c3 = low0;
      key0 += Philox::kWeyl0;
      key1 += Philox::kWeyl1;
    }
    hn::StoreInterleaved4(c0, c1, c2, c3, d, out + Philox::kWords * i);
  }
}

#endif

std::size_t philox_lanes() { return hn::Lanes(Words()); }

// keep(word) ? x * factor : 0
void keep_f32(const std::uint32_t* words, std::size_t n, std::uint32_t threshold, float factor,
              const float* x, float* y) {
  const hn::ScalableTag<float> d;
  const Words dw;
  const auto limit = hn::Set(dw, threshold);
  const auto scale = hn::Set(d, factor);
  simd::for_lanes(d, n, [&](auto lanes, std::size_t i) HWY_ATTR {
    const auto w = hn::BitCast(dw, lanes.load(reinterpret_cast<const float*>(words + i)));
    const auto drop = hn::RebindMask(d, hn::Gt(limit, w));
    lanes.store(hn::IfThenZeroElse(drop, hn::Mul(lanes.load(x + i), scale)), y + i);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace weft::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {
namespace {

HWY_EXPORT(philox_blocks);
HWY_EXPORT(philox_lanes);
HWY_EXPORT(keep_f32);

void keep(const std::uint32_t* words, std::int64_t n, std::uint32_t threshold, double factor,
          const float* x, float* y) {
  HWY_DYNAMIC_DISPATCH(keep_f32)
  (words, static_cast<std::size_t>(n), threshold, static_cast<float>(factor), x, y);
}
void keep(const std::uint32_t* words, std::int64_t n, std::uint32_t threshold, double factor,
          const double* x, double* y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = words[i] >= threshold ? x[i] * factor : 0.0;
}

}  // namespace

void philox_words(std::uint64_t seed, std::uint64_t stream, std::uint64_t first, Elems count,
                  std::uint32_t* out) {
  const Philox philox{seed, stream};
  std::uint64_t at = first;
  const std::uint64_t end = first + static_cast<std::uint64_t>(count.value);
  const auto one_block = [&] {
    const Philox::Block block = philox.block(at / Philox::kWords);
    do {
      *out++ = block.word[at % Philox::kWords];
      ++at;
    } while (at < end && at % Philox::kWords != 0);
  };
  if (at < end && at % Philox::kWords != 0) one_block();
  const std::uint64_t lanes = HWY_DYNAMIC_DISPATCH(philox_lanes)();
  const std::uint64_t blocks = (end - at) / (Philox::kWords * lanes) * lanes;
  if (blocks > 0) {
    HWY_DYNAMIC_DISPATCH(philox_blocks)(philox, at / Philox::kWords, blocks, out);
    out += blocks * Philox::kWords;
    at += blocks * Philox::kWords;
  }
  while (at < end) one_block();
}

void dropout(const DropoutMask& mask, DType dtype, Elems count, const void* x, void* y) {
  constexpr std::int64_t kChunk = 1024;
  const std::uint64_t threshold = dropout_threshold(mask.probability);
  if (threshold > 0xffffffffu) {  // nothing is kept
    parallel_for(count.value, kGrainElems, [&](std::int64_t begin, std::int64_t end) {
      const std::size_t size = size_of(dtype).size();
      auto* bytes = static_cast<std::byte*>(y);
      std::fill(bytes + static_cast<std::size_t>(begin) * size,
                bytes + static_cast<std::size_t>(end) * size, std::byte{0});
    });
    return;
  }
  const double factor = 1.0 / (1.0 - mask.probability);
  dispatch_floating(dtype, "dropout", [&]<class T>() {
    parallel_for(count.value, kGrainElems / 2, [&](std::int64_t begin, std::int64_t end) {
      std::uint32_t words[kChunk];
      Reader<T> reader;
      Writer<T> writer;
      for (std::int64_t at = begin; at < end; at += kChunk) {
        const std::int64_t n = std::min(kChunk, end - at);
        philox_words(mask.seed, mask.stream, mask.offset + static_cast<std::uint64_t>(at), Elems(n),
                     words);
        T* to = static_cast<T*>(y) + at;
        keep(words, n, static_cast<std::uint32_t>(threshold), factor,
             reader.read(static_cast<const T*>(x) + at, n), writer.begin(to, n));
        writer.end(to, n);
      }
    });
  });
}

}  // namespace weft::kernels
#endif

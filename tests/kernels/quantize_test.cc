#include "kernels/quantize.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/kernels/values.h"
#include "tests/support/noise.h"

namespace weft::kernels {
namespace {

constexpr std::int64_t kCounts[] = {0, 1, 3, 255, 256, 257, 1000, 4096, 5003};

// `shift` puts the memory at an odd address.
struct Floats {
  Floats(std::int64_t count, int shift)
      : bytes(static_cast<std::size_t>(count) * sizeof(float) + 4), at(shift) {}
  Floats(const std::vector<float>& values, int shift)
      : Floats(static_cast<std::int64_t>(values.size()), shift) {
    if (!values.empty()) std::memcpy(data(), values.data(), values.size() * sizeof(float));
  }
  void* data() { return bytes.data() + at; }
  std::vector<float> values() const {
    std::vector<float> all(bytes.size() / sizeof(float) - 1);
    if (!all.empty()) std::memcpy(all.data(), bytes.data() + at, all.size() * sizeof(float));
    return all;
  }
  std::vector<std::byte> bytes;
  int at;
};

std::vector<float> noisy(std::int64_t count, int exponent = 0) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(
        std::ldexp(tests::noise(5, i), static_cast<int>(i / 256 % 40) - 20 + exponent));
  }
  return values;
}

// The definition, one value at a time.
struct Packed {
  std::vector<std::byte> bytes;
  std::vector<float> residual;
};
Packed by_definition(const std::vector<float>& from, const std::vector<float>& residual) {
  const auto count = static_cast<std::int64_t>(from.size());
  Packed packed{std::vector<std::byte>(quantized_bytes(Elems(count)).size()), residual};
  const std::int64_t blocks = (count + kQuantizeBlock - 1) / kQuantizeBlock;
  for (std::int64_t b = 0; b < blocks; ++b) {
    const auto begin = static_cast<std::size_t>(b * kQuantizeBlock);
    const auto end = std::min(from.size(), begin + kQuantizeBlock);
    float largest = 0;
    for (std::size_t i = begin; i < end; ++i) {
      const float magnitude = std::fabs(from[i] + residual[i]);
      if (!(magnitude <= largest)) largest = magnitude;
      if (std::isnan(largest)) break;
    }
    const bool finite = std::isfinite(largest);
    const bool zero = largest < 0x1p-100f;
    const float scale =
        !finite ? std::numeric_limits<float>::quiet_NaN() : (zero ? 0.0f : largest / 127.0f);
    std::memcpy(packed.bytes.data() + static_cast<std::size_t>(b) * sizeof scale, &scale,
                sizeof scale);
    for (std::size_t i = begin; i < end; ++i) {
      const float value = from[i] + residual[i];
      const auto level = static_cast<std::int8_t>(
          finite && !zero ? std::nearbyint(value * (127.0f / largest)) : 0.0f);
      packed.bytes[static_cast<std::size_t>(blocks) * sizeof scale + i] =
          static_cast<std::byte>(level);
      const float arrives = static_cast<float>(level) * scale;
      packed.residual[i] = finite ? value - arrives : 0.0f;
    }
  }
  return packed;
}

TEST(Quantize, GivesTheBytesOfTheDefinitionOnEveryInstructionSet) {
  for_each_target([] {
    for (const std::int64_t count : kCounts) {
      for (const int shift : {0, 1, 2}) {
        auto values = noisy(count);
        if (count > 256) values[256] = std::numeric_limits<float>::infinity();
        if (count > 2000) values[1500] = std::numeric_limits<float>::quiet_NaN();
        if (count > 3000) std::fill(values.begin() + 2560, values.begin() + 2816, 0x1p-120f);
        auto start = noisy(count, -7);
        std::rotate(start.begin(), start.begin() + (count > 0 ? 1 : 0), start.end());
        const auto wanted = by_definition(values, start);
        Floats from(values, shift);
        Floats residual(start, shift);
        std::vector<std::byte> packed(quantized_bytes(Elems(count)).size() + 3);
        quantize_int8(packed.data() + shift, from.data(), residual.data(), Elems(count));
        EXPECT_EQ(std::memcmp(packed.data() + shift, wanted.bytes.data(), wanted.bytes.size()), 0)
            << count << " values, shift " << shift;
        EXPECT_EQ(residual.values(), wanted.residual) << count << " values, shift " << shift;
        EXPECT_EQ(packed[static_cast<std::size_t>(shift) + wanted.bytes.size()], std::byte{0})
            << "wrote beyond the end";
      }
    }
  });
}

TEST(Quantize, ErrorIsAtMostHalfAScale) {
  for_each_target([] {
    for (const std::int64_t count : kCounts) {
      const auto values = noisy(count, 60);
      Floats from(values, 1);
      Floats back(count, 2);
      std::vector<std::byte> packed(quantized_bytes(Elems(count)).size());
      quantize_int8(packed.data(), from.data(), nullptr, Elems(count));
      dequantize_int8(back.data(), packed.data(), Elems(count));
      const auto got = back.values();
      for (std::size_t i = 0; i < values.size(); ++i) {
        float scale = 0;
        std::memcpy(&scale, packed.data() + i / kQuantizeBlock * sizeof scale, sizeof scale);
        const double error = std::fabs(static_cast<double>(got[i]) - values[i]);
        ASSERT_LE(error, kQuantizeError * scale) << i;
      }
      // Added onto itself it doubles.
      dequantize_int8(back.data(), packed.data(), Elems(count), true);
      for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(back.values()[i], 2 * got[i]);
    }
  });
}

TEST(Quantize, LargestAndSmallestFloats) {
  for (const float magnitude : {3.4028e38f, 1.0f, 0x1p-100f, 0x1p-101f, 0x1p-149f, 0.0f}) {
    const std::vector<float> values{magnitude, -magnitude, magnitude / 3, 0.0f};
    Floats from(values, 0);
    Floats back(4, 0);
    std::vector<std::byte> packed(quantized_bytes(Elems(4)).size());
    quantize_int8(packed.data(), from.data(), nullptr, Elems(4));
    dequantize_int8(back.data(), packed.data(), Elems(4));
    const double bound = std::max(kQuantizeError * magnitude / 127, kQuantizeTiny);
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_LE(std::fabs(static_cast<double>(back.values()[i]) - values[i]), bound) << magnitude;
    }
  }
}

TEST(Quantize, ABlockThatIsNotFiniteComesBackAsNaNAndLeavesNoResidual) {
  auto values = noisy(600);
  values[300] = -std::numeric_limits<float>::infinity();
  Floats from(values, 0);
  Floats residual(std::vector<float>(600, 0.25f), 0);
  Floats back(600, 0);
  std::vector<std::byte> packed(quantized_bytes(Elems(600)).size());
  quantize_int8(packed.data(), from.data(), residual.data(), Elems(600));
  dequantize_int8(back.data(), packed.data(), Elems(600));
  for (std::size_t i = 0; i < 600; ++i) {
    EXPECT_EQ(std::isnan(back.values()[i]), i >= 256 && i < 512) << i;
    EXPECT_TRUE(std::isfinite(residual.values()[i])) << i;
  }
}

TEST(Quantize, WithFeedbackTheSumOfWhatArrivesFollowsTheSumOfWhatWasSent) {
  constexpr std::int64_t kCount = 700;
  constexpr int kSteps = 2000;
  std::vector<double> sent(kCount), arrived(kCount);
  Floats residual(kCount, 0);
  std::vector<std::byte> packed(quantized_bytes(Elems(kCount)).size());
  double worst = 0;
  for (int step = 0; step < kSteps; ++step) {
    std::vector<float> values(kCount);
    for (std::size_t i = 0; i < kCount; ++i) {  // most values far below half a scale
      values[i] = (i % 256 == 7 ? 1.0f : 1e-4f) * tests::noise(step, static_cast<std::int64_t>(i));
      sent[i] += values[i];
    }
    Floats from(values, 0);
    Floats back(kCount, 0);
    quantize_int8(packed.data(), from.data(), residual.data(), Elems(kCount));
    dequantize_int8(back.data(), packed.data(), Elems(kCount));
    for (std::size_t i = 0; i < kCount; ++i) arrived[i] += back.values()[i];
    for (std::size_t i = 0; i < kCount; ++i)
      worst = std::max(worst, std::fabs(arrived[i] - sent[i]));
  }
  // Magnitudes are at most 1, so scales at most 1.004 / 127, whatever the number of steps.
  EXPECT_LE(worst, kQuantizeError * 1.004 / 127);
}

}  // namespace
}  // namespace weft::kernels

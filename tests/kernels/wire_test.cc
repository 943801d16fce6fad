#include "kernels/wire.h"

#include <gtest/gtest.h>

#include "tests/kernels/values.h"
#include "tests/support/noise.h"

namespace weft::kernels {
namespace {

constexpr std::int64_t kCounts[] = {0, 1, 7, 1023, 1024, 1025, 5000};
constexpr DType kWires[] = {DType::f16, DType::bf16};

float rounded(float value, DType wire) {
  return wire == DType::bf16 ? static_cast<float>(BFloat16(value))
                             : static_cast<float>(Half(value));
}

// Floats at an odd address.
class Unaligned {
 public:
  explicit Unaligned(std::int64_t count, std::int64_t stream = 0)
      : count_(count), bytes_(static_cast<std::size_t>(count) * sizeof(float) + 1) {
    for (std::int64_t i = 0; i < count; ++i) set(i, 3 * tests::noise(stream, i));
  }
  void* data() { return bytes_.data() + 1; }
  float get(std::int64_t i) const {
    float value = 0;
    std::memcpy(&value, bytes_.data() + 1 + static_cast<std::size_t>(i) * sizeof value,
                sizeof value);
    return value;
  }
  void set(std::int64_t i, float value) {
    std::memcpy(bytes_.data() + 1 + static_cast<std::size_t>(i) * sizeof value, &value,
                sizeof value);
  }
  std::int64_t count() const { return count_; }

 private:
  std::int64_t count_;
  std::vector<std::byte> bytes_;
};

TEST(WireKernels, EncodeDecodeAndRoundAgreeWithTheScalarConversions) {
  for_each_target([] {
    for (const DType wire : kWires) {
      for (const std::int64_t count : kCounts) {
        Unaligned original(count);
        Unaligned in_place(count);
        Unaligned copied(count, 1);
        std::vector<std::byte> message(static_cast<std::size_t>(count) * 2 + 1);
        std::vector<std::byte> again(message.size());
        wire_encode(message.data() + 1, wire, original.data(), Elems(count));
        wire_decode(copied.data(), message.data() + 1, wire, Elems(count));
        wire_encode_and_round(again.data() + 1, wire, in_place.data(), Elems(count));
        EXPECT_EQ(message, again);
        for (std::int64_t i = 0; i < count; ++i) {
          ASSERT_EQ(copied.get(i), rounded(original.get(i), wire)) << i;
          ASSERT_EQ(in_place.get(i), copied.get(i)) << i;
        }
        wire_round(original.data(), wire, Elems(count));
        wire_encode(again.data() + 1, wire, original.data(), Elems(count));
        EXPECT_EQ(message, again) << "what was decoded is encoded to the same bytes";
        for (std::int64_t i = 0; i < count; ++i) ASSERT_EQ(original.get(i), copied.get(i)) << i;
      }
    }
  });
}

TEST(WireKernels, ReduceFoldsInFloatAndRoundsOnceIfAsked) {
  for_each_target([] {
    for (const DType wire : kWires) {
      for (const std::int64_t count : kCounts) {
        for (const bool rounds : {false, true}) {
          Unaligned theirs(count, 2);
          Unaligned own(count, 3);
          const Unaligned own_before = own;
          std::vector<std::byte> message(static_cast<std::size_t>(count) * 2 + 1);
          wire_encode(message.data() + 1, wire, theirs.data(), Elems(count));
          wire_reduce(own.data(), message.data() + 1, wire, own.data(), Elems(count), ReduceOp::avg,
                      4, rounds);
          for (std::int64_t i = 0; i < count; ++i) {
            const float exact = (rounded(theirs.get(i), wire) + own_before.get(i)) * 0.25f;
            ASSERT_EQ(own.get(i), rounds ? rounded(exact, wire) : exact) << i;
          }
        }
      }
    }
  });
}

TEST(WireKernels, OneRoundingIsWithinItsUnit) {
  for (const DType wire : kWires) {
    for (std::int64_t i = 0; i < 20'000; ++i) {
      const float x = std::ldexp(tests::noise(4, i), static_cast<int>(i % 270) - 149);
      if (wire == DType::f16 && std::fabs(x) >= 65520.0f) continue;
      const double error = std::fabs(static_cast<double>(rounded(x, wire)) - x);
      ASSERT_LE(error, std::max(wire_unit(wire) * std::fabs(x), wire_tiny(wire))) << x;
    }
  }
}

}  // namespace
}  // namespace weft::kernels

// Casts on a device against kernels::cast, bit for bit.
#include "kernels/cuda/cast.h"

#include "kernels/base/error.h"
#include "kernels/cast.h"
#include "tests/gpu/device_buffer.h"

namespace weft::kernels {
namespace {

using CudaCastTest = DeviceTest;

template <class To, class From>
void check_cast(std::size_t count, std::size_t to_skip, std::size_t from_skip, double scale) {
  SCOPED_TRACE(std::string(name_of(dtype_of<From>)) + " to " + std::string(name_of(dtype_of<To>)) +
               ", skipping " + std::to_string(from_skip) + " and " + std::to_string(to_skip));
  const auto from = awkward_buffer<From>(count, 0, count + from_skip);
  Buffer<To> want(count);
  cast(want.data(), dtype_of<To>, from.data(), dtype_of<From>, elems(count), scale);
  DeviceBuffer<From> in(from, from_skip);
  DeviceBuffer<To> out(count, to_skip);
  cuda::cast(out.data(), dtype_of<To>, in.data(), dtype_of<From>, elems(count), scale);
  expect_same(out.host(), want);
}

TEST_F(CudaCastTest, EveryPairOfTypes) {
  for (int t = 0; t < kDTypeCount; ++t) {
    for (int f = 0; f < kDTypeCount; ++f) {
      dispatch(static_cast<DType>(t), [&]<class To>() {
        dispatch(static_cast<DType>(f), [&]<class From>() {
          check_cast<To, From>(9001, 0, 0, 1.0);
          check_cast<To, From>(301, 1, 1, 1.0 / 3.0);
        });
      });
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST_F(CudaCastTest, AnyCountAndAnyAlignment) {
  for (const std::size_t count : {0, 1, 7, 255, 1000, 4095, 4096, 4097, 20001}) {
    for (const std::size_t to_skip : {0, 1, 8}) {
      for (const std::size_t from_skip : {0, 1, 4}) {
        check_cast<Half, float>(count, to_skip, from_skip, 1.0);
        check_cast<float, BFloat16>(count, to_skip, from_skip, 0.125);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(CudaCastTest, EveryHalfAndWhatLiesBetween) {
  Buffer<float> ties(3 * 65536);
  for (std::size_t i = 0; i < 65536; ++i) {
    Half half, next;
    half.bits = static_cast<std::uint16_t>(i);
    next.bits = static_cast<std::uint16_t>(i + 1);
    const float tie = (static_cast<float>(half) + static_cast<float>(next)) / 2;
    ties.set(3 * i, tie);
    ties.set(3 * i + 1, std::nextafter(tie, 1e38f));
    ties.set(3 * i + 2, std::nextafter(tie, -1e38f));
  }
  Buffer<Half> want(ties.size());
  cast(want.data(), DType::f16, ties.data(), DType::f32, elems(ties.size()));
  DeviceBuffer<float> in(ties);
  DeviceBuffer<Half> out(ties.size());
  cuda::cast(out.data(), DType::f16, in.data(), DType::f32, elems(ties.size()));
  expect_same(out.host(), want);
}

TEST_F(CudaCastTest, WorksInPlaceBetweenTypesOfOneSize) {
  const auto before = ordinary_buffer<Half>(5003, 9);
  DeviceBuffer<Half> buffer(before, 3);
  cuda::cast(buffer.data(), DType::bf16, buffer.data(), DType::f16, elems(5003));
  const auto after = buffer.host();
  for (std::size_t i = 0; i < 5003; ++i) {
    ASSERT_EQ(after.get(i).bits, BFloat16(static_cast<float>(before.get(i))).bits) << i;
  }
}

TEST_F(CudaCastTest, RefusesWhatAGpuCannotLoad) {
  DeviceBuffer<float> memory(8);
  auto* const odd = reinterpret_cast<unsigned char*>(memory.data()) + 1;
  EXPECT_THROW(cuda::cast(memory.data(), DType::f32, odd, DType::f16, Elems(1)), InvalidArgument);
  EXPECT_THROW(cuda::cast(nullptr, DType::f32, memory.data(), DType::f16, Elems(1)),
               InvalidArgument);
  cuda::cast(nullptr, DType::f32, nullptr, DType::f16, Elems(0));
}

}  // namespace
}  // namespace weft::kernels

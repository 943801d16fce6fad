// The CUDA backend where there is a device; how politely it declines where there is none.
#include <gtest/gtest.h>

#include <bit>

#include "kernels/base/error.h"
#include "kernels/cuda/cast.h"
#include "kernels/cuda/runtime.h"
#include "tests/kernels/values.h"

namespace weft::kernels {
namespace {

TEST(CudaTest, CountsDevicesOrSaysWhyThereAreNone) {
  const int count = cuda::device_count();
  ASSERT_GE(count, 0);
  EXPECT_EQ(cuda::reason_for_none().empty(), count > 0) << cuda::reason_for_none();
  EXPECT_THROW(cuda::device_info(count), InvalidArgument);
  EXPECT_THROW(cuda::device_info(-1), InvalidArgument);
  for (int i = 0; i < count; ++i) EXPECT_FALSE(cuda::device_info(i).name.empty());
}

TEST(CudaTest, WithoutADeviceMemoryIsRefused) {
  if (cuda::device_count() > 0) GTEST_SKIP() << "there is a device";
  EXPECT_THROW(cuda::allocate(Bytes(16)), Error);
  cuda::release(nullptr);
}

class GpuTest : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda::device_count() == 0) GTEST_SKIP() << "no GPU: " << cuda::reason_for_none();
  }
};

template <class T>
void check_cast(std::int64_t count, std::int64_t to_skip, std::int64_t from_skip) {
  std::mt19937_64 random(static_cast<std::uint64_t>(count));
  std::vector<float> in(static_cast<std::size_t>(count + from_skip));
  for (float& x : in) x = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
  std::vector<T> out(static_cast<std::size_t>(count + to_skip) + 16);
  const Bytes in_bytes(static_cast<std::int64_t>(in.size() * sizeof(float)));
  const Bytes out_bytes(static_cast<std::int64_t>(out.size() * sizeof(T)));
  void* const from = cuda::allocate(in_bytes);
  void* const to = cuda::allocate(out_bytes);
  cuda::copy_to_device(from, in.data(), in_bytes);
  cuda::copy_to_device(to, out.data(), out_bytes);
  cuda::cast_from_f32(static_cast<T*>(to) + to_skip, dtype_of<T>,
                      static_cast<const float*>(from) + from_skip, Elems(count));
  cuda::copy_to_host(out.data(), to, out_bytes);
  cuda::release(from);
  cuda::release(to);
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(out.size()); ++i) {
    const bool inside = i >= to_skip && i < to_skip + count;
    const auto want =
        inside ? T(in[static_cast<std::size_t>(i - to_skip + from_skip)]).bits : std::uint16_t{0};
    ASSERT_EQ(out[static_cast<std::size_t>(i)].bits, want) << i << " of " << count;
  }
}

TEST_F(GpuTest, CastAgreesWithTheHostToTheBit) {
  for (const std::int64_t count : {0, 1, 7, 8, 9, 255, 1000, 1000003}) {
    for (const std::int64_t to_skip : {0, 1, 8}) {
      for (const std::int64_t from_skip : {0, 1, 4}) {
        ASSERT_NO_FATAL_FAILURE(check_cast<Half>(count, to_skip, from_skip));
        ASSERT_NO_FATAL_FAILURE(check_cast<BFloat16>(count, to_skip, from_skip));
      }
    }
  }
}

}  // namespace
}  // namespace weft::kernels

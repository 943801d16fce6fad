// The CUDA backend where there is a device; how politely it declines where there is none.
#include <gtest/gtest.h>

#include "kernels/base/error.h"
#include "kernels/cuda/runtime.h"

namespace weft::kernels {
namespace {

TEST(CudaTest, CountsDevicesOrSaysWhyThereAreNone) {
  const int count = cuda::device_count();
  ASSERT_GE(count, 0);
  EXPECT_EQ(cuda::reason_for_none().empty(), count > 0) << cuda::reason_for_none();
  if (count == 0) return;
  EXPECT_THROW(cuda::device_info(count), InvalidArgument);
  EXPECT_THROW(cuda::device_info(-1), InvalidArgument);
  for (int i = 0; i < count; ++i) EXPECT_FALSE(cuda::device_info(i).name.empty());
}

}  // namespace
}  // namespace weft::kernels
